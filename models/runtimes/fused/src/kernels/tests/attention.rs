//! Attention over windows, for groups of heads, and with every bias.

use std::ops::Range;

use half::bf16;
use models_core::weights::LinearWeights;

use super::super::super::buffer::Buffer;
use super::super::super::packing::PackedLinear;
use super::super::*;
use super::*;

/// What attention is asked for.
#[derive(Debug, Clone)]
struct Case {
    length: usize,
    head: usize,
    heads: usize,
    queries: Range<usize>,
    before: usize,
    behind: usize,
    bias: Added,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Added {
    Nothing,
    Distance,
    /// With rows of positions; whether queries and whether keys meet them.
    Disentangled(usize, bool, bool),
}

#[test]
fn attention() {
    fn check<N: Rounded>() {
        for kernels in N::available() {
            for (length, head) in [
                (1, 1),
                (2, 4),
                (5, 3),
                (16, 32),
                (33, 7),
                (127, 16),
                (128, 32),
                (129, 32),
                (300, 20),
                (140, 64),
            ] {
                let all = Case {
                    length,
                    head,
                    heads: 1,
                    queries: 0..length,
                    before: length,
                    behind: length,
                    bias: Added::Nothing,
                };
                attend::<N>(kernels, &all);
                attend::<N>(kernels, &Case { queries: length / 3..length.div_ceil(2), ..all.clone() });
                attend::<N>(kernels, &Case { heads: 3, behind: 0, ..all.clone() });
                attend::<N>(kernels, &Case { heads: 2, bias: Added::Distance, ..all.clone() });
                for window in [0, 1, 9, 64] {
                    attend::<N>(kernels, &Case { before: window, behind: window, ..all.clone() });
                    attend::<N>(kernels, &Case { before: window, behind: 0, ..all.clone() });
                }
                for (to_positions, from_keys) in [(true, true), (true, false), (false, true)] {
                    let bias = Added::Disentangled(24, to_positions, from_keys);
                    attend::<N>(kernels, &Case { heads: 2, bias, ..all.clone() });
                }
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

/// Sequences whose keys take more than one chunk, where what is known of queries is kept between them.
#[test]
fn attention_over_chunks() {
    fn check<N: Rounded>() {
        for kernels in N::available() {
            for length in [513, 1100] {
                let queries = length - 90..length;
                let all = Case {
                    length,
                    head: 5,
                    heads: 1,
                    queries,
                    before: length,
                    behind: length,
                    bias: Added::Nothing,
                };
                attend::<N>(kernels, &all);
                attend::<N>(kernels, &Case { heads: 2, behind: 0, bias: Added::Distance, ..all.clone() });
                let middle = Case { queries: 490..530.min(length), ..all.clone() };
                attend::<N>(kernels, &Case { behind: 0, ..middle.clone() });
                attend::<N>(kernels, &Case { before: 20, behind: 20, ..middle.clone() });
                attend::<N>(kernels, &Case { before: 505, behind: 3, ..middle.clone() });
                attend::<N>(kernels, &Case { bias: Added::Disentangled(64, true, true), ..middle });
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

/// The row of positions for a key so far behind its query.
fn position_row(rows: usize, distance: isize) -> usize {
    // Steps of three: neighbouring distances share rows, as far ones do in logarithmic buckets.
    let half = (rows / 2).cast_signed();
    (half - distance.div_euclid(3)).clamp(0, rows.cast_signed() - 1).unsigned_abs()
}

fn attend<N: Rounded>(kernels: &Kernels<N>, case: &Case) {
    let Case { length, head, heads, before, behind, bias, .. } = *case;
    let queries = case.queries.clone();
    let context = format!("{} {case:?}", kernels.name);
    // Heads of queries, then the one key and value that they share.
    let width = (heads + 2) * head;
    let stride = width.next_multiple_of(32);
    let mut values = random(5, length * width);
    // Scores of some ten, so that the largest of one block of keys differs from the next one's.
    let queries_of = |row: &mut [f32]| row[..heads * head].iter_mut().for_each(|query| *query *= 6.0);
    values.chunks_exact_mut(width).for_each(queries_of);
    let mut buffer = rows::<N>(&values, width, stride, kernels.lanes);
    // What is behind the last row must not matter.
    buffer.as_mut_slice::<N>()[length * stride..].fill(N::from_f32(f32::NAN));
    let mut output = Buffer::zeroed::<N>((length + 1) * stride);
    output.as_mut_slice::<N>().fill(N::from_f32(UNTOUCHED));
    let positions = if let Added::Disentangled(rows, ..) = bias { rows } else { 0 };
    let scratch = [
        Buffer::zeroed::<N>(keys_len(length, head)),
        Buffer::zeroed::<N>(values_len(length, head)),
        Buffer::zeroed::<N>(WEIGHTS_LEN),
        Buffer::zeroed::<f32>(WEIGHTS_LEN),
        Buffer::zeroed::<f32>(sums_len(length, head)),
        Buffer::zeroed::<f32>(STATE_LEN),
        Buffer::zeroed::<f32>(from_queries_len(positions)),
        Buffer::zeroed::<f32>(from_keys_len(length, positions)),
    ];
    let [keys, packed, weights, scores, sums, state, from_queries, from_keys] = &scratch;
    let tables = BiasTables::<N>::new(kernels, case);
    let task = AttentionTask {
        query: buffer.pointer::<N>(0),
        key: buffer.pointer::<N>(heads * head),
        value: buffer.pointer::<N>((heads + 1) * head),
        stride,
        length,
        head,
        heads,
        first: queries.start,
        end: queries.end,
        before,
        behind,
        bias: tables.bias(case),
        output: output.pointer::<N>(0),
        output_stride: stride,
        scratch: AttentionScratch {
            keys: keys.pointer(0),
            values: packed.pointer(0),
            weights: weights.pointer(0),
            scores: scores.pointer(0),
            sums: sums.pointer(0),
            state: state.pointer(0),
            from_queries: from_queries.pointer(0),
            from_keys: from_keys.pointer(0),
        },
    };
    // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
    unsafe { (kernels.attend)(&task) }
    for query in 0..length {
        let found = &output.as_mut_slice::<N>()[query * stride..(query + 1) * stride];
        let untouched = if queries.contains(&query) { heads * head } else { 0 };
        let is_untouched = |found: &N| found.value() == f64::from(UNTOUCHED);
        assert!(found[untouched..].iter().all(is_untouched), "{context}: query {query}");
        for (of_head, found) in found[..untouched].chunks_exact(head).enumerate() {
            let expected = reference::<N>(case, &values, &tables, of_head, query);
            for (found, expected) in found.iter().zip(expected) {
                assert_near(found.value(), expected, 5e-5 + 2.0 * N::EPSILON, &context);
            }
        }
    }
}

/// One query's result in float64.
fn reference<N: Rounded>(
    case: &Case,
    values: &[f32],
    tables: &BiasTables<N>,
    of_head: usize,
    query: usize,
) -> Vec<f64> {
    let Case { length, head, heads, .. } = *case;
    let number = |row: usize, part: usize, at: usize| {
        N::from_f32(values[row * (heads + 2) * head + part * head + at]).value()
    };
    let seen = query.saturating_sub(case.before)..length.min(query + case.behind + 1);
    let score = |key: usize| -> f64 {
        let product: f64 = (0..head).map(|at| number(query, of_head, at) * number(key, heads, at)).sum();
        let distance = key.cast_signed() - query.cast_signed();
        let added = match case.bias {
            Added::Nothing => 0.0,
            Added::Distance => {
                let stride = 2 * length - 1 + TILE_COLUMNS_MAX;
                f64::from(tables.distances[of_head * stride + length - 1 + key - query])
            }
            Added::Disentangled(rows, to_positions, from_keys) => {
                let row = position_row(rows, distance);
                let position = |table: &[f32], at: usize| {
                    N::from_f32(table[(of_head * tables.filled + row) * head + at]).value()
                };
                let of_query = (0..head).map(|at| number(query, of_head, at) * position(&tables.keys, at));
                let of_key = (0..head).map(|at| number(key, heads, at) * position(&tables.queries, at));
                f64::from(to_positions) * of_query.sum::<f64>() + f64::from(from_keys) * of_key.sum::<f64>()
            }
        };
        product + added
    };
    let scores: Vec<f64> = seen.clone().map(score).collect();
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let sum = |at: usize| -> f64 {
        seen.clone().zip(&weights).map(|(key, weight)| weight / total * number(key, heads + 1, at)).sum()
    };
    (0..head).map(sum).collect()
}

/// Tables of a case's bias, and how the kernel takes them.
struct BiasTables<N> {
    distances: Vec<f32>,
    row_of: Vec<u32>,
    /// Rows of a head's positions, with those that fill its last panel.
    filled: usize,
    keys: Vec<f32>,
    queries: Vec<f32>,
    packed: [PackedLinear<N>; 2],
}

impl<N: Rounded> BiasTables<N> {
    fn new(kernels: &Kernels<N>, case: &Case) -> Self {
        let Case { length, head, heads, bias, .. } = *case;
        let rows = if let Added::Disentangled(rows, ..) = bias { rows } else { 0 };
        let filled = rows.next_multiple_of(kernels.columns);
        let row_of = |at: usize| position_row(rows, at.cast_signed() + 1 - length.cast_signed()) as u32;
        let [keys, queries] = [21, 22].map(|seed| random(seed, heads * filled * head));
        let pack = |weight: &Vec<f32>| {
            let bias = vec![0.0; heads * filled];
            PackedLinear::new(kernels, &LinearWeights { weight: weight.clone(), bias })
        };
        Self {
            distances: random(20, heads * (2 * length - 1 + TILE_COLUMNS_MAX))
                .iter()
                .map(|x| 3.0 * x)
                .collect(),
            row_of: if rows > 0 { (0..2 * length - 1).map(row_of).collect() } else { Vec::new() },
            filled,
            packed: [pack(&keys), pack(&queries)],
            keys,
            queries,
        }
    }

    fn bias(&self, case: &Case) -> Bias<N> {
        let zero = case.length - 1;
        match case.bias {
            Added::Nothing => Bias::None,
            Added::Distance => Bias::Distance {
                table: self.distances[zero..].as_ptr(),
                stride: 2 * case.length - 1 + TILE_COLUMNS_MAX,
            },
            Added::Disentangled(rows, to_positions, from_keys) => {
                let [keys, queries] = &self.packed;
                let panels = |is_there: bool, layer: &PackedLinear<N>| {
                    if is_there { layer.panel(0) } else { std::ptr::null() }
                };
                Bias::Disentangled(Disentangled {
                    position_keys: panels(to_positions, keys),
                    position_queries: panels(from_keys, queries),
                    stride: keys.panels_of(rows) * keys.panel_len(),
                    row_of: self.row_of[zero..].as_ptr(),
                    rows,
                })
            }
        }
    }
}
