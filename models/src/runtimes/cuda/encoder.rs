//! A BERT encoder (<https://arxiv.org/abs/1810.04805>) on a GPU, over ragged batches: products by cublasLt, everything between
//! them by kernels of our own, nothing padded.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};

use super::device::{Fault, Format, Gpu, Kernels};
use super::products::{Product, Products};
use crate::batch::TokenBatch;
use crate::weights::{BertConfig, ClassifierWeights, HeadWeights, LinearWeights, NormWeights};

/// Threads of every kernel's blocks, and rows of the batch that the row kernels' blocks compute.
const THREADS: u32 = 128;
const ROWS: usize = 4;
/// Queries of a block of attention, and numbers that describe one.
const TILE_ROWS: usize = 64;
const TILE: usize = 4;

/// A linear layer on the device.
pub(super) struct DeviceLinear {
    /// `[outputs, inputs]` in 16 bits.
    weight: CudaSlice<u16>,
    /// `[outputs]`
    bias: CudaSlice<u16>,
    inputs: usize,
    outputs: usize,
}

/// A normalisation on the device.
pub(super) struct DeviceNorm {
    weight: CudaSlice<u16>,
    bias: CudaSlice<u16>,
    epsilon: f32,
}

/// The weights of an encoder and its head, in one number format.
pub(super) struct DeviceWeights {
    pub(super) config: BertConfig,
    pub(super) format: Format,
    pub(super) words: CudaSlice<u16>,
    pub(super) positions: CudaSlice<u16>,
    pub(super) norm: DeviceNorm,
    pub(super) layers: Vec<DeviceLayer>,
    pub(super) head: DeviceHead,
}

/// A transformer layer.
pub(super) struct DeviceLayer {
    pub(super) query_key_value: DeviceLinear,
    pub(super) attention_output: DeviceLinear,
    pub(super) attention_norm: DeviceNorm,
    pub(super) intermediate: DeviceLinear,
    pub(super) output: DeviceLinear,
    pub(super) output_norm: DeviceNorm,
}

/// A head's linear layer, in float32.
pub(super) struct HeadLinear {
    weight: CudaSlice<f32>,
    bias: CudaSlice<f32>,
    outputs: usize,
}

/// What is computed from the last hidden states.
pub(super) enum DeviceHead {
    /// `[B, H]`
    MeanPooling,
    /// `[B, C]`, with a hidden layer before it or without.
    Sequence(Option<HeadLinear>, HeadLinear),
    /// `[T, C]`
    Token(HeadLinear),
}

/// Numbers that each buffer has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    input: usize,
    state: usize,
    wide: usize,
    narrow: usize,
    pooled: usize,
    result: usize,
}

/// Memory of a batch; grows with the largest batch of the widest model and with nothing else.
pub(super) struct Buffers {
    room: Room,
    /// Ids, positions, ends of sequences and tiles, one after the other.
    input: CudaSlice<u32>,
    /// `[T, H]`
    state: CudaSlice<u16>,
    /// `[T, 3 H]` and `[T, I]`
    wide: CudaSlice<u16>,
    /// `[T, H]`
    narrow: CudaSlice<u16>,
    /// `[B, H]`
    pooled: CudaSlice<f32>,
    /// `[B, H]`
    hidden: CudaSlice<f32>,
    /// `[B, H]`, `[B, C]` or `[T, C]`
    result: CudaSlice<f32>,
}

/// What a batch looks like to the kernels.
struct Input {
    words: Vec<u32>,
    tiles: usize,
    tokens: usize,
    sequences: usize,
}

impl DeviceLinear {
    pub(super) fn new(
        stream: &Arc<CudaStream>,
        format: Format,
        weights: &LinearWeights,
    ) -> Result<Self, Fault> {
        Ok(Self {
            weight: stream.clone_htod(&format.bits(&weights.weight))?,
            bias: stream.clone_htod(&format.bits(&weights.bias))?,
            inputs: weights.inputs(),
            outputs: weights.outputs(),
        })
    }
}

impl DeviceNorm {
    pub(super) fn new(
        stream: &Arc<CudaStream>,
        format: Format,
        weights: &NormWeights,
    ) -> Result<Self, Fault> {
        Ok(Self {
            weight: stream.clone_htod(&format.bits(&weights.weight))?,
            bias: stream.clone_htod(&format.bits(&weights.bias))?,
            epsilon: weights.epsilon,
        })
    }
}

impl HeadLinear {
    fn new(stream: &Arc<CudaStream>, weights: &LinearWeights) -> Result<Self, Fault> {
        let outputs = weights.outputs();
        let (weight, bias) = (stream.clone_htod(&weights.weight)?, stream.clone_htod(&weights.bias)?);
        Ok(Self { weight, bias, outputs })
    }
}

impl DeviceHead {
    /// A head's weights on the device. Token classifiers have no hidden layer here: `assemble` refuses them.
    pub(super) fn new(stream: &Arc<CudaStream>, weights: &HeadWeights) -> Result<Self, Fault> {
        let linear = |weights: &LinearWeights| HeadLinear::new(stream, weights);
        Ok(match weights {
            HeadWeights::MeanPooling => Self::MeanPooling,
            HeadWeights::Sequence(ClassifierWeights { dense, classifier }) => {
                Self::Sequence(dense.as_ref().map(linear).transpose()?, linear(classifier)?)
            }
            HeadWeights::Token(ClassifierWeights { classifier, .. }) => Self::Token(linear(classifier)?),
        })
    }

    /// Rows of its result.
    fn rows(&self, tokens: usize, sequences: usize) -> usize {
        match self {
            Self::MeanPooling | Self::Sequence(..) => sequences,
            Self::Token(_) => tokens,
        }
    }

    /// Columns of its result.
    fn columns(&self, hidden: usize) -> usize {
        match self {
            Self::MeanPooling => hidden,
            Self::Sequence(_, classifier) | Self::Token(classifier) => classifier.outputs,
        }
    }
}

impl Input {
    /// Puts a batch that passed [`BertConfig::check`] one after the other: ids `[T]`, positions `[T]`, ends `[B + 1]`, and
    /// for every 64 queries of a sequence its start, its length, and the first of the queries.
    fn new(batch: &TokenBatch) -> Self {
        let mut words = Vec::with_capacity(3 * batch.tokens() + 6 * batch.sequences() + 1);
        words.extend_from_slice(&batch.input_ids);
        words.extend_from_slice(&batch.position_ids);
        words.extend_from_slice(&batch.cu_seqlens);
        let mut tiles = 0;
        for range in batch.ranges() {
            for query in (0..range.len()).step_by(TILE_ROWS) {
                words.extend([range.start as u32, range.len() as u32, query as u32, 0]);
                tiles += 1;
            }
        }
        Self { words, tiles, tokens: batch.tokens(), sequences: batch.sequences() }
    }

    /// Most numbers that a batch of so many tokens and sequences has.
    fn words_max(tokens: usize, sequences: usize) -> usize {
        2 * tokens + sequences + 1 + TILE * (sequences + tokens / TILE_ROWS)
    }
}

impl Room {
    /// What a batch needs, rounded up to powers of two, so that it grows seldom.
    fn of(weights: &DeviceWeights, input: &Input) -> Self {
        let BertConfig { hidden_size, intermediate_size, .. } = weights.config;
        let (tokens, sequences) = (input.tokens.next_power_of_two(), input.sequences.next_power_of_two());
        Self {
            input: Input::words_max(tokens, sequences),
            state: tokens * hidden_size,
            wide: tokens * intermediate_size.max(3 * hidden_size),
            narrow: tokens * hidden_size,
            pooled: sequences * hidden_size,
            result: weights.head.rows(tokens, sequences) * weights.head.columns(hidden_size),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            state: self.state.max(other.state),
            wide: self.wide.max(other.wide),
            narrow: self.narrow.max(other.narrow),
            pooled: self.pooled.max(other.pooled),
            result: self.result.max(other.result),
        }
    }
}

impl Buffers {
    fn new(stream: &Arc<CudaStream>, room: Room) -> Result<Self, Fault> {
        // SAFETY: every kernel writes what it or the next one reads.
        unsafe {
            Ok(Self {
                room,
                input: stream.alloc(room.input)?,
                state: stream.alloc(room.state)?,
                wide: stream.alloc(room.wide)?,
                narrow: stream.alloc(room.narrow)?,
                pooled: stream.alloc(room.pooled)?,
                hidden: stream.alloc(room.pooled)?,
                result: stream.alloc(room.result)?,
            })
        }
    }
}

/// A forward pass of one model on one GPU.
pub(super) struct Pass<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) weights: &'a DeviceWeights,
    pub(super) kernels: &'a Kernels,
    pub(super) products: &'a mut Products,
    pub(super) buffers: &'a mut Option<Buffers>,
}

impl Pass<'_> {
    /// Computes a batch that passed [`BertConfig::check`]; writes `[rows, columns]` into `result` and returns its shape.
    pub(super) fn run(&mut self, batch: &TokenBatch, result: &mut Vec<f32>) -> Result<[usize; 2], Fault> {
        let input = Input::new(batch);
        let mut buffers = self.room(&input)?;
        self.gpu.stream.memcpy_htod(&input.words, &mut buffers.input.slice_mut(..input.words.len()))?;
        self.embed(&input, &buffers)?;
        for layer in &self.weights.layers {
            self.layer(layer, &input, &buffers)?;
        }
        let shape = self.head(&input, &buffers)?;
        result.resize(shape[0] * shape[1], 0.0);
        self.gpu.stream.memcpy_dtoh(&buffers.result.slice(..result.len()), result)?;
        self.gpu.stream.synchronize()?;
        *self.buffers = Some(buffers);
        Ok(shape)
    }

    /// Buffers that are large enough: the ones there are, or larger ones in their place.
    fn room(&mut self, input: &Input) -> Result<Buffers, Fault> {
        let mut room = Room::of(self.weights, input);
        if let Some(buffers) = self.buffers.take() {
            if room.max(buffers.room) == buffers.room {
                return Ok(buffers);
            }
            room = room.max(buffers.room);
            // Freed before the larger ones are asked for.
            drop(buffers);
        }
        Buffers::new(&self.gpu.stream, room)
    }

    /// Address of `slice` from `offset` on.
    fn address<T: DeviceRepr>(&self, slice: &CudaSlice<T>, offset: usize) -> CUdeviceptr {
        let (address, _) = slice.device_ptr(&self.gpu.stream);
        address + (offset * size_of::<T>()) as CUdeviceptr
    }

    fn embed(&self, input: &Input, buffers: &Buffers) -> Result<(), Fault> {
        let DeviceWeights { words, positions, norm, .. } = self.weights;
        let (ids, position_ids) =
            (self.address(&buffers.input, 0), self.address(&buffers.input, input.tokens));
        let (tokens, hidden) = (input.tokens as i32, self.weights.config.hidden_size as i32);
        let mut launch = self.gpu.stream.launch_builder(&self.kernels.embed);
        launch.arg(&ids).arg(&position_ids).arg(words).arg(positions);
        launch.arg(&norm.weight).arg(&norm.bias).arg(&buffers.state);
        launch.arg(&tokens).arg(&hidden).arg(&norm.epsilon);
        start(&mut launch, rows(input.tokens))
    }

    fn layer(&mut self, layer: &DeviceLayer, input: &Input, buffers: &Buffers) -> Result<(), Fault> {
        self.multiply(&layer.query_key_value, true, &buffers.state, &buffers.wide, input.tokens)?;
        self.attend(input, buffers)?;
        // Attention's result is where the products' results were, and these go where it was.
        self.multiply(&layer.attention_output, false, &buffers.narrow, &buffers.wide, input.tokens)?;
        self.add_normalise(&layer.attention_output, &layer.attention_norm, &buffers.wide, input, buffers)?;
        self.multiply(&layer.intermediate, false, &buffers.state, &buffers.wide, input.tokens)?;
        self.add_gelu(&layer.intermediate, input, buffers)?;
        self.multiply(&layer.output, false, &buffers.wide, &buffers.narrow, input.tokens)?;
        self.add_normalise(&layer.output, &layer.output_norm, &buffers.narrow, input, buffers)
    }

    /// `to = from weight^T`, and the bias if it is not added by what follows.
    fn multiply(
        &mut self,
        linear: &DeviceLinear,
        has_bias: bool,
        from: &CudaSlice<u16>,
        to: &CudaSlice<u16>,
        rows: usize,
    ) -> Result<(), Fault> {
        let product = Product {
            format: self.weights.format,
            from: self.address(from, 0),
            weight: self.address(&linear.weight, 0),
            bias: has_bias.then(|| self.address(&linear.bias, 0)),
            to: self.address(to, 0),
            rows,
            inputs: linear.inputs,
            outputs: linear.outputs,
        };
        // SAFETY: the buffers have room for `rows` rows of these widths, and live as long as the pass.
        unsafe { self.products.multiply(&product) }
    }

    fn attend(&self, input: &Input, buffers: &Buffers) -> Result<(), Fault> {
        let BertConfig { hidden_size, num_attention_heads, .. } = self.weights.config;
        let tiles = self.address(&buffers.input, 2 * input.tokens + input.sequences + 1);
        let heads = num_attention_heads as i32;
        let head_size = (hidden_size / num_attention_heads) as f32;
        // exp2 in place of exp: the base's logarithm goes into the scale.
        let scale_log2 = std::f32::consts::LOG2_E / head_size.sqrt();
        let mut launch = self.gpu.stream.launch_builder(&self.kernels.attention);
        launch.arg(&buffers.wide).arg(&tiles).arg(&buffers.narrow).arg(&heads).arg(&scale_log2);
        let config = LaunchConfig {
            grid_dim: (input.tiles as u32, num_attention_heads as u32, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: self.kernels.attention_shared_bytes,
        };
        start(&mut launch, config)
    }

    fn add_normalise(
        &self,
        linear: &DeviceLinear,
        norm: &DeviceNorm,
        product: &CudaSlice<u16>,
        input: &Input,
        buffers: &Buffers,
    ) -> Result<(), Fault> {
        let (tokens, hidden) = (input.tokens as i32, self.weights.config.hidden_size as i32);
        let mut launch = self.gpu.stream.launch_builder(&self.kernels.add_normalise);
        launch.arg(product).arg(&linear.bias).arg(&norm.weight).arg(&norm.bias).arg(&buffers.state);
        launch.arg(&tokens).arg(&hidden).arg(&norm.epsilon);
        start(&mut launch, rows(input.tokens))
    }

    fn add_gelu(&self, linear: &DeviceLinear, input: &Input, buffers: &Buffers) -> Result<(), Fault> {
        let width = linear.outputs as i32;
        let pairs = (input.tokens * linear.outputs / 2) as i64;
        let mut launch = self.gpu.stream.launch_builder(&self.kernels.add_gelu);
        launch.arg(&linear.bias).arg(&buffers.wide).arg(&pairs).arg(&width);
        let blocks = (pairs as u64).div_ceil(u64::from(THREADS)) as u32;
        start(&mut launch, blocks_of(blocks))
    }

    fn head(&self, input: &Input, buffers: &Buffers) -> Result<[usize; 2], Fault> {
        let hidden = self.weights.config.hidden_size;
        let Buffers { state, pooled, hidden: inner, result, .. } = buffers;
        match &self.weights.head {
            DeviceHead::MeanPooling => {
                self.mean(input, buffers, result)?;
                Ok([input.sequences, hidden])
            }
            DeviceHead::Sequence(dense, classifier) => {
                self.mean(input, buffers, pooled)?;
                let pooled = match dense {
                    Some(dense) => {
                        let kernel = &self.kernels.classify_pooled;
                        self.classify(kernel, dense, pooled, inner, input.sequences, true)?;
                        inner
                    }
                    None => pooled,
                };
                let kernel = &self.kernels.classify_pooled;
                self.classify(kernel, classifier, pooled, result, input.sequences, false)?;
                Ok([input.sequences, classifier.outputs])
            }
            DeviceHead::Token(classifier) => {
                self.classify(&self.kernels.classify, classifier, state, result, input.tokens, false)?;
                Ok([input.tokens, classifier.outputs])
            }
        }
    }

    fn mean(&self, input: &Input, buffers: &Buffers, to: &CudaSlice<f32>) -> Result<(), Fault> {
        let ends = self.address(&buffers.input, 2 * input.tokens);
        let hidden = self.weights.config.hidden_size as i32;
        let mut launch = self.gpu.stream.launch_builder(&self.kernels.mean);
        launch.arg(&buffers.state).arg(&ends).arg(to).arg(&hidden);
        start(&mut launch, blocks_of(input.sequences as u32))
    }

    fn classify<T>(
        &self,
        kernel: &CudaFunction,
        linear: &HeadLinear,
        from: &CudaSlice<T>,
        to: &CudaSlice<f32>,
        count: usize,
        has_tanh: bool,
    ) -> Result<(), Fault> {
        let (count_i32, hidden) = (count as i32, self.weights.config.hidden_size as i32);
        let classes = linear.outputs as i32;
        let mut launch = self.gpu.stream.launch_builder(kernel);
        launch.arg(from).arg(&linear.weight).arg(&linear.bias).arg(to);
        launch.arg(&count_i32).arg(&hidden).arg(&classes).arg(&has_tanh);
        start(&mut launch, rows(count))
    }
}

fn blocks_of(blocks: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// A block for every four rows.
fn rows(count: usize) -> LaunchConfig {
    blocks_of(count.div_ceil(ROWS) as u32)
}

fn start(launch: &mut LaunchArgs<'_>, config: LaunchConfig) -> Result<(), Fault> {
    // SAFETY: the arguments are those of the kernels in `models/kernels`, in their order; all memory lives as long as the pass,
    // which waits for the stream before it ends, and has room for the batch.
    unsafe { launch.launch(config) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Sequence;

    #[test]
    fn tiles_cover_every_query_once() {
        let lengths = [1, 63, 64, 65, 512, 130];
        let sequences: Vec<_> = lengths.iter().map(|length| Sequence::new(vec![7; *length])).collect();
        let batch = TokenBatch::from_sequences(&sequences);
        let input = Input::new(&batch);
        let tokens = batch.tokens();
        assert!(input.words.len() <= Input::words_max(tokens, lengths.len()));
        let tiles = &input.words[2 * tokens + lengths.len() + 1..];
        assert_eq!(tiles.len(), TILE * input.tiles);
        let mut covered = vec![0; tokens];
        for tile in tiles.chunks(TILE) {
            let (start, length, query) = (tile[0] as usize, tile[1] as usize, tile[2] as usize);
            for row in query..length.min(query + TILE_ROWS) {
                covered[start + row] += 1;
            }
        }
        assert!(covered.iter().all(|count| *count == 1));
    }
}
