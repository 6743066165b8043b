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

    /// Packs a layer whose first half of outputs are gates of the second, for
    /// [`Output::Gate`]: half of each panel's columns are gates, the other half what they open.
    pub(super) fn gated(kernels: &Kernels<N>, weights: &LinearWeights) -> Self {
        let (half, inputs, side) = (weights.outputs() / 2, weights.inputs(), kernels.columns / 2);
        let filled = half.next_multiple_of(side);
        let mut sides = LinearWeights { weight: vec![0.0; 2 * filled * inputs], bias: vec![0.0; 2 * filled] };
        for output in 0..2 * half {
            let (which, at) = (output / half, output % half);
            let to = (at / side) * kernels.columns + which * side + at % side;
            sides.bias[to] = weights.bias[output];
            let row = &weights.weight[output * inputs..(output + 1) * inputs];
            sides.weight[to * inputs..(to + 1) * inputs].copy_from_slice(row);
        }
        Self::new(kernels, &sides)
    }

    /// Numbers in a row of what it gives: the outputs, rounded up to whole panels.
    pub(super) fn width(&self) -> usize {
        self.panel_count * self.columns
    }

    pub(super) fn panel_count(&self) -> usize {
        self.panel_count
    }

    /// Numbers of a panel.
    pub(super) fn panel_len(&self) -> usize {
        self.steps * N::STEP * self.columns
    }

    /// Panels that this many outputs take.
    pub(super) fn panels_of(&self, outputs: usize) -> usize {
        outputs.div_ceil(self.columns)
    }

    /// A panel's numbers, and on to the end.
    pub(super) fn panel(&self, index: usize) -> *const N {
        self.panels.pointer(index * self.panel_len())
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
                Output::Gate { to, stride, activation } => {
                    Output::Gate { to: to.add(column / 2), stride, activation }
                }
            }
        };
        LinearTask {
            left,
            left_stride,
            rows,
            panels: self.panel(panels.start),
            panel_count: panels.len(),
            steps: self.steps,
            bias: self.bias.pointer(column),
            output,
        }
    }
}
