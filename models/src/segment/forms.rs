//! What a word is by its form: a number, a verse, a time.

use super::scan::{First, Stop, Word};
use super::words::{self, Class};

/// IV, A, §, #5, or another abbreviation that a number follows: "Ref. No."
pub(super) fn is_number(next: &Word<'_>) -> bool {
    let stem = next.stem.trim_matches(|c: char| !c.is_alphanumeric());
    let is_letter = stem.len() == 1 && stem != "I" && stem != "A" && stem.starts_with(char::is_uppercase);
    let is_abbreviation = next.stop == Stop::Dot
        && matches!(
            words::class(next.stem, &next.lower(), false),
            Some(Class::Numbered | Class::NumberedWord)
        );
    (words::is_roman(stem) && stem != "I")
        || is_letter
        || is_abbreviation
        || next.text.starts_with(['#', '§', '№'])
}

/// `4:8`
pub(super) fn is_verse(next: &Word<'_>) -> bool {
    let Some((chapter, verse)) = next.stem.split_once(':') else { return false };
    !chapter.is_empty()
        && chapter.len() <= 3
        && chapter.bytes().all(|b| b.is_ascii_digit())
        && verse.starts_with(|c: char| c.is_ascii_digit())
}

/// `Q1`, the number of a question; at the start of a sentence only.
pub(super) fn is_question(stem: &str) -> bool {
    let number = stem.trim_start_matches(|c: char| c.is_ascii_uppercase());
    stem.len() == number.len() + 1
        && (1..=3).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// `02110`, `02110-1234`: the number of a place behind its state.
pub(super) fn is_zip(next: &Word<'_>) -> bool {
    let number = next.stem.trim_end_matches([',', ';', ':', ')']);
    let (place, rest) = number.split_once('-').unwrap_or((number, ""));
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    place.len() == 5 && are_digits(place) && matches!(rest.len(), 0 | 4) && are_digits(rest)
}

/// Whether a letter is that of a temperature before the next sentence: "98.6 F. HR 72."
pub(super) fn is_temperature(before: Option<&Word<'_>>, word: &Word<'_>, next: &Word<'_>) -> bool {
    matches!(word.stem, "F" | "C")
        && before.is_some_and(|before| before.first == First::Digit && before.stop == Stop::None)
        && next.first == First::Capital
        && next.stop == Stop::None
}

/// `4:30`
pub(super) fn is_time(next: &Word<'_>) -> bool {
    next.stem
        .split_once(':')
        .is_some_and(|(_, minutes)| minutes.len() == 2 && minutes.bytes().all(|b| b.is_ascii_digit()))
}
