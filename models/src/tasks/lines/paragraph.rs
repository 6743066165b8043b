//! Lines without a blank one between them: what most of them are, all are.

use std::collections::HashSet;

use super::log::{begins_with_level, is_leveled};
use super::{Apart, LOOKED_MAX, Line, is_code, prose_words, wrapping};
use crate::segment::count;

/// Lines of a log that says no more of a line than its level, at least, if none of them says more.
const LEVELED_MIN: usize = 3;

/// Keys with values in a row beside prose, at least.
const KEYS_MIN: usize = 3;
/// Commas between values in a row beside prose, at least.
const COMMAS_MIN: usize = 2;

/// Looks at the lines of a paragraph together.
pub(super) fn look_at(text: &str, lines: &mut [Line]) {
    let apart = lines.iter().filter(|line| line.apart != Apart::No).count();
    let texts = || lines.iter().map(|line| head(text, line));
    count(texts().map(str::len).sum());
    let is_data = is_mapping(texts(), 2) || are_values(texts());
    let is_code = is_data || (apart > 1 && apart * 2 >= lines.len() && texts().any(is_code));
    if is_code {
        let is_kept = |line: &Line| !is_data && is_prose(head(text, line));
        let kept = lines.iter_mut().filter(|line| !is_kept(line));
        kept.for_each(|line| line.apart = line.apart.max(Apart::Looks));
    }
    for entries in
        lines.chunk_by_mut(|left, right| Entry::of(head(text, left)) == Entry::of(head(text, right)))
    {
        look_at_entries(text, entries);
    }
    let heads: Vec<(&str, bool)> = lines.iter().map(|line| (head(text, line), line.is_indented)).collect();
    let headers = wrapping::headers(&heads);
    for (line, is_header) in lines.iter_mut().zip(headers) {
        line.apart = if is_header { Apart::Surely } else { line.apart };
    }
    for leveled in lines.chunk_by_mut(|left, right| {
        begins_with_level(head(text, left)) && begins_with_level(head(text, right))
    }) {
        look_at_levels(text, leveled);
    }
}

fn head<'a>(text: &'a str, line: &Line) -> &'a str {
    let line = &text[line.bytes.clone()];
    &line[..line.floor_char_boundary(LOOKED_MAX)]
}

/// What a line beside prose may be an entry of.
#[derive(PartialEq)]
enum Entry {
    None,
    /// `name: Oslo`
    Key,
    /// Values with so many commas between them.
    Values(usize),
}

impl Entry {
    fn of(line: &str) -> Self {
        if is_mapping(std::iter::once(line), 1) {
            return Self::Key;
        }
        let commas = line.matches(',').count();
        if commas >= COMMAS_MIN && are_values([line, line].into_iter()) {
            Self::Values(commas)
        } else {
            Self::None
        }
    }
}

/// Lines in a row, beside prose, that are keys with their values, or values between commas.
fn look_at_entries(text: &str, lines: &mut [Line]) {
    let texts = || lines.iter().map(|line| head(text, line));
    let is_data = match Entry::of(head(text, &lines[0])) {
        Entry::None => false,
        Entry::Values(_) => lines.len() > 1,
        Entry::Key => {
            let values = texts()
                .filter(|line| line.split_once(':').is_some_and(|(_, value)| !value.trim().contains(' ')));
            lines.len() >= KEYS_MIN && values.count() * 2 > lines.len() && is_mapping(texts(), 2)
        }
    };
    if is_data {
        lines.iter_mut().for_each(|line| line.apart = line.apart.max(Apart::Looks));
    }
}

/// Lines in a row that begin with a level, of which one is of a log or which are many, and of which most are
/// no sentences.
fn look_at_levels(text: &str, lines: &mut [Line]) {
    if lines.len() < 2 || !begins_with_level(head(text, &lines[0])) {
        return;
    }
    let count = |is: fn(&str) -> bool| lines.iter().filter(|line| is(head(text, line))).count();
    let is_log = lines.len() >= LEVELED_MIN || count(is_leveled) > 0;
    if is_log && count(|line| line.ends_with(['.', '!', '?'])) * 2 < lines.len() {
        lines.iter_mut().for_each(|line| line.apart = Apart::Surely);
    }
}

/// Whether a line among those of code is of prose: "It adds the numbers."
fn is_prose(line: &str) -> bool {
    let line = &line[..line.floor_char_boundary(LOOKED_MAX)];
    let is_sentence = line.ends_with(['.', '!', '?', ':']) && line.split_whitespace().nth(2).is_some();
    let is_of_code = line.contains(['{', '}', '=', '<', '>', ';', '\\']);
    let is_wordy = || prose_words(&line.to_lowercase()) > 1;
    line.starts_with(|c: char| c.is_uppercase()) && !is_of_code && (is_sentence || is_wordy())
}

/// `name: Oslo`, `replicas: 3`: keys in small letters, each once, of which one at least has no sentence as
/// its value.
fn is_mapping<'a>(lines: impl Iterator<Item = &'a str>, least: usize) -> bool {
    let mut keys = HashSet::new();
    let (mut count, mut values, mut indents) = (0, 0, 0);
    for line in lines {
        count += 1;
        let item = line.trim_start_matches("- ");
        let Some((key, value)) = item.split_once(':') else {
            if item.len() < line.len() && keys.len() > 1 {
                continue;
            }
            return false;
        };
        let is_key = key.starts_with(|c: char| c.is_ascii_lowercase())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && (value.is_empty() || value.starts_with(' '));
        if !is_key || !(keys.insert(key) || item.len() < line.len() || indents > 0) {
            return false;
        }
        indents += usize::from(item.len() < line.len());
        values += usize::from(!value.trim().contains(' '));
    }
    count >= least && (values > 0 || count == 1)
}

/// Rows of values between commas, as many in each.
fn are_values<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let (mut commas, mut count) = (0, 0);
    for line in lines {
        let found = line.matches(',').count();
        if found == 0 || line.contains(", ") || line.ends_with(['.', ',']) || (count > 0 && found != commas) {
            return false;
        }
        (commas, count) = (found, count + 1);
    }
    count > 1
}
