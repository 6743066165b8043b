//! Linear layers: rows times packed weights, and what follows, while the sums are still at hand.

use super::math::Activation;
use super::vector::{Number, Product, Vector};

/// Most rows that any instruction set's register tile holds.
pub(crate) const TILE_ROWS_MAX: usize = 12;
/// Most columns.
pub(crate) const TILE_COLUMNS_MAX: usize = 32;

/// Some rows, times some panels of a packed matrix. Strides are in numbers, between rows.
#[derive(Clone, Copy)]
pub(crate) struct LinearTask<N> {
    /// `rows x steps * STEP`
    pub(crate) left: *const N,
    pub(crate) left_stride: usize,
    pub(crate) rows: usize,
    /// Panels of `steps * STEP` rows and as many columns as a tile has; see `packing`.
    pub(crate) panels: *const N,
    pub(crate) panel_count: usize,
    pub(crate) steps: usize,
    /// One for each column of the panels.
    pub(crate) bias: *const f32,
    pub(crate) output: Output<N>,
}

/// What happens to the sums. Pointers are to the first row and the first panel's first column.
#[derive(Clone, Copy)]
pub(crate) enum Output<N> {
    /// Bias added and activation applied, they are stored.
    Store { to: *mut N, stride: usize, activation: Activation },
    /// With the bias they are added to what is there: the residual connection.
    Add { to: *mut f32, stride: usize },
    /// The first half of a panel are gates, the second what they open: with the bias,
    /// `activation(gate) * other` is stored, half as many columns as the panels have
    /// (<https://arxiv.org/abs/2002.05202>).
    Gate { to: *mut N, stride: usize, activation: Activation },
}

/// Sums of one tile: `ROWS x 2 LANES` values of `left * panel`.
///
/// The accumulators stay in registers over the whole summed dimension: `2 ROWS` of them, two for the panel's
/// row, one for a number of `left`.
///
/// # Safety
/// As [`Vector`]; `left` must be valid for `ROWS` rows of `steps * STEP` numbers, `panel` for `steps * STEP`
/// times `2 LANES`, `to` for `ROWS` rows of `2 LANES` values.
#[inline(always)]
pub(super) unsafe fn tile<V: Product<N>, N: Number, const ROWS: usize>(
    left: *const N,
    left_stride: usize,
    panel: *const N,
    steps: usize,
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: all offsets stay within what the caller vouches for.
    unsafe {
        let mut sums = [[V::splat(0.0); 2]; ROWS];
        let mut right = panel;
        let mut left = left;
        for _ in 0..steps {
            let columns = [V::right(right), V::right(right.add(V::LANES * N::STEP))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = V::left(left.add(row * left_stride));
                sums[0] = sums[0].add_product(factor, columns[0]);
                sums[1] = sums[1].add_product(factor, columns[1]);
            }
            left = left.add(N::STEP);
            right = right.add(2 * V::LANES * N::STEP);
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let to = to.add(row * to_stride);
            sums[0].store(to);
            sums[1].store(to.add(V::LANES));
        }
    }
}

/// [`tile`] for a number of rows that is only known at run time, at most `MAX`.
///
/// # Safety
/// As [`tile`], with `rows` for `ROWS`.
#[inline(always)]
pub(super) unsafe fn tile_of<V: Product<N>, N: Number, const MAX: usize>(
    rows: usize,
    left: *const N,
    left_stride: usize,
    panel: *const N,
    steps: usize,
    to: *mut f32,
    to_stride: usize,
) {
    macro_rules! dispatch {
        ($($rows:literal)*) => {
            match rows {
                // The condition is constant: tiles larger than the instruction set's are not compiled.
                $($rows if $rows <= MAX => {
                    // SAFETY: the same contract.
                    unsafe { tile::<V, N, $rows>(left, left_stride, panel, steps, to, to_stride) }
                })*
                _ => debug_assert!(false, "{rows} rows in a tile"),
            }
        };
    }
    dispatch!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// Runs a task, panel by panel, so that a panel stays in the first cache while all rows pass it.
///
/// # Safety
/// As [`Vector`]; the task's pointers must be valid for the rows and columns it names, and nobody else may
/// touch the output's at the same time.
#[inline(always)]
pub(super) unsafe fn linear<V: Product<N>, N: Number, const TILE_ROWS: usize>(task: &LinearTask<N>) {
    let columns = 2 * V::LANES;
    let mut sums = Sums([0.0; TILE_ROWS_MAX * TILE_COLUMNS_MAX]);
    let sums = sums.0.as_mut_ptr();
    let tiles = task.rows.div_ceil(TILE_ROWS);
    for panel in 0..task.panel_count {
        for tile in 0..tiles {
            // Tiles of nearly equal height: a tile of one row would leave most of the multipliers waiting.
            let (first, end) = (tile * task.rows / tiles, (tile + 1) * task.rows / tiles);
            // SAFETY: rows and panels are within the task's; `sums` holds the largest tile.
            unsafe {
                tile_of::<V, N, TILE_ROWS>(
                    end - first,
                    task.left.add(first * task.left_stride),
                    task.left_stride,
                    task.panels.add(panel * task.steps * N::STEP * columns),
                    task.steps,
                    sums,
                    columns,
                );
                let bias = task.bias.add(panel * columns);
                task.output.take::<V>(sums, bias, first..end, panel);
            }
        }
    }
}

/// Aligned so that no store crosses a cache line.
#[repr(align(64))]
struct Sums([f32; TILE_ROWS_MAX * TILE_COLUMNS_MAX]);

impl<N: Number> Output<N> {
    /// # Safety
    /// As [`Vector`]; the output must be valid for these rows and the columns of this panel.
    #[inline(always)]
    unsafe fn take<V: Vector>(
        &self,
        sums: *const f32,
        bias: *const f32,
        rows: std::ops::Range<usize>,
        panel: usize,
    ) {
        let columns = 2 * V::LANES;
        for (index, row) in rows.enumerate() {
            // SAFETY: as the caller vouches.
            unsafe {
                let sums = sums.add(index * columns);
                match *self {
                    Output::Store { to, stride, activation } => {
                        let to = to.add(row * stride + panel * columns);
                        for half in [0, V::LANES] {
                            N::store(activation.apply(biased::<V>(sums, bias, half)), to.add(half));
                        }
                    }
                    Output::Add { to, stride } => {
                        let to = to.add(row * stride + panel * columns);
                        for half in [0, V::LANES] {
                            V::load(to.add(half)).add(biased::<V>(sums, bias, half)).store(to.add(half));
                        }
                    }
                    Output::Gate { to, stride, activation } => {
                        let gate = activation.apply(biased::<V>(sums, bias, 0));
                        let gated = gate.mul(biased::<V>(sums, bias, V::LANES));
                        N::store(gated, to.add(row * stride + panel * V::LANES));
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`Vector`], for both pointers behind `at`.
#[inline(always)]
unsafe fn biased<V: Vector>(sums: *const f32, bias: *const f32, at: usize) -> V {
    // SAFETY: as the caller vouches.
    unsafe { V::load(sums.add(at)).add(V::load(bias.add(at))) }
}
