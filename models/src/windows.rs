//! Windows over texts longer than a model reads at once.

use std::ops::Range;

use models_core::tasks::Truncation;

/// The windows to read of a text of `tokens` tokens, each of at most `capacity`; `None` if it is to be
/// refused.
///
/// Windows are balanced: as few as possible, of equal size but for the last, so that none is a tiny rest
/// without context. Neighbours share `overlap` tokens.
pub(crate) fn cut(
    tokens: usize,
    capacity: usize,
    overlap: usize,
    truncation: Truncation,
) -> Option<Vec<Range<usize>>> {
    if tokens <= capacity {
        return Some(std::iter::once(0..tokens).collect());
    }
    match truncation {
        Truncation::Error => None,
        Truncation::End => Some(std::iter::once(0..capacity).collect()),
        Truncation::Start => Some(std::iter::once(tokens - capacity..tokens).collect()),
        Truncation::Stride => Some(stride(tokens, capacity, overlap)),
    }
}

/// For each token read, the window in which it has most context, as one range for each window: overlaps are
/// cut in the middle.
pub(crate) fn owners(windows: &[Range<usize>]) -> Vec<Range<usize>> {
    let middle = |left: &Range<usize>, right: &Range<usize>| right.start + (left.end - right.start) / 2;
    (0..windows.len())
        .map(|i| {
            let start = if i == 0 { windows[0].start } else { middle(&windows[i - 1], &windows[i]) };
            let end = windows.get(i + 1).map_or(windows[i].end, |next| middle(&windows[i], next));
            start..end
        })
        .collect()
}

fn stride(tokens: usize, capacity: usize, overlap: usize) -> Vec<Range<usize>> {
    // A card's overlap is below its window; half the capacity keeps every step forward for any card.
    let overlap = overlap.min(capacity / 2);
    let count = (tokens - overlap).div_ceil((capacity - overlap).max(1));
    let size = (tokens + (count - 1) * overlap).div_ceil(count);
    let step = size - overlap;
    (0..count).map(|i| (i * step).min(tokens)..(i * step + size).min(tokens)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_by_truncation() {
        let check = |tokens, truncation, expected: Option<&[(usize, usize)]>| {
            let windows = cut(tokens, 10, 4, truncation);
            let found = windows.map(|windows| windows.iter().map(|w| (w.start, w.end)).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), expected, "{tokens} {truncation:?}");
        };
        for truncation in [Truncation::Stride, Truncation::Error, Truncation::End, Truncation::Start] {
            check(10, truncation, Some(&[(0, 10)]));
        }
        check(11, Truncation::Error, None);
        check(11, Truncation::End, Some(&[(0, 10)]));
        check(11, Truncation::Start, Some(&[(1, 11)]));
        check(11, Truncation::Stride, Some(&[(0, 8), (4, 11)]));
        check(17, Truncation::Stride, Some(&[(0, 9), (5, 14), (10, 17)]));
    }

    proptest! {
        #[test]
        fn strides_cover_everything(tokens in 1usize..5000, capacity in 2usize..600, overlap in 0usize..200) {
            let windows = cut(tokens, capacity, overlap, Truncation::Stride).unwrap();
            prop_assert_eq!(windows[0].start, 0);
            prop_assert_eq!(windows.last().unwrap().end, tokens);
            let shared = overlap.min(capacity / 2);
            for window in &windows {
                prop_assert!(window.len() <= capacity && !window.is_empty());
            }
            for pair in windows.windows(2) {
                prop_assert!(pair[0].start < pair[1].start && pair[1].start <= pair[0].end);
                prop_assert!(pair[0].end - pair[1].start >= shared.min(pair[1].len()));
            }
            let owners = owners(&windows);
            let owned: Vec<usize> = owners.iter().cloned().flatten().collect();
            prop_assert_eq!(owned, (0..tokens).collect::<Vec<_>>());
            for (owner, window) in owners.iter().zip(&windows) {
                prop_assert!(window.start <= owner.start && owner.end <= window.end);
            }
        }
    }
}
