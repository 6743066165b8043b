//! Two small heaps that keep their memory: in the steady state nothing is allocated for a request.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A binary min-heap of dense numbers (`0..n`), each with a key that can be changed and each removable by its
/// number.
#[derive(Debug)]
pub(super) struct IndexedHeap<K> {
    heap: Vec<(K, u32)>,
    /// Where a number stands in `heap`; `ABSENT` if it does not.
    positions: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl<K> Default for IndexedHeap<K> {
    fn default() -> Self {
        Self { heap: Vec::new(), positions: Vec::new() }
    }
}

impl<K: Ord + Copy> IndexedHeap<K> {
    /// The least key and its number.
    pub(super) fn first(&self) -> Option<(K, u32)> {
        self.heap.first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.positions.get(number as usize).is_some_and(|position| *position != ABSENT)
    }

    /// Inserts a number, or gives it another key.
    pub(super) fn set(&mut self, number: u32, key: K) {
        if self.positions.len() <= number as usize {
            self.positions.resize(number as usize + 1, ABSENT);
        }
        let mut position = self.positions[number as usize];
        if position == ABSENT {
            position = self.heap.len() as u32;
            self.heap.push((key, number));
        } else {
            self.heap[position as usize].0 = key;
        }
        self.settle(position as usize);
    }

    /// Takes a number out if it is in.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(position) = self.positions.get(number as usize).copied() else { return };
        if position == ABSENT {
            return;
        }
        self.positions[number as usize] = ABSENT;
        self.heap.swap_remove(position as usize);
        if (position as usize) < self.heap.len() {
            self.settle(position as usize);
        }
    }

    /// Moves the element at `position` to where its key belongs.
    fn settle(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent] <= self.heap[position] {
                break;
            }
            self.swap(parent, position);
            position = parent;
        }
        loop {
            let (left, right) = (2 * position + 1, 2 * position + 2);
            let mut least = position;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child] < self.heap[least] {
                    least = child;
                }
            }
            if least == position {
                break;
            }
            self.swap(least, position);
            position = least;
        }
        let number = self.heap[position].1;
        self.positions[number as usize] = position as u32;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for position in [a, b] {
            let number = self.heap[position].1;
            self.positions[number as usize] = position as u32;
        }
    }
}

/// A min-heap out of whose middle nothing is taken: what has ended elsewhere stays until it comes to the top
/// or until it outnumbers the rest, and is told from the living by a question to the owner.
#[derive(Debug)]
pub(super) struct LazyHeap<T> {
    heap: BinaryHeap<Reverse<T>>,
    dead: usize,
}

/// Below so many dead no cleaning is worth its while.
const DEAD_MIN: usize = 64;

impl<T: Ord> Default for LazyHeap<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), dead: 0 }
    }
}

impl<T: Ord + Copy> LazyHeap<T> {
    pub(super) fn push(&mut self, item: T) {
        self.heap.push(Reverse(item));
    }

    /// The least living item. After every [`bury`](Self::bury) the top is alive.
    pub(super) fn first(&self) -> Option<T> {
        self.heap.peek().map(|Reverse(item)| *item)
    }

    /// Tells that an item died inside.
    pub(super) fn bury(&mut self, is_alive: impl Fn(&T) -> bool) {
        self.dead += 1;
        self.clean_top(&is_alive);
        if self.dead > DEAD_MIN && self.dead * 2 > self.heap.len() {
            self.heap.retain(|Reverse(item)| is_alive(item));
            self.dead = 0;
        }
    }

    fn clean_top(&mut self, is_alive: impl Fn(&T) -> bool) {
        while self.dead > 0 && self.heap.peek().is_some_and(|Reverse(item)| !is_alive(item)) {
            self.heap.pop();
            self.dead -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_indexed_heap_is_a_sorted_map(steps in proptest::collection::vec((0u32..20, proptest::option::of(0u64..50)), 0..200)) {
            let (mut heap, mut map) = (IndexedHeap::default(), BTreeMap::new());
            for (number, key) in steps {
                match key {
                    Some(key) => {
                        heap.set(number, key);
                        map.insert(number, key);
                    }
                    None => {
                        heap.remove(number);
                        map.remove(&number);
                    }
                }
                prop_assert_eq!(heap.first(), map.iter().map(|(number, key)| (*key, *number)).min());
                prop_assert_eq!(heap.is_empty(), map.is_empty());
                prop_assert!((0..20).all(|number| heap.contains(number) == map.contains_key(&number)));
            }
        }

        #[test]
        fn the_lazy_heap_shows_the_living_only(steps in proptest::collection::vec((0u8..3, 0u32..40), 0..400)) {
            let (mut heap, mut alive) = (LazyHeap::default(), BTreeSet::new());
            for (number, (step, which)) in (0u32..).zip(steps) {
                match step {
                    0 | 1 => {
                        alive.insert((which, number));
                        heap.push((which, number));
                    }
                    _ => {
                        if let Some(dead) = alive.iter().nth(which as usize % alive.len().max(1)).copied() {
                            alive.remove(&dead);
                            heap.bury(|item| alive.contains(item));
                        }
                    }
                }
                prop_assert_eq!(heap.first(), alive.first().copied());
            }
            while let Some(item) = heap.first() {
                prop_assert_eq!(alive.pop_first(), Some(item));
                heap.bury(|item| alive.contains(item));
            }
            prop_assert!(alive.is_empty());
        }
    }
}
