//! Citations of courts, statutes and journals go on behind their many dots: "Fed. R. Civ. P. 12(b)",
//! "540 F. Supp. 2d 12 (9th Cir. 1999)", "Pub. L. No. 104-191", "Harv. L. Rev.", "Cal. Civ. Code § 1714".
//! It is told by what follows rather than by lists.

use std::collections::VecDeque;

use super::scan::{First, Stop, Word};
use super::words::{self, Class};

/// Longest abbreviation that is in no table, in characters.
const UNKNOWN_MAX: usize = 6;

/// Whether a citation goes on behind a word with a dot, which may be the first of its sentence.
pub(super) fn goes_on(word: &Word<'_>, ahead: &VecDeque<Word<'_>>, is_first: bool) -> bool {
    let (Some(next), behind) = (ahead.front(), ahead.get(1)) else { return false };
    if word.first == First::Digit {
        return false;
    }
    let lower = word.lower();
    let is_number = |word: Option<&Word<'_>>| word.is_some_and(|word| word.first == First::Digit);
    let class = words::class(word.stem, &lower, false);
    let is_single = word.stem.chars().count() == 1;
    let is_unknown = word.first == First::Capital
        && word.stem.chars().count() <= UNKNOWN_MAX
        && !words::is_ending(&lower)
        && !words::is_short_word(&lower);
    match next.text {
        // "id. at 45", "Compl. at ¶ 3"
        "at" => {
            let is_place = behind.is_some_and(|word| word.first == First::Digit || is_sign(word.text));
            is_place && (matches!(lower.as_str(), "id" | "ibid") || class.is_some())
        }
        // "Code Ann. § 5", "See Compl. ¶ 12"
        // "It was sold in Oslo. §2. The buyer pays."
        text if is_sign(text) && next.stop == Stop::Dot && text.len() > '§'.len_utf8() + 1 => {
            class.is_some()
        }
        text if is_sign(text) => {
            class.is_some() || is_single || is_unknown || matches!(lower.as_str(), "ann" | "id")
        }
        // "F. Supp. 2d 12", "So. 2d 5"
        text if is_series(text) => is_number(behind) && word.first == First::Capital,
        // "(3d Cir. 1999)"
        text if is_year_at_end(text) => word.first == First::Capital,
        // "Pub. L. No. 104-191", "Reg. No. 12", "Inv. No. 4711", "Cat. No. 7"
        "No." | "Nos." | "no." | "nos." => {
            let is_short =
                is_single || matches!(class, Some(class) if class != Class::Name) || (is_first && is_unknown);
            is_number(behind) && is_short && lower != "no" && !words::is_month(&lower)
        }
        // "Harv. L. Rev. 12"
        _ => {
            let is_letter =
                next.stop == Stop::Dot && next.stem.len() == 1 && next.stem.starts_with(char::is_uppercase);
            let is_cited = behind.is_some_and(|word| {
                word.stop == Stop::Dot
                    && matches!(
                        words::class(word.stem, &word.lower(), false),
                        Some(Class::Numbered | Class::NumberedWord)
                    )
                    || matches!(word.stem, "Rev" | "J" | "Q")
            });
            is_unknown && is_letter && is_cited
        }
    }
}

/// `§`, `¶¶`, `§12`
fn is_sign(text: &str) -> bool {
    text.starts_with(['§', '¶'])
}

/// `2d`, `4th`: the series of a reporter.
fn is_series(text: &str) -> bool {
    matches!(text, "2d" | "3d" | "4th" | "5th" | "6th" | "7th" | "8th" | "9th")
}

/// `1999)`
fn is_year_at_end(text: &str) -> bool {
    let year: &str = text.split(')').next().unwrap_or("");
    year.len() < text.len() && year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit())
}
