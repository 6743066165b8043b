//! In which letters a text is written.

use crate::segment::count;

/// Bytes of a block that tell whether it is written without capitals.
const STYLE_MAX: usize = 64 << 10;
/// Fewest words of a text that is taken to be written in capitals.
const CAPITALS_MIN: usize = 5;

/// Whether capitals tell anything in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Mixed,
    /// In small letters, as in a chat.
    Small,
    /// In capitals, as in headlines and releases.
    Capitals,
}

impl Style {
    pub(super) fn of(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(STYLE_MAX)];
        count(text.len());
        let (mut capitals, mut small) = (0, 0);
        let (mut all_capitals, mut all_small) = (0, 0);
        let mut is_start = true;
        for c in text.chars() {
            let (is_small, is_capital) = (c.is_lowercase(), c.is_uppercase());
            small += usize::from(is_start && is_small);
            capitals += usize::from(is_start && is_capital);
            all_small += usize::from(is_small);
            all_capitals += usize::from(is_capital);
            // The D of ":D" begins no word.
            is_start = !c.is_alphanumeric() && !matches!(c, '\'' | '’' | '.' | ':' | ';' | '=');
        }
        if capitals * 12 < small {
            Self::Small
        } else if all_small * 12 < all_capitals && capitals >= CAPITALS_MIN {
            Self::Capitals
        } else {
            Self::Mixed
        }
    }
}
