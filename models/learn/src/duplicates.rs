//! Examples that are nearly the same and have different classes.

use std::ops::Range;

use crate::data::Examples;
use crate::folds::Chance;
use crate::products::{Rows, dot, each, rows_by_rows};
use crate::report::Duplicate;

/// Cosine from which two texts are nearly the same.
const COSINE_MIN: f32 = 0.95;
/// Products that may be computed for it: about a second on two cores.
const PRODUCTS_MAX: u64 = 60_000_000_000;
/// Rows that are compared at a time.
const TILE_ROWS: usize = 512;
/// Directions along which examples are sorted where not all can be compared.
const DIRECTIONS: usize = 4;
/// Pairs that are kept of one tile with another: more are told of only by their number being cut.
const TILE_PAIRS_MAX: usize = 1_000;

/// The nearest pairs of different classes, and whether all pairs were looked at.
///
/// Where those would be too many, examples are sorted along random directions, in which near ones are near,
/// and each is compared with its neighbours there.
pub(crate) fn across_classes(
    examples: &Examples,
    pairs_max: usize,
    seed: u64,
    threads: usize,
) -> (Vec<Duplicate>, bool) {
    let (rows, columns) = (examples.len(), examples.columns());
    let tiles = rows.div_ceil(TILE_ROWS);
    let tile_products = (TILE_ROWS * TILE_ROWS * columns) as u64;
    let tiles_max = (PRODUCTS_MAX / tile_products.max(1)) as usize;
    let is_exhaustive = tiles * (tiles + 1) / 2 <= tiles_max;
    let mut found = Vec::new();
    if is_exhaustive {
        let order: Vec<usize> = (0..rows).collect();
        compare(examples, &order, examples.vectors(), tiles, threads, &mut found);
    } else {
        let reach = (tiles_max / (DIRECTIONS * tiles)).max(1);
        let mut chance = Chance::new(seed);
        for _ in 0..DIRECTIONS {
            let direction: Vec<f32> =
                (0..columns).map(|_| (chance.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect();
            let along = examples.vectors().chunks_exact(columns).map(|row| dot(row, &direction));
            let mut order: Vec<(f64, usize)> = along.enumerate().map(|(at, along)| (along, at)).collect();
            order.sort_unstable_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
            let order: Vec<usize> = order.into_iter().map(|(_, at)| at).collect();
            let sorted: Vec<f32> = order
                .iter()
                .flat_map(|at| &examples.vectors()[at * columns..(at + 1) * columns])
                .copied()
                .collect();
            compare(examples, &order, &sorted, reach, threads, &mut found);
        }
    }
    found.sort_unstable_by(|left: &Duplicate, right| {
        let by_cosine = right.cosine.total_cmp(&left.cosine);
        by_cosine.then((left.first, left.second).cmp(&(right.first, right.second)))
    });
    found.dedup_by_key(|pair| (pair.first, pair.second));
    found.truncate(pairs_max);
    (found, is_exhaustive)
}

/// Compares each tile of rows with itself and the `reach` next ones.
fn compare(
    examples: &Examples,
    order: &[usize],
    vectors: &[f32],
    reach: usize,
    threads: usize,
    found: &mut Vec<Duplicate>,
) {
    let rows = Rows { values: vectors, columns: examples.columns() };
    let tile = |at: usize| at * TILE_ROWS..((at + 1) * TILE_ROWS).min(order.len());
    let tiles = order.len().div_ceil(TILE_ROWS);
    let all: Vec<(Range<usize>, Vec<Range<usize>>)> =
        (0..tiles).map(|at| (tile(at), (at..(at + reach + 1).min(tiles)).map(tile).collect())).collect();
    let pairs = each(&all, threads, |(left, others)| {
        let mut pairs = Vec::new();
        let mut cosines = Vec::new();
        for right in others {
            cosines.clear();
            cosines.resize(left.len() * right.len(), 0.0);
            rows_by_rows(rows.slice(left), rows.slice(right), &mut cosines);
            let near = cosines.iter().enumerate().filter(|(_, cosine)| **cosine >= COSINE_MIN);
            let near = near.filter_map(|(at, cosine)| {
                let (left, right) = (left.start + at / right.len(), right.start + at % right.len());
                let (first, second) = (order[left].min(order[right]), order[left].max(order[right]));
                let targets = examples.targets();
                let is_other = left < right && targets.of(first) != targets.of(second);
                is_other.then_some(Duplicate { first, second, cosine: cosine.min(1.0) })
            });
            pairs.extend(near.take(TILE_PAIRS_MAX));
        }
        pairs
    });
    found.extend(pairs.into_iter().flatten());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Targets;

    /// Examples on a circle, two of which are nearly the same and have other classes, and two the same class.
    #[test]
    fn pairs_across_classes_alone() {
        let angles = [0.0_f32, 1.0, 1.01, 2.0, 2.01, 3.0];
        let vectors = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        let examples = Examples::new(vectors, 2, 2, Targets::One(vec![0, 0, 1, 1, 1, 0])).unwrap();
        let (found, is_exhaustive) = across_classes(&examples, 10, 1, 2);
        assert!(is_exhaustive);
        assert_eq!(found.iter().map(|pair| (pair.first, pair.second)).collect::<Vec<_>>(), [(1, 2)]);
        assert!((found[0].cosine - 0.01_f32.cos()).abs() < 1e-6);
    }

    /// The same pairs are found from neighbours in any order that has them near.
    #[test]
    fn neighbours_in_order() {
        let rows = TILE_ROWS * 3;
        let angle = |at: usize| at as f32 * 0.002;
        let vectors: Vec<f32> = (0..rows).flat_map(|at| [angle(at).cos(), angle(at).sin()]).collect();
        let targets = Targets::One((0..rows).map(|at| u32::from(at == TILE_ROWS)).collect());
        let examples = Examples::new(vectors.clone(), 2, 2, targets).unwrap();
        let order: Vec<usize> = (0..rows).collect();
        let mut found = Vec::new();
        compare(&examples, &order, &vectors, 1, 2, &mut found);
        assert!(found.iter().any(|pair| (pair.first, pair.second) == (TILE_ROWS - 1, TILE_ROWS)));
        assert!(found.iter().all(|pair| pair.first == TILE_ROWS || pair.second == TILE_ROWS));
    }
}
