//! The words of a sentence, so that those which say the same in the same words can be told: without case,
//! marks, forms of letters and what takes no place, and without the mark of an item or the time of a message
//! that stands before it. What changes what is said counts as a word: the mark of a question, the sign of a
//! number, its currency or percent.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::GeneralCategory as Category;

use crate::characters::{category, is_invisible};
use crate::segment::{is_grammar, is_item_mark, is_line_break};

/// Marks before a sentence, one within the other: `> - 3.`
const MARKS_MAX: usize = 4;
/// Digits of the number of an item; a year is none.
const NUMBER_MAX: usize = 3;

/// The words of a sentence.
pub(super) fn words(sentence: &str) -> Vec<String> {
    let sentence = unbroken(sentence);
    let plain = ComposingNormalizerBorrowed::new_nfkc().normalize(&sentence);
    let plain = without_emphasis(&plain);
    let plain = unmarked(&plain).to_lowercase();
    let Some(last) = plain.rfind(char::is_alphanumeric) else { return Vec::new() };
    let mut words: Vec<String> = Vec::new();
    let mut is_word = false;
    // Whether a sign stands before what follows, as it does behind white space only.
    let (mut is_negative, mut is_begun) = (false, false);
    for c in plain.chars() {
        if c.is_alphanumeric() {
            match words.last_mut() {
                Some(word) if is_word => word.push(c),
                _ if is_negative && c.is_numeric() => words.push(format!("-{c}")),
                _ => words.push(c.to_string()),
            }
            (is_word, is_negative, is_begun) = (true, false, true);
            continue;
        }
        is_word = false;
        if is_sign(c) {
            words.push(c.to_string());
        }
        let is_minus = matches!(c, '-' | '−' | '–') && !is_begun;
        is_negative = !c.is_whitespace() && (is_negative || is_minus);
        is_begun &= !c.is_whitespace();
    }
    if plain[last..].contains(['?', '؟']) {
        words.push("?".to_owned());
    }
    words
}

/// Whether sentences say different things if one has this word and the other has not: a number, what it is
/// of, or the mark of a question.
pub(super) fn is_figure(word: &str) -> bool {
    word == "?" || word.contains(|c: char| c.is_numeric() || is_sign(c))
}

/// What makes another thing of a number: a currency, or percent.
fn is_sign(c: char) -> bool {
    matches!(c, '%' | '‰') || category(c) == Category::CurrencySymbol
}

/// Without the marks of bold and slanted letters and of code: `**1.**` is a mark of an item.
fn without_emphasis(sentence: &str) -> Cow<'_, str> {
    const MARKS: [char; 4] = ['*', '_', '`', '~'];
    if !sentence.contains(MARKS) {
        return Cow::Borrowed(sentence);
    }
    let mut bare = String::with_capacity(sentence.len());
    let mut was_word = false;
    let mut characters = sentence.chars().peekable();
    while let Some(c) = characters.next() {
        // One within a word, as in "file_name", is of it.
        let is_within = was_word && characters.peek().is_some_and(|next| next.is_alphanumeric());
        if !MARKS.contains(&c) || is_within {
            bare.push(c);
        }
        was_word = c.is_alphanumeric();
    }
    Cow::Owned(bare)
}

/// Without what takes no place, and with words whole that a hyphen parts at the end of a line.
fn unbroken(sentence: &str) -> Cow<'_, str> {
    if !sentence.contains(|c| is_invisible(c) || is_line_break(c)) {
        return Cow::Borrowed(sentence);
    }
    let mut whole = String::with_capacity(sentence.len());
    let mut characters = sentence.chars().filter(|c| !is_invisible(*c)).peekable();
    while let Some(c) = characters.next() {
        let is_hyphen = matches!(c, '-' | '\u{2010}');
        if !(is_hyphen
            && whole.ends_with(char::is_alphabetic)
            && characters.peek().is_some_and(|c| is_line_break(*c)))
        {
            whole.push(c);
            continue;
        }
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        if !characters.peek().is_some_and(|c| c.is_lowercase()) {
            whole.push(c);
        }
    }
    Cow::Owned(whole)
}

/// Without the marks before a sentence: `3.`, `(b)`, `> -`, `Step 2:`, `[10:02]`. A number is one if a mark
/// or the beginning of a sentence is behind it: "3 ships sailed" has none.
fn unmarked(sentence: &str) -> &str {
    let mut rest = sentence.trim_start();
    for _ in 0..MARKS_MAX {
        let Some(length) = mark(rest).filter(|length| rest[*length..].contains(char::is_alphanumeric)) else {
            break;
        };
        rest = rest[length..].trim_start();
    }
    rest
}

/// The length of the mark that a text begins with.
fn mark(text: &str) -> Option<usize> {
    let word = text.split(char::is_whitespace).next().unwrap_or("");
    let behind = text[word.len()..].trim_start();
    if !word.contains(char::is_alphanumeric) {
        return Some(word.len());
    }
    if let Some(length) = stamp(text).or_else(|| label(text)) {
        return Some(length);
    }
    let next = behind.split(char::is_whitespace).next().unwrap_or("");
    let next = next.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let begins_anew = behind.starts_with(char::is_uppercase) && is_grammar(&next);
    let is_note = word.starts_with(['[', '(']) && is_number(word.trim_matches(['[', ']', '(', ')', '.']));
    if is_note || is_number(word) && (begins_anew || behind.starts_with(['-', '–', '—'])) {
        return Some(word.len());
    }
    is_item_mark(word, &next).then_some(word.len())
}

/// `3`, `1.2`, `3:`, `#3`, `§3`
fn is_number(word: &str) -> bool {
    let number = word.trim_start_matches(['#', '§', '№']).trim_end_matches([':', '.', ')', '\u{20e3}']);
    let number = number.strip_prefix(['Q', 'A']).unwrap_or(number);
    !number.is_empty()
        && number.split('.').all(|part| {
            !part.is_empty() && part.len() <= NUMBER_MAX && part.bytes().all(|b| b.is_ascii_digit())
        })
}

/// `IV:`, `b.`
fn is_place(word: &str) -> bool {
    let place = word.trim_end_matches([':', '.', ')']);
    let is_roman = place.len() <= 5 && place.bytes().all(|b| matches!(b, b'I' | b'V' | b'X' | b'L'));
    !place.is_empty() && (is_roman || (place.len() == 1 && place.bytes().all(|b| b.is_ascii_alphabetic())))
}

/// `[10:02]`, `10:02:01`
fn stamp(text: &str) -> Option<usize> {
    let bare = text.trim_start_matches(['[', '(', '<']);
    let is_of_time =
        |b: &u8| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-' | b'/' | b' ' | b'T' | b'Z');
    let time = &bare[..bare.bytes().take_while(is_of_time).count()];
    // "10:02 The …" has a T that is none of it.
    let length = time.trim_end_matches(|c: char| !c.is_ascii_digit()).len();
    let length = length + usize::from(time[length..].starts_with('Z'));
    let is_time = bare[..length].split_once(':').is_some_and(|(hours, minutes)| {
        hours.ends_with(|c: char| c.is_ascii_digit())
            && minutes.len() >= 2
            && minutes.bytes().take(2).all(|b| b.is_ascii_digit())
    });
    if !is_time {
        return None;
    }
    let end = text.len() - bare.len() + length;
    let closed = text[end..].strip_prefix([']', ')', '>']);
    // A time without brackets or seconds may be of the sentence: "10:02 is early."
    let is_whole = bare.len() < text.len() || bare[..length].matches(':').count() > 1;
    Some(closed.map_or(end, |rest| text.len() - rest.len())).filter(|_| is_whole)
}

/// `Step 2:`, `No. 3.`, `3:`, `1.2)`, `Article IV:`, `Step 2 - `
fn label(text: &str) -> Option<usize> {
    const LABELS: [&str; 28] = [
        "item",
        "no",
        "nr",
        "number",
        "point",
        "step",
        "task",
        "note",
        "rule",
        "question",
        "answer",
        "part",
        "section",
        "sec",
        "clause",
        "article",
        "art",
        "chapter",
        "paragraph",
        "para",
        "annex",
        "appendix",
        "exhibit",
        "schedule",
        "figure",
        "fig",
        "table",
        "tip",
    ];
    let mut words = text.split(' ');
    let first = words.next()?;
    let is_asked = first.starts_with(['Q', 'A']) && first.ends_with('.');
    if is_number(first) && (first.ends_with([':', ')', '\u{20e3}']) || is_asked) {
        return Some(first.len());
    }
    let name = first.trim_end_matches('.').to_lowercase();
    let number = words.next()?;
    let is_marked = number.ends_with([':', ')', '.'])
        || words.next().is_some_and(|next| matches!(next, "-" | "–" | "—" | ":"));
    let is_label = LABELS.contains(&name.as_str()) && is_marked && (is_number(number) || is_place(number));
    is_label.then_some(first.len() + 1 + number.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ways to write one sentence.
    #[test]
    fn the_same() {
        let plain = words("The final café of the office is closed.");
        for sentence in [
            "the FINAL café of the office is closed",
            "The \u{fb01}nal caf\u{e9} of the o\u{fb03}ce is closed!",
            "The final cafe\u{301} of the office is closed.",
            "The final ｃａｆé of the office is closed．",
            "The fi\u{ad}nal café of the off\u{200b}ice is closed.",
            "The final café of the of-\nfice is closed.",
            "The\u{a0}final  café\tof the\noffice is closed.",
            "**The** final _café_ of the “office” is closed.",
            "1. The final café of the office is closed.",
            "12) The final café of the office is closed.",
            "(3) The final café of the office is closed.",
            "b. The final café of the office is closed.",
            "(f) The final café of the office is closed.",
            "IV. The final café of the office is closed.",
            "A. The final café of the office is closed.",
            "> - 2. The final café of the office is closed.",
            "3 The final café of the office is closed.",
            "3 - The final café of the office is closed.",
            "3: The final café of the office is closed.",
            "1.2 The final café of the office is closed.",
            "#4 The final café of the office is closed.",
            "[5] The final café of the office is closed.",
            "• 9. The final café of the office is closed.",
            "Item 3: The final café of the office is closed.",
            "No. 3: The final café of the office is closed.",
            "Step 3. The final café of the office is closed.",
            "Q3. The final café of the office is closed.",
            "3\u{20e3} The final café of the office is closed.",
            "[10:02] The final café of the office is closed.",
            "10:02:01 The final café of the office is closed.",
            "**1.** The final café of the office is closed.",
            "__2)__ The final café of the office is closed.",
            "**Step 3:** The final café of the office is closed.",
            "`4.` The **final** café of the ~~office~~ is closed.",
            "***T***he final café of the office is closed.",
            "§1. The final café of the office is closed.",
            "§ 1. The final café of the office is closed.",
            "§12 The final café of the office is closed.",
            "Article 1: The final café of the office is closed.",
            "Article IV. The final café of the office is closed.",
            "Art. 2: The final café of the office is closed.",
            "Chapter 3 - The final café of the office is closed.",
            "Exhibit B: The final café of the office is closed.",
            "### Figure 7: The final café of the office is closed.",
        ] {
            assert_eq!(words(sentence), plain, "{sentence:?}");
        }
    }

    /// Sentences that say something else.
    #[test]
    fn not_the_same() {
        for (left, right) in [
            ("3 ships sailed.", "4 ships sailed."),
            ("1.5 million ships sailed.", "2.5 million ships sailed."),
            ("2024 The firm grew.", "2025 The firm grew."),
            ("Sales rose by 3.", "Sales rose by 4."),
            ("A. Schmidt left.", "B. Schmidt left."),
            ("1. Mai war kalt.", "2. Mai war kalt."),
            ("10 Downing Street is old.", "11 Downing Street is old."),
            ("Anna: The ship left.", "Olga: The ship left."),
            ("The in-\nVoice left.", "The invoice left."),
            ("Section 3 applies.", "Section 4 applies."),
            ("$5 is much.", "$6 is much."),
            ("10:02 is early.", "10:03 is early."),
            ("We won.", "We won?"),
            ("Is it over?", "It is over."),
            ("He paid $5.", "He paid €5."),
            ("He paid $5.", "He paid 5."),
            ("He paid £5.", "He paid ¥5."),
            ("It fell by 5.", "It fell by -5."),
            ("It is 5 degrees.", "It is −5 degrees."),
            ("He owes -$5.", "He owes $5."),
            ("It rose by 5.", "It rose by 5 %."),
            ("Article 3 applies.", "Article 4 applies."),
        ] {
            assert_ne!(words(left), words(right), "{left:?}");
        }
        for (left, right) in [
            ("We won.", "We won!"),
            ("He paid $5.", "He paid $ 5."),
            ("He paid $5 (or more).", "He paid $5, or more."),
            ("Oslo - 5 ships left.", "Oslo, 5 ships left."),
            ("It took 3-5 days.", "It took 3–5 days."),
            ("It is 5% more.", "It is 5 % more."),
            ("It fell by −5.", "It fell by -5."),
        ] {
            assert_eq!(words(left), words(right), "{left:?}");
        }
        for sentence in ["3.", "(a)", "[10:02]", "Step 3:", "> - 3."] {
            assert!(!words(sentence).is_empty(), "{sentence:?}");
        }
    }

    proptest! {
        /// Case and what takes no place say nothing; letters are never lost.
        #[test]
        fn letters_stay(text in "([a-z0-9 .:()>#-]|[A-Z]|\\u{ad}|the |3\\. |\\[10:02\\] ){0,40}") {
            let found = words(&text);
            prop_assert_eq!(&found, &words(&text.replace('\u{ad}', "\u{200b}")));
            prop_assert_eq!(found.is_empty(), !text.contains(char::is_alphanumeric));
        }
    }
}
