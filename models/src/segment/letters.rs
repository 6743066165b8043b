//! Letters with dots: `U.S`, `J.-P`.

use super::words;

/// Letters with dots between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letters {
    pub(super) count: usize,
    pub(super) is_small: bool,
}

impl Letters {
    /// Of a stem, that is without its last dot.
    pub(super) fn of(stem: &str) -> Option<Self> {
        if stem.len() > words::WORD_MAX {
            return None;
        }
        let mut count = 0;
        let mut is_small = true;
        for part in stem.split('.') {
            // "J.-P." is two of them.
            let part = part.strip_prefix('-').unwrap_or(part);
            let mut letters = part.chars();
            let letter = letters.next().filter(|c| c.is_alphabetic())?;
            if letters.next().is_some() {
                return None;
            }
            is_small &= letter.is_lowercase();
            count += 1;
        }
        // Letters of scripts without capitals are words.
        let has_case = stem.chars().any(|c| c.is_lowercase() || c.is_uppercase());
        has_case.then_some(Self { count, is_small })
    }
}
