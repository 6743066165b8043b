//! One linear layer by itself, for benches that hold the kernels against others.

use half::bf16;
use models_core::weights::LinearWeights;
use models_core::{Dtype, Unsupported};

use super::DTYPES;
use super::buffer::Buffer;
use super::kernels::{Activation, Compiled, Kernels, Output};
use super::packing::PackedLinear;

/// A linear layer on one thread, with rows and results of its own.
pub trait StandaloneLinear {
    /// Takes rows, `[rows, in]`, and rounds them to the layer's number format.
    fn set_rows(&mut self, rows: &[f32]);
    fn run(&mut self);
    /// A value of the result.
    fn value(&mut self, row: usize, output: usize) -> f32;
}

/// A layer in a number format, with the best kernels of this CPU.
///
/// # Errors
/// When there are no kernels for the number format.
pub fn linear(dtype: Dtype, weights: &LinearWeights) -> Result<Box<dyn StandaloneLinear>, Unsupported> {
    match dtype {
        Dtype::Float32 => Ok(Box::new(Layer::<f32>::new(weights))),
        Dtype::Bfloat16 => Ok(Box::new(Layer::<bf16>::new(weights))),
        other @ Dtype::Float16 => Err(Unsupported::new("dtype", other, DTYPES)),
    }
}

struct Layer<N: 'static> {
    kernels: &'static Kernels<N>,
    packed: PackedLinear<N>,
    inputs: usize,
    stride: usize,
    rows: usize,
    left: Buffer,
    output: Buffer,
}

impl<N: Compiled> Layer<N> {
    fn new(weights: &LinearWeights) -> Self {
        let kernels = N::available()[0];
        let inputs = weights.inputs();
        Self {
            kernels,
            packed: PackedLinear::new(kernels, weights),
            inputs,
            stride: inputs.next_multiple_of(N::STEP),
            rows: 0,
            left: Buffer::new(),
            output: Buffer::new(),
        }
    }
}

impl<N: Compiled> StandaloneLinear for Layer<N> {
    fn set_rows(&mut self, rows: &[f32]) {
        self.rows = rows.len().checked_div(self.inputs).unwrap_or(0);
        self.left.grow::<N>(self.rows * self.stride);
        self.output.grow::<N>(self.rows * self.packed.width());
        let to = self.left.as_mut_slice::<N>().chunks_exact_mut(self.stride.max(1));
        for (to, from) in to.zip(rows.chunks_exact(self.inputs.max(1))) {
            to.iter_mut().zip(from).for_each(|(to, &value)| *to = N::from_f32(value));
        }
    }

    fn run(&mut self) {
        let (to, stride) = (self.output.pointer(0), self.packed.width());
        let output = Output::Store { to, stride, activation: Activation::None };
        let panels = 0..self.packed.panel_count();
        let task = self.packed.task(self.left.pointer(0), self.stride, self.rows, panels, output);
        // SAFETY: `set_rows` has made room for all rows, which are borrowed exclusively; the CPU has the
        // instruction set, or `available` had not given it.
        unsafe { (self.kernels.linear)(&task) }
    }

    fn value(&mut self, row: usize, output: usize) -> f32 {
        self.output.as_mut_slice::<N>()[row * self.packed.width() + output].to_f32()
    }
}
