//! A forward pass of a transformer encoder (<https://arxiv.org/abs/1706.03762>) on a GPU, over ragged
//! batches: products by cublasLt, everything between them by kernels of our own, nothing padded. Starts
//! kernels and waits for none.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};

use models_core::EncoderSpec;

use super::device::{Fault, Kernels};
use super::layout::Shape;
use super::memory::{Buffers, SlotMemory};
use super::products::{Epilogue, Product, Products};
use super::weights::{DeviceHead, DeviceLayer, DeviceLinear, DeviceNorm, DeviceWeights, HeadLinear};

/// Threads of every kernel's blocks, and rows of the batch that the row kernels' blocks compute.
const THREADS: u32 = 128;
const ROWS: usize = 4;

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

impl Pass<'_> {
    /// Starts everything from the input to the result. All memory has room for the shape.
    pub(super) fn run(&mut self) -> Result<(), Fault> {
        self.embed()?;
        for layer in &self.weights.layers {
            self.layer(layer)?;
        }
        self.head()
    }

    /// Address of `slice` from `offset` on.
    fn address<T: DeviceRepr>(&self, slice: &CudaSlice<T>, offset: usize) -> CUdeviceptr {
        let (address, _) = slice.device_ptr(self.compute);
        address + (offset * size_of::<T>()) as CUdeviceptr
    }

    fn hidden(&self) -> i32 {
        self.weights.spec.hidden_size as i32
    }

    fn embed(&self) -> Result<(), Fault> {
        let DeviceWeights { words, positions, norm, .. } = self.weights;
        let ids = self.address(&self.memory.input, 0);
        let position_ids = self.address(&self.memory.input, self.shape.positions());
        let (tokens, hidden) = (self.shape.tokens as i32, self.hidden());
        let mut launch = self.compute.launch_builder(&self.kernels.embed);
        launch.arg(&ids).arg(&position_ids).arg(words).arg(positions);
        launch.arg(&norm.weight).arg(&norm.bias).arg(&self.buffers.state);
        launch.arg(&tokens).arg(&hidden).arg(&norm.epsilon);
        start(&mut launch, rows(self.shape.tokens))
    }

    fn layer(&mut self, layer: &DeviceLayer) -> Result<(), Fault> {
        let Buffers { state, wide, narrow, .. } = self.buffers;
        self.multiply(&layer.query_key_value, Epilogue::AddBias, state, wide)?;
        self.attend()?;
        // Attention's result is where the products' results were, and these go where it was.
        self.multiply(&layer.attention_output, Epilogue::Write, narrow, wide)?;
        self.add_normalise(&layer.attention_output, &layer.attention_norm, wide)?;
        if self.fuses_gelu {
            self.multiply(&layer.intermediate, Epilogue::AddBiasAndGelu, state, wide)?;
        } else {
            self.multiply(&layer.intermediate, Epilogue::Write, state, wide)?;
            self.add_gelu(&layer.intermediate)?;
        }
        self.multiply(&layer.output, Epilogue::Write, wide, narrow)?;
        self.add_normalise(&layer.output, &layer.output_norm, narrow)
    }

    /// `to = from weight^T`, and what is done with it at once.
    fn multiply(
        &mut self,
        linear: &DeviceLinear,
        then: Epilogue,
        from: &CudaSlice<u16>,
        to: &CudaSlice<u16>,
    ) -> Result<(), Fault> {
        let product = Product {
            format: self.weights.format,
            from: self.address(from, 0),
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

    fn attend(&self) -> Result<(), Fault> {
        let spec: &EncoderSpec = &self.weights.spec;
        let num_attention_heads = spec.num_attention_heads;
        let tiles = self.address(&self.memory.input, self.shape.tiles_from());
        let heads = num_attention_heads as i32;
        let head_size = spec.head_size as f32;
        // exp2 in place of exp: the base's logarithm goes into the scale.
        let scale_log2 = std::f32::consts::LOG2_E / head_size.sqrt();
        let Buffers { wide, narrow, .. } = self.buffers;
        let mut launch = self.compute.launch_builder(&self.kernels.attention);
        launch.arg(wide).arg(&tiles).arg(narrow).arg(&heads).arg(&scale_log2);
        let config = LaunchConfig {
            grid_dim: (self.shape.tiles as u32, num_attention_heads as u32, 1),
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
    ) -> Result<(), Fault> {
        let (tokens, hidden) = (self.shape.tokens as i32, self.hidden());
        let mut launch = self.compute.launch_builder(&self.kernels.add_normalise);
        launch.arg(product).arg(&linear.bias).arg(&norm.weight).arg(&norm.bias).arg(&self.buffers.state);
        launch.arg(&tokens).arg(&hidden).arg(&norm.epsilon);
        start(&mut launch, rows(self.shape.tokens))
    }

    fn add_gelu(&self, linear: &DeviceLinear) -> Result<(), Fault> {
        let width = linear.outputs as i32;
        let mut launch = self.compute.launch_builder(&self.kernels.add_gelu);
        launch.arg(&linear.bias).arg(&self.buffers.wide).arg(&width);
        start(&mut launch, blocks_of(self.shape.tokens as u32))
    }

    fn head(&self) -> Result<(), Fault> {
        let Buffers { state, pooled, hidden, .. } = self.buffers;
        let result = &self.memory.result;
        let Kernels { classify, classify_pooled, .. } = self.kernels;
        let Shape { tokens, sequences, .. } = self.shape;
        match &self.weights.head {
            DeviceHead::MeanPooling => self.mean(result),
            DeviceHead::Sequence(None, classifier) => {
                self.mean(pooled)?;
                self.classify(classify_pooled, classifier, pooled, result, sequences, false)
            }
            DeviceHead::Sequence(Some(dense), classifier) => {
                self.mean(pooled)?;
                self.classify(classify_pooled, dense, pooled, hidden, sequences, true)?;
                self.classify(classify_pooled, classifier, hidden, result, sequences, false)
            }
            DeviceHead::Token(classifier) => {
                self.classify(classify, classifier, state, result, tokens, false)
            }
        }
    }

    fn mean(&self, to: &CudaSlice<f32>) -> Result<(), Fault> {
        let ends = self.address(&self.memory.input, self.shape.ends());
        let hidden = self.hidden();
        let mut launch = self.compute.launch_builder(&self.kernels.mean);
        launch.arg(&self.buffers.state).arg(&ends).arg(to).arg(&hidden);
        start(&mut launch, blocks_of(self.shape.sequences as u32))
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
        let (count_i32, hidden, classes) = (count as i32, self.hidden(), linear.outputs as i32);
        let mut launch = self.compute.launch_builder(kernel);
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
    // SAFETY: the arguments are those of the kernels in `kernels`, in their order; all memory has room for
    // the shape and is freed in the order of the stream.
    unsafe { launch.launch(config) }?;
    Ok(())
}
