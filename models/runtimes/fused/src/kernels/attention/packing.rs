//! Keys and values in the order in which tiles read them.

use std::ops::Range;

use super::super::vector::{Number, Product};
use super::AttentionTask;

/// Panels of `2 LANES` keys: for each step of the head's numbers, `STEP` numbers of each key.
///
/// As a step of any format is a multiple of 32 bits, this is a transposition of words.
///
/// # Safety
/// As [`super::attend`]; `chunk` are keys of the sequence, no more than the scratch has room for.
#[inline(always)]
pub(super) unsafe fn pack_keys<V: Product<N>, N: Number>(task: &AttentionTask<N>, chunk: &Range<usize>) {
    let columns = 2 * V::LANES;
    let steps = task.head.div_ceil(N::STEP);
    // Squares of words; a step is one word in both formats, as `WORDS` asserts.
    const { assert!(size_of::<N>() * N::STEP == size_of::<u32>()) };
    let whole = (task.head / N::STEP) / V::LANES * V::LANES;
    for first in (0..chunk.len()).step_by(V::LANES) {
        let (panel, column) = (first / columns, first % columns);
        // SAFETY: `LANES` rows from any of the chunk on are readable, at most `LANES - 1` of them behind the
        // sequence; `keys` holds whole panels.
        unsafe {
            let from = task.key.add((chunk.start + first) * task.stride);
            let to = task.scratch.keys.add((panel * steps * columns + column) * N::STEP);
            for step in (0..whole).step_by(V::LANES) {
                V::transpose(
                    from.add(step * N::STEP).cast(),
                    task.stride / N::STEP,
                    to.add(step * columns * N::STEP).cast(),
                    columns,
                );
            }
            for at in whole * N::STEP..steps * N::STEP {
                let (step, part) = (at / N::STEP, at % N::STEP);
                for lane in 0..V::LANES {
                    let number =
                        if at < task.head { *from.add(lane * task.stride + at) } else { N::default() };
                    *to.add((step * columns + lane) * N::STEP + part) = number;
                }
            }
        }
    }
}

/// Panels of `2 LANES` of the head's numbers: for each step of keys, those of `STEP` keys side by side.
///
/// # Safety
/// As [`pack_keys`].
#[inline(always)]
pub(super) unsafe fn pack_values<V: Product<N>, N: Number>(task: &AttentionTask<N>, chunk: &Range<usize>) {
    let columns = 2 * V::LANES;
    let steps = chunk.len().div_ceil(N::STEP);
    for panel in 0..task.head.div_ceil(columns) {
        let width = columns.min(task.head - panel * columns);
        // SAFETY: keys are below the chunk's end, numbers below `head`; `values` holds whole panels.
        unsafe {
            let from = task.value.add(chunk.start * task.stride + panel * columns);
            let to = task.scratch.values.add(panel * steps * columns * N::STEP);
            for step in 0..steps {
                let to = to.add(step * columns * N::STEP);
                let from = from.add(step * N::STEP * task.stride);
                if (step + 1) * N::STEP <= chunk.len() && width == columns {
                    // The usual case, without conditions in the loop.
                    for column in 0..columns {
                        for part in 0..N::STEP {
                            *to.add(column * N::STEP + part) = *from.add(part * task.stride + column);
                        }
                    }
                    continue;
                }
                for at in 0..columns * N::STEP {
                    let (column, part) = (at / N::STEP, at % N::STEP);
                    let is_there = step * N::STEP + part < chunk.len() && column < width;
                    *to.add(at) =
                        if is_there { *from.add(part * task.stride + column) } else { N::default() };
                }
            }
        }
    }
}
