//! Which examples are held out together.

use std::ops::Range;

use crate::data::Examples;

/// Numbers by chance, from a seed (SplitMix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to `end`; the bias is below `end / 2^64`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Examples in the order of their folds, and behind them those that are never held out.
pub(crate) struct Folds {
    /// Where each example of the new order was before.
    pub(crate) order: Vec<usize>,
    /// The rows of each fold, in the new order.
    pub(crate) held_out: Vec<Range<usize>>,
}

impl Folds {
    /// The examples of each class are dealt in turn, so that folds have as many of each as can be. Where an
    /// example has several classes, its rarest counts. The only example of a class is never held out: nothing
    /// could be learnt of its class without it.
    pub(crate) fn new(examples: &Examples, folds: usize, seed: u64) -> Self {
        let counts = examples.counts();
        let mut by_class = vec![Vec::new(); examples.classes() + 1];
        for example in 0..examples.len() {
            let classes = examples.targets().of(example).iter().map(|class| *class as usize);
            // Examples of no class are a class of their own.
            let rarest = classes.min_by_key(|class| counts[*class]).unwrap_or(examples.classes());
            by_class[rarest].push(example);
        }
        let mut chance = Chance::new(seed);
        let mut dealt = vec![Vec::new(); folds];
        let mut kept = Vec::new();
        let mut turn = 0;
        for mut members in by_class {
            if members.len() < 2 {
                kept.append(&mut members);
                continue;
            }
            chance.shuffle(&mut members);
            for member in members {
                dealt[turn % folds].push(member);
                turn += 1;
            }
        }
        let mut order = Vec::with_capacity(examples.len());
        let mut held_out = Vec::with_capacity(folds);
        for mut members in dealt {
            let start = order.len();
            order.append(&mut members);
            held_out.push(start..order.len());
        }
        order.append(&mut kept);
        held_out.retain(|rows| !rows.is_empty());
        Self { order, held_out }
    }

    /// The rows that are learnt from while a fold is held out.
    pub(crate) fn learnt_from(&self, fold: &Range<usize>) -> [Range<usize>; 2] {
        [0..fold.start, fold.end..self.order.len()]
    }

    /// How many examples are held out once.
    pub(crate) fn held_out_len(&self) -> usize {
        self.held_out.last().map_or(0, |rows| rows.end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Targets;

    #[test]
    fn each_class_is_spread_over_the_folds() {
        let targets: Vec<u32> = (0..103)
            .map(|at| {
                if at < 51 {
                    0
                } else if at < 102 {
                    1 + at % 2
                } else {
                    3
                }
            })
            .collect();
        let examples = Examples::new(vec![1.0; 103], 1, 4, Targets::One(targets.clone())).unwrap();
        let folds = Folds::new(&examples, 5, 7);
        let mut sorted = folds.order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..103).collect::<Vec<_>>());
        assert_eq!((folds.held_out.len(), folds.held_out_len()), (5, 102));
        assert_eq!(folds.order[102], 102, "the only one of its class is always learnt from");
        for fold in &folds.held_out {
            for (class, count) in [(0, 51_usize), (1, 25), (2, 26)] {
                let members = folds.order[fold.clone()].iter().filter(|at| targets[**at] == class).count();
                assert!((count / 5..=count.div_ceil(5)).contains(&members), "{class}: {members}");
            }
        }
        assert_eq!(folds.order, Folds::new(&examples, 5, 7).order);
        assert_ne!(folds.order, Folds::new(&examples, 5, 8).order);
    }
}
