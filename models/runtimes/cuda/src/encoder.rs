//! A forward pass of a transformer encoder (<https://arxiv.org/abs/1706.03762>) on a GPU, over ragged
//! batches: products by cublasLt, everything between them by kernels of our own, nothing padded. Starts
//! kernels and waits for none.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg};

use models_core::spec::{FeedForward, NormKind, NormPlace};
use models_core::{EncoderSpec, HiddenActivation};

use super::arrangement::head_size;
use super::device::{Fault, Kernels, QUERY_ROWS};
use super::layout::Shape;
use super::memory::{Buffers, SlotMemory};
use super::products::{Epilogue, Product, Products};
use super::weights::{DeviceEmbeddings, DeviceLayer, DeviceLinear, DeviceNorm, DeviceWeights};

/// Threads of every kernel's blocks, and rows of the batch that the row kernels' blocks compute.
const THREADS: u32 = 128;
const ROWS: usize = 4;
/// For kernels: what there is not.
pub(super) const NONE: CUdeviceptr = 0;

/// One batch of one model.
pub(super) struct Pass<'a> {
    pub(super) compute: &'a Arc<CudaStream>,
    pub(super) weights: &'a DeviceWeights,
    pub(super) kernels: &'a Kernels,
    pub(super) products: &'a mut Products,
    pub(super) buffers: &'a Buffers,
    /// The input, and where the result goes.
    pub(super) memory: &'a SlotMemory,
    pub(super) shape: Shape,
    pub(super) fuses_gelu: bool,
}

/// What is added to the state, and where it was computed.
type Sum<'a> = (&'a CudaSlice<u16>, &'a DeviceLinear);

impl Pass<'_> {
    /// Starts everything from the input to the result. All memory has room for the shape.
    pub(super) fn run(&mut self) -> Result<(), Fault> {
        self.embed()?;
        for index in 0..self.weights.layers.len() {
            self.layer(index)?;
        }
        self.head()
    }

    /// Address of `slice` from `offset` on.
    pub(super) fn address<T: DeviceRepr>(&self, slice: &CudaSlice<T>, offset: usize) -> CUdeviceptr {
        let (address, _) = slice.device_ptr(self.compute);
        address + (offset * size_of::<T>()) as CUdeviceptr
    }

    pub(super) fn address_or_none<T: DeviceRepr>(&self, slice: Option<&CudaSlice<T>>) -> CUdeviceptr {
        slice.map_or(NONE, |slice| self.address(slice, 0))
    }

    /// Addresses of weight and bias, and what is added to variances.
    fn norm(&self, norm: Option<&DeviceNorm>) -> (CUdeviceptr, CUdeviceptr, f32) {
        let none = (NONE, NONE, 0.0);
        norm.map_or(none, |norm| (self.address(&norm.weight, 0), self.address(&norm.bias, 0), norm.epsilon))
    }

    /// Where the sums of the blocks are kept in float32, if layers normalise before them: there nothing
    /// brings them back to numbers that formats of 16 bits hold well.
    fn residual(&self) -> CUdeviceptr {
        match self.weights.spec.norm_place {
            NormPlace::Behind => NONE,
            NormPlace::Before => self.address(&self.buffers.residual, 0),
        }
    }

    fn embed(&mut self) -> Result<(), Fault> {
        let DeviceEmbeddings { words, positions, second_segment, norm, projection } =
            &self.weights.embeddings;
        let Buffers { state, narrow, .. } = self.buffers;
        let ids = self.address(&self.memory.input, 0);
        let position_ids = self.address(&self.memory.input, self.shape.positions());
        let (of_positions, of_segment) =
            (self.address_or_none(positions.as_ref()), self.address_or_none(second_segment.as_ref()));
        let (weight, bias, epsilon) = self.norm(norm.as_ref());
        let (tokens, width) = (self.shape.tokens as i32, self.weights.spec.embedding_size as i32);
        let residual = self.residual();
        let to = if projection.is_some() { narrow } else { state };
        let is_centred = self.weights.spec.norm == NormKind::LayerNorm;
        let mut launch = self.compute.launch_builder(&self.kernels.embed);
        launch.arg(&ids).arg(&position_ids).arg(words).arg(&of_positions).arg(&of_segment);
        launch.arg(&weight).arg(&bias).arg(to).arg(&residual);
        launch.arg(&tokens).arg(&width).arg(&epsilon).arg(&is_centred);
        start(&mut launch, rows(self.shape.tokens))?;
        if let Some(projection) = projection {
            self.multiply(projection, Epilogue::AddBias, (narrow, projection.inputs), state)?;
        }
        match self.weights.spec.norm_place {
            NormPlace::Behind => Ok(()),
            NormPlace::Before => self.add_normalise(None, self.norm_behind(None)),
        }
    }

    /// What normalises the sum behind a layer, or behind the embeddings, where layers normalise before their
    /// blocks: the next one's, and behind the last the encoder's.
    fn norm_behind(&self, layer: Option<usize>) -> Option<&DeviceNorm> {
        match self.weights.layers.get(layer.map_or(0, |layer| layer + 1)) {
            Some(next) => next.attention_norm.as_ref(),
            None => self.weights.final_norm.as_ref(),
        }
    }

    fn layer(&mut self, index: usize) -> Result<(), Fault> {
        let Buffers { state, wide, narrow, .. } = self.buffers;
        let spec = &self.weights.spec;
        let layer = &*self.weights.layers[index];
        self.multiply(&layer.query_key_value, Epilogue::AddBias, (state, spec.hidden_size), wide)?;
        self.turn(index)?;
        self.attend(index)?;
        // Attention's result is where the products' results were, and these go where it was.
        let width = layer.attention_output.inputs;
        self.multiply(&layer.attention_output, Epilogue::Write, (narrow, width), wide)?;
        let is_before = spec.norm_place == NormPlace::Before;
        let norm = if is_before { Some(&layer.output_norm) } else { layer.attention_norm.as_ref() };
        self.add_normalise(Some((wide, &layer.attention_output)), norm)?;
        // cublasLt has the approximation of GELU.
        let is_plain = spec.feed_forward == FeedForward::Plain;
        let fuses = match spec.hidden_act {
            HiddenActivation::Gelu => self.fuses_gelu && is_plain,
            HiddenActivation::GeluTanh => is_plain,
            HiddenActivation::Relu | HiddenActivation::Silu => false,
        };
        let then = if fuses { Epilogue::AddBiasAndGelu } else { Epilogue::Write };
        self.multiply(&layer.intermediate, then, (state, spec.hidden_size), wide)?;
        if !fuses {
            self.activate(&layer.intermediate)?;
        }
        self.multiply(&layer.output, Epilogue::Write, (wide, layer.intermediate.outputs), narrow)?;
        let norm = if is_before { self.norm_behind(Some(index)) } else { Some(&layer.output_norm) };
        self.add_normalise(Some((narrow, &layer.output)), norm)
    }

    /// `to = from weight^T`, and what is done with it at once; `from` has a number between its rows.
    fn multiply(
        &mut self,
        linear: &DeviceLinear,
        then: Epilogue,
        (from, stride): (&CudaSlice<u16>, usize),
        to: &CudaSlice<u16>,
    ) -> Result<(), Fault> {
        let product = Product {
            format: self.weights.format,
            from: self.address(from, 0),
            stride,
            weight: self.address(&linear.weight, 0),
            bias: self.address(&linear.bias, 0),
            then,
            to: self.address(to, 0),
            rows: self.shape.tokens,
            inputs: linear.inputs,
            outputs: linear.outputs,
        };
        // SAFETY: the buffers have room for the shape's rows of these widths, and are freed in the order of
        // the stream.
        unsafe { self.products.multiply(&product) }
    }

    /// Normalises and turns a layer's queries and keys, if it does.
    fn turn(&self, index: usize) -> Result<(), Fault> {
        let DeviceLayer { query_norm, key_norm, .. } = &*self.weights.layers[index];
        let spec = &self.weights.spec;
        let rotary = spec.layers[index].rotary;
        if rotary.is_none() && query_norm.is_none() && key_norm.is_none() {
            return Ok(());
        }
        let angles = self.address_or_none(rotary.map(|rotary| &self.weights.tables.angles[rotary]));
        let pairs = rotary.map_or(0, |rotary| spec.rotary[rotary].inverse_frequencies.len()) as i32;
        let positions = self.address(&self.memory.input, self.shape.positions());
        let (query_weight, _, query_epsilon) = self.norm(query_norm.as_ref());
        let (key_weight, _, key_epsilon) = self.norm(key_norm.as_ref());
        let (heads, key_heads) = (spec.num_attention_heads as i32, spec.num_key_value_heads as i32);
        let (tokens, size, numbers) =
            (self.shape.tokens as i32, head_size(spec) as i32, spec.head_size as i32);
        let mut launch = self.compute.launch_builder(&self.kernels.turn);
        launch.arg(&self.buffers.wide).arg(&positions).arg(&angles).arg(&query_weight).arg(&key_weight);
        launch.arg(&tokens).arg(&heads).arg(&key_heads).arg(&size).arg(&numbers).arg(&pairs);
        launch.arg(&query_epsilon).arg(&key_epsilon);
        let mut config = rows(self.shape.tokens);
        config.grid_dim.1 = (heads + key_heads) as u32;
        start(&mut launch, config)
    }

    fn attend(&self, index: usize) -> Result<(), Fault> {
        let spec: &EncoderSpec = &self.weights.spec;
        let layer = &*self.weights.layers[index];
        let tables = &self.weights.tables;
        let tiles = self.address(&self.memory.input, self.shape.tiles_from());
        let (heads, key_heads) = (spec.num_attention_heads as i32, spec.num_key_value_heads as i32);
        // exp2 in place of exp: the base's logarithm goes into the scale.
        let scale_log2 = (std::f64::consts::LOG2_E * spec.attention_scale()) as f32;
        let longest = spec.max_position_embeddings;
        // Without a window so far that no query of a block has a key out of sight.
        let seen = spec.layers[index].window.unwrap_or(longest + QUERY_ROWS).min(longest + QUERY_ROWS);
        let (before, behind) = (seen as i32, if spec.is_causal { 0 } else { seen as i32 });
        let longest = longest as i32;
        let biases = self.address_or_none(tables.distance_bias.as_ref());
        let position_keys = self.address_or_none(layer.position_keys.as_ref());
        let position_queries = self.address_or_none(layer.position_queries.as_ref());
        let row_of = self.address_or_none(tables.position_rows.as_ref());
        let Buffers { wide, narrow, .. } = self.buffers;
        let mut launch = self.compute.launch_builder(&self.kernels.attention);
        launch.arg(wide).arg(&tiles).arg(narrow).arg(&heads).arg(&key_heads).arg(&scale_log2);
        launch.arg(&before).arg(&behind).arg(&longest);
        launch.arg(&biases).arg(&position_keys).arg(&position_queries).arg(&row_of);
        let config = LaunchConfig {
            grid_dim: (self.shape.tiles as u32, spec.num_attention_heads as u32, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: self.kernels.attention_shared_bytes,
        };
        start(&mut launch, config)
    }

    fn add_normalise(&self, sum: Option<Sum<'_>>, norm: Option<&DeviceNorm>) -> Result<(), Fault> {
        let (tokens, hidden) = (self.shape.tokens as i32, self.weights.spec.hidden_size as i32);
        let product = sum.map_or(NONE, |(product, _)| self.address(product, 0));
        let offset = sum.map_or(NONE, |(_, linear)| self.address(&linear.bias, 0));
        let (weight, bias, epsilon) = self.norm(norm);
        let residual = self.residual();
        let is_centred = self.weights.spec.norm == NormKind::LayerNorm;
        let mut launch = self.compute.launch_builder(&self.kernels.add_normalise);
        launch.arg(&product).arg(&offset).arg(&weight).arg(&bias).arg(&self.buffers.state).arg(&residual);
        launch.arg(&tokens).arg(&hidden).arg(&epsilon).arg(&is_centred);
        start(&mut launch, rows(self.shape.tokens))
    }

    fn activate(&self, linear: &DeviceLinear) -> Result<(), Fault> {
        let spec = &self.weights.spec;
        let (width, is_gated) = (spec.intermediate_size as i32, spec.feed_forward == FeedForward::Gated);
        let activation: i32 = match spec.hidden_act {
            HiddenActivation::Gelu => 1,
            HiddenActivation::GeluTanh => 2,
            HiddenActivation::Relu => 3,
            HiddenActivation::Silu => 4,
        };
        let mut launch = self.compute.launch_builder(&self.kernels.activate);
        launch.arg(&linear.bias).arg(&self.buffers.wide).arg(&width).arg(&activation).arg(&is_gated);
        start(&mut launch, blocks_of(self.shape.tokens as u32))
    }
}

pub(super) fn blocks_of(blocks: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// A block for every four rows.
pub(super) fn rows(count: usize) -> LaunchConfig {
    blocks_of(count.div_ceil(ROWS) as u32)
}

pub(super) fn start(launch: &mut LaunchArgs<'_>, config: LaunchConfig) -> Result<(), Fault> {
    // SAFETY: the arguments are those of the kernels in `kernels`, in their order; all memory has room for
    // the shape and is freed in the order of the stream.
    unsafe { launch.launch(config) }?;
    Ok(())
}
