//! Weights in the order in which the kernels read them.
//!
//! A linear layer's weight `[out, in]` is cut into panels of as many outputs as a register tile has columns.
//! In a panel the numbers of one step of `in` lie side by side, so that a kernel reads it front to back, one
//! cache line after another: `panel[step][column][part]`, where a step is one number of `in` in float32 and a
//! pair in bfloat16. Outputs and inputs that are not there are zero.

use std::marker::PhantomData;
use std::ops::Range;

use models_core::weights::LinearWeights;

use super::buffer::Buffer;
use super::kernels::{Compiled, Kernels, LinearTask, Output};

/// A linear layer's weight and bias, packed for one instruction set.
pub(super) struct PackedLinear<N> {
    /// Of `N`.
    panels: Buffer,
    /// Of float32, one for each column of the panels.
    bias: Buffer,
    /// Columns of one panel.
    columns: usize,
    panel_count: usize,
    steps: usize,
    number: PhantomData<N>,
}

impl<N: Compiled> PackedLinear<N> {
    /// Packs a layer's weights.
    pub(super) fn new(kernels: &Kernels<N>, weights: &LinearWeights) -> Self {
        let LinearWeights { weight, bias } = weights;
        let (outputs, inputs, columns) = (weights.outputs(), weights.inputs(), kernels.columns);
        let (panel_count, steps) = (outputs.div_ceil(columns), inputs.div_ceil(N::STEP));
        let mut panels = Buffer::zeroed::<N>(panel_count * steps * N::STEP * columns);
        let packed = panels.as_mut_slice::<N>();
        for (output, row) in weight.chunks_exact(inputs.max(1)).enumerate() {
            let (panel, column) = (output / columns, output % columns);
            for (input, &value) in row.iter().enumerate() {
                let (step, part) = (input / N::STEP, input % N::STEP);
                packed[((panel * steps + step) * columns + column) * N::STEP + part] = N::from_f32(value);
            }
        }
        let mut padded = Buffer::zeroed::<f32>(panel_count * columns);
        padded.as_mut_slice()[..outputs].copy_from_slice(bias);
        Self { panels, bias: padded, columns, panel_count, steps, number: PhantomData }
    }

    /// Numbers in a row of what it gives: the outputs, rounded up to whole panels.
    pub(super) fn width(&self) -> usize {
        self.panel_count * self.columns
    }

    pub(super) fn panel_count(&self) -> usize {
        self.panel_count
    }

    /// The task of multiplying `rows` rows from `left` on with some panels.
    ///
    /// `output` is for the first row and the first of *all* columns.
    pub(super) fn task(
        &self,
        left: *const N,
        left_stride: usize,
        rows: usize,
        panels: Range<usize>,
        output: Output<N>,
    ) -> LinearTask<N> {
        assert!(panels.end <= self.panel_count && left_stride >= self.steps * N::STEP);
        let column = panels.start * self.columns;
        // SAFETY: the caller's output has a place for every column; `column` is one of them.
        let output = unsafe {
            match output {
                Output::Store { to, stride, activation } => {
                    Output::Store { to: to.add(column), stride, activation }
                }
                Output::Add { to, stride } => Output::Add { to: to.add(column), stride },
            }
        };
        LinearTask {
            left,
            left_stride,
            rows,
            panels: self.panels.pointer(panels.start * self.steps * N::STEP * self.columns),
            panel_count: panels.len(),
            steps: self.steps,
            bias: self.bias.pointer(column),
            output,
        }
    }
}
