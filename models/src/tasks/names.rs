//! Where names begin and end in a text, whatever a model says: at no symbol, at whole words, and never over
//! the end of a line or cell.

use std::ops::Range;

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use crate::characters::{category, enclosed, is_invisible, is_pictograph, is_space, is_symbol};
use crate::segment::{is_exclaimed, is_line_break};

/// Longest part of a name that a hyphen parts from the rest, in characters.
const PART_MAX: usize = 32;
/// Most parts that are given back to a name on each side.
const PARTS_MAX: usize = 4;
/// Most signs behind a name that are of it: `C++`.
const SIGNS_MAX: usize = 2;

/// Where names may be in a text; what is done with it is given the text without markup, in as many bytes.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// Where names end, ascending.
    pub(super) ends: Vec<usize>,
    /// What is one character though it is written as several, ascending.
    pub(super) references: Vec<Range<usize>>,
}

/// A part of a text that a model takes for a name, or for the rest of one that ended before it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) bytes: Range<usize>,
    /// Of which of the model's names it is made.
    pub(super) source: usize,
    pub(super) is_rest: bool,
}

impl Bounds {
    /// Whether a name ends between two places.
    pub(super) fn are_apart(&self, left: usize, right: usize) -> bool {
        let end = self.ends.partition_point(|end| *end < left);
        self.ends.get(end).is_some_and(|end| *end <= right)
    }

    /// What is taken for one person may be several: `Anna Schmidt & Peter Jones`, or two of two words each
    /// with a line break between them.
    pub(super) fn people(plain: &str, name: Range<usize>) -> Vec<Range<usize>> {
        let text = &plain[name.clone()];
        let mut people = Vec::new();
        let mut start = 0;
        for (at, c) in text.char_indices() {
            let (before, after) = (&text[start..at], &text[at + c.len_utf8()..]);
            let is_spaced = before.ends_with(is_space) && after.starts_with(is_space);
            let ends = match c {
                '&' | '+' => is_spaced,
                ':' => after.starts_with(is_space),
                _ if is_line_break(c) => {
                    let line = after.trim_start().split(is_line_break).next().unwrap_or("");
                    is_full_name(before) && is_full_name(line)
                }
                _ => false,
            };
            if ends {
                people.push(name.start + start..name.start + at);
                start = at + c.len_utf8();
            }
        }
        people.push(name.start + start..name.end);
        people
    }

    /// The names among parts that ascend, with their ends where they should be: those that have letters or
    /// digits.
    pub(super) fn whole_names(&self, text: &str, mut parts: Vec<Part>) -> Vec<Part> {
        for part in &mut parts {
            part.bytes = without_links(text, trim(text, part.bytes.clone()));
        }
        parts.retain(|part| !part.bytes.is_empty());
        let mut names: Vec<Part> = Vec::with_capacity(parts.len());
        // Whether what came before was written with a capital.
        let mut was_capital = false;
        for index in 0..parts.len() {
            let left = names.last().map_or(0, |name| name.bytes.end);
            let right = parts.get(index + 1).map_or(text.len(), |next| next.bytes.start);
            let mut part = parts[index].clone();
            part.bytes = complete(text, part.bytes, left..right);
            // Two names that begin and end in one character as people see it share it no more than bytes.
            part.bytes = part.bytes.start.max(left)..part.bytes.end.max(left);
            let name = &text[part.bytes.clone()];
            // "Anna Schmidt: hello", "Anna Schmidt", "head of sales" in the next line: what is behind the end
            // of a name and has no capital is none.
            let is_capital = name.contains(char::is_uppercase);
            let says =
                |name: &Part| text.get(name.bytes.end..part.bytes.start).is_some_and(|s| s.trim() == ":");
            let is_rest = part.is_rest || names.last().is_some_and(says);
            let is_tail = is_rest && was_capital && !is_capital && name.contains(char::is_lowercase);
            let is_tail = is_tail || is_in_address(text, part.bytes.clone());
            // Punctuation is no name, nor is a picture, whatever the model says.
            let is_name = |part: &str| part.contains(char::is_alphanumeric) && !is_picture(part);
            if !is_tail {
                was_capital = is_capital;
                // Nor is the mark of an item.
                let is_mark = name.chars().nth(1).is_none() && name.chars().any(|c| enclosed(c).is_some());
                if !is_mark && name.graphemes(true).any(is_name) {
                    part.bytes = self.whole_references(part.bytes);
                    names.push(part);
                }
            }
        }
        names
    }

    fn whole_references(&self, bytes: Range<usize>) -> Range<usize> {
        let around = |at: usize| {
            let next = self.references.partition_point(|reference| reference.end <= at);
            self.references.get(next).filter(|reference| reference.start < at)
        };
        let start = around(bytes.start).map_or(bytes.start, |reference| reference.start);
        start..around(bytes.end).map_or(bytes.end, |reference| reference.end)
    }
}

/// Whether a part of a text is within an address: `anna@acme.com`.
fn is_in_address(text: &str, bytes: Range<usize>) -> bool {
    const ADDRESS_MAX: usize = 64;
    let is_of_address = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@');
    let before: String =
        text[..bytes.start].chars().rev().take(ADDRESS_MAX).take_while(is_of_address).collect();
    let after: String = text[bytes.end..].chars().take(ADDRESS_MAX).take_while(is_of_address).collect();
    // Before a sign that stands first is nobody: `@acme`.
    let is_host = before.strip_prefix('@').is_some_and(|user| user.starts_with(char::is_alphanumeric))
        || before.chars().rev().skip(1).any(|c| c == '@');
    let is_user = after.split_once('@').is_some_and(|(_, host)| host.starts_with(char::is_alphanumeric));
    is_host || is_user
}

/// Whether a text is two words or more with capitals, as the names of people are; those between them may be
/// small: `van`.
fn is_full_name(text: &str) -> bool {
    let is_capital = |word: &str| word.starts_with(char::is_uppercase);
    let mut words = text.split_whitespace();
    let (first, last) = (words.next(), words.next_back());
    first.is_some_and(is_capital) && last.is_some_and(is_capital)
}

/// Whether nothing that is seen is between two parts, or the end of a line behind a hyphen.
pub(super) fn touches(text: &str, left: &Range<usize>, right: &Range<usize>) -> bool {
    left.end == right.start
        || text.get(left.end..right.start).is_some_and(|between| {
            between.chars().all(is_invisible)
                || (is_line_end(between) && text[..left.end].ends_with(is_hyphen))
        })
}

/// Whether white space is the end of one line.
fn is_line_end(blank: &str) -> bool {
    let breaks = blank.chars().filter(|c| is_line_break(*c)).count();
    (breaks == 1 || (breaks == 2 && blank.contains("\r\n"))) && blank.chars().all(is_space)
}

/// Punctuation inside of names.
pub(super) fn is_glue(c: char) -> bool {
    matches!(c, '\'' | '’' | '-' | '.' | '&' | '‐' | '‑')
}

/// An emoji, or the picture of a key.
pub(super) fn is_picture(grapheme: &str) -> bool {
    grapheme.contains(|c| is_pictograph(c) || c == '\u{20e3}')
}

/// Takes punctuation that belongs to the sentence, and symbols, off a name's ends. What belongs to the name
/// stays: brackets that close in it, `C++`, the mark of `Yahoo! said`.
fn trim(text: &str, bytes: Range<usize>) -> Range<usize> {
    let name = &text[bytes.clone()];
    let held = held(name);
    let is_held = |at: usize| held.binary_search(&at).is_ok();
    let is_alphanumeric_before = |at: usize| name[..at].ends_with(char::is_alphanumeric);
    let (mut start, mut end) = (0, name.len());
    let mut characters = name.char_indices();
    for (at, c) in characters.by_ref() {
        start = at;
        let rest = &name[at + c.len_utf8()..];
        // "Ⓑ Peter Jones": a mark of an item; a letter of a name touches the next.
        let is_mark = enclosed(c).is_some() && rest.starts_with(is_space);
        // ".NET", but not "U.K" and ". Smith".
        let is_joined = rest.starts_with(char::is_alphanumeric)
            && !text[..bytes.start + at].ends_with(char::is_alphanumeric);
        let is_loose_dot = c == '.' && !is_joined;
        let is_off = is_mark
            || is_loose_dot
            || is_note(c)
            || (is_loose(c) && !is_held(at))
            || is_loose_apostrophe(c, &text[bytes.start + at..]);
        if !is_off {
            break;
        }
        start = at + c.len_utf8();
    }
    for (at, c) in name[start..].char_indices().rev() {
        let at = start + at;
        let is_plus = matches!(c, '+' | '#') && {
            let signs = name[..at].trim_end_matches(c);
            signs.ends_with(char::is_alphanumeric) && at - signs.len() < SIGNS_MAX
        };
        let is_called = c == '!' && is_called(&name[start..at], &text[bytes.start + at + 1..]);
        let is_quote = matches!(c, '\'' | '’' | '‘') && is_quoted(text, bytes.start + start, &name[..at]);
        let is_mark = enclosed(c).is_some() && !is_alphanumeric_before(at);
        let is_off =
            (is_loose(c) && !is_held(at) && !is_plus && !is_called) || is_note(c) || is_quote || is_mark;
        if !is_off {
            break;
        }
        end = at;
    }
    bytes.start + start..bytes.start + end.max(start)
}

/// A name without the word at its end that links it to the next: "Microsoft and".
fn without_links(text: &str, bytes: Range<usize>) -> Range<usize> {
    let name = &text[bytes.clone()];
    let bare = ["and", "or", "und", "et", "y"].iter().find_map(|link| {
        let bare = name.strip_suffix(link)?;
        Some(bare.trim_end_matches(is_space)).filter(|rest| rest.len() < bare.len() && !rest.is_empty())
    });
    bytes.start..bytes.start + bare.unwrap_or(name).len()
}

/// Whether a character at the end of a name is none of it.
fn is_loose(c: char) -> bool {
    use icu_properties::props::GeneralCategory as Category;
    let c = narrow(c);
    if c.is_ascii() {
        // An apostrophe may be of the name, and so may a dot.
        return is_space(c)
            || is_invisible(c)
            || (c.is_ascii_punctuation() && !matches!(c, '\'' | '.' | '%'));
    }
    let is_punctuation = || {
        matches!(
            category(c),
            Category::OpenPunctuation
                | Category::ClosePunctuation
                | Category::InitialPunctuation
                | Category::FinalPunctuation
                | Category::OtherPunctuation
                | Category::DashPunctuation
                | Category::ConnectorPunctuation
        )
    };
    is_space(c)
        || is_invisible(c)
        || (is_symbol(c) && enclosed(c).is_none())
        // Apostrophes, and letters of Hebrew and Armenian abbreviations.
        || (is_punctuation() && !matches!(c, '’' | '‘' | '\u{5f3}' | '\u{5f4}' | '\u{55a}'))
}

/// The number of a note at a name.
fn is_note(c: char) -> bool {
    matches!(c, '¹' | '²' | '³' | '⁰' | '⁴'..='⁹')
}

/// Whether an apostrophe before a name opens a quotation: `'Siemens'`, but not `'s-Hertogenbosch`.
fn is_loose_apostrophe(c: char, rest: &str) -> bool {
    matches!(c, '\'' | '’' | '‘') && !rest.chars().nth(1).is_some_and(char::is_lowercase)
}

/// Whether an apostrophe behind a name closes a quotation, or says whose something is: `'Siemens'`,
/// `the workers'`; but not `Dunkin'`.
fn is_quoted(text: &str, start: usize, name: &str) -> bool {
    text[..start].ends_with(['\'', '’', '‘']) || !name.ends_with(char::is_alphanumeric) || name.ends_with('s')
}

/// Whether an exclamation mark is of a name in the middle of a sentence: `Yahoo! said`, or of one that has it
/// always.
fn is_called(name: &str, rest: &str) -> bool {
    let from = name.rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| at + 1);
    let Some(word) = name.get(from..).filter(|word| word.len() <= PART_MAX) else { return false };
    let goes_on = rest
        .trim_start()
        .starts_with(|c: char| c.is_lowercase() || matches!(c, ',' | '\'' | '’' | '(' | '-'));
    is_exclaimed(&word.to_lowercase()) && goes_on
}

/// Where brackets and quotes are, at the ends of a name or not, that close in it and do not enclose all of
/// it, ascending.
fn held(name: &str) -> Vec<usize> {
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut held = Vec::new();
    // What is at the ends and is no bracket is taken off in any case.
    let is_end = |c: char| !c.is_alphanumeric();
    let first = name.len() - name.trim_start_matches(is_end).len();
    let last = name.trim_end_matches(is_end).len();
    // The last letter or digit, so that nothing empty is held.
    let mut filled = 0;
    for (at, c) in name.char_indices() {
        if c.is_alphanumeric() {
            filled = at;
        }
        let closer = match narrow(c) {
            '(' => ')',
            '[' => ']',
            '{' => '}',
            '“' => '”',
            '«' => '»',
            _ => '\0',
        };
        if c == '"' && open.last().is_none_or(|(closer, _)| *closer != '"') {
            open.push(('"', at));
        } else if closer != '\0' {
            open.push((closer, at));
        } else if open.last().is_some_and(|(closer, _)| *closer == narrow(c)) {
            let (_, from) = open.pop().unwrap_or_default();
            if filled > from && (from >= first || at < last) {
                held.extend([from, at]);
            }
        }
    }
    held.sort_unstable();
    held
}

/// A character of ASCII for its wide form.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        c => c,
    }
}

/// Gives a name back what tokenizers take off its ends, and models leave off: combining marks, the rest of a
/// name with a hyphen, and the last dot of `U.S.` It stays between what is before and behind it.
fn complete(text: &str, name: Range<usize>, room: Range<usize>) -> Range<usize> {
    if name.is_empty() {
        return name;
    }
    let Range { start, end } = name;
    let mut cursor = GraphemeCursor::new(start, text.len(), true);
    let is_whole = cursor.is_boundary(text, 0).unwrap_or(true);
    let mut start =
        if is_whole { start } else { cursor.prev_boundary(text, 0).ok().flatten().unwrap_or(start) };
    let mut cursor = GraphemeCursor::new(end, text.len(), true);
    let is_whole = cursor.is_boundary(text, 0).unwrap_or(true);
    let mut end = if is_whole { end } else { cursor.next_boundary(text, 0).ok().flatten().unwrap_or(end) };
    for _ in 0..PARTS_MAX {
        let longer = part_behind(text, start..end);
        if longer == end || longer > room.end {
            break;
        }
        end = longer;
    }
    for _ in 0..PARTS_MAX {
        let longer = part_before(text, start..end);
        if longer == start || longer < room.start {
            break;
        }
        start = longer;
    }
    let is_abbreviation = {
        let mut parts = text[start..end].split('.').peekable();
        let has_dot = parts.clone().count() > 1;
        has_dot && parts.all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic))
    };
    let end = end + usize::from(is_abbreviation && text[end..].starts_with('.'));
    // A mark may stand on a blank, which is one character with it and no part of a name.
    let name = text[start..end].trim_start_matches(is_space);
    let start = end - name.len();
    start..start + without_joiners(name.trim_end_matches(is_space)).len()
}

/// A name without what takes no place at its end: a joiner or a variation selector, which is one character
/// with the last letter. Behind a mark it makes a form of it, as in Malayalam.
fn without_joiners(name: &str) -> &str {
    use icu_properties::props::GeneralCategory as Category;
    let bare = name.trim_end_matches(is_invisible);
    let is_form = |mark: char| matches!(category(mark), Category::NonspacingMark | Category::SpacingMark);
    let keeps = name[bare.len()..].starts_with(['\u{200c}', '\u{200d}']) && bare.ends_with(is_form);
    if keeps { &name[..bare.len() + '\u{200d}'.len_utf8()] } else { bare }
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}')
}

/// Where a name ends with the part that a hyphen joins to it: `Al` of `Al-Sayed`, but not `Berlin` of
/// `Berlin-based`.
fn part_behind(text: &str, name: Range<usize>) -> usize {
    const ARTICLES: [&str; 6] = ["al", "el", "ben", "bin", "ibn", "abu"];
    const ENDINGS: [&str; 8] = ["based", "born", "led", "backed", "owned", "style", "era", "wide"];
    let Some(hyphen) = text[name.end..].chars().next().filter(|c| is_hyphen(*c)) else { return name.end };
    let rest = &text[name.end + hyphen.len_utf8()..];
    // "Schmidt-", "Meier": a name may go over the end of a line.
    let blank: usize = rest.chars().take(PART_MAX).take_while(|c| is_space(*c)).map(char::len_utf8).sum();
    let is_parted = is_line_end(&rest[..blank]) && rest[blank..].starts_with(char::is_uppercase);
    let blank = if is_parted { blank } else { 0 };
    let rest = &rest[blank..];
    let length: usize =
        rest.chars().take(PART_MAX + 1).take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
    let part = &rest[..length];
    let before: String =
        text[name.clone()].chars().rev().take(PART_MAX).take_while(|c| c.is_alphabetic()).collect();
    let before: String = before.chars().rev().collect::<String>().to_lowercase();
    let is_capital = part.starts_with(char::is_uppercase) && !ENDINGS.contains(&part.to_lowercase().as_str());
    let is_part = is_capital || ARTICLES.contains(&before.as_str());
    let is_whole = part.chars().count() <= PART_MAX && !before.is_empty() && !part.is_empty();
    if is_part && is_whole { name.end + hyphen.len_utf8() + blank + length } else { name.end }
}

/// Where a name begins with the part before its hyphen: `Al-Sayed` for `Sayed`, but not `Anti-Trump` for
/// `Trump`.
fn part_before(text: &str, name: Range<usize>) -> usize {
    const PREFIXES: [&str; 12] =
        ["anti", "pro", "post", "pre", "non", "ex", "mid", "trans", "pan", "inter", "neo", "de"];
    let before = &text[..name.start];
    let blank: usize =
        before.chars().rev().take(PART_MAX).take_while(|c| is_space(*c)).map(char::len_utf8).sum();
    let blank = if is_line_end(&before[before.len() - blank..]) { blank } else { 0 };
    let before = &before[..before.len() - blank];
    let Some(hyphen) = before.chars().next_back().filter(|c| is_hyphen(*c)) else { return name.start };
    let before = &before[..before.len() - hyphen.len_utf8()];
    let length: usize =
        before.chars().rev().take(PART_MAX + 1).take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
    let part = &before[before.len() - length..];
    let is_part = part.starts_with(char::is_uppercase)
        && text[name.start..].starts_with(char::is_uppercase)
        && part.chars().count() <= PART_MAX
        && !PREFIXES.contains(&part.to_lowercase().as_str());
    if is_part { name.start - blank - hyphen.len_utf8() - length } else { name.start }
}

#[cfg(test)]
mod tests;
