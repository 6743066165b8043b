//! Headers and footers of pages: lines that come again and again, each time between others.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::is_grammatical;
use crate::segment::{count, is_unfinished};

/// How often a line stands in a document, numbers aside, to be a header or footer of its pages.
const REPEATS_MIN: usize = 3;
/// Longest line that is one, in bytes.
const LINE_MAX: usize = 1000;
/// The most words of one that ends with a full stop: `Bay Shipping Ltd.`
const NAME_WORDS_MAX: usize = 6;
/// Times that lines are gone through, from the end and from the start: each time those that stand in a row
/// with a line that is none are left out.
const ROUNDS: usize = 2;

/// Where a line stands: what is before it, or behind it.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Unknown,
    One(u64),
    Several,
}

struct Header {
    count: usize,
    before: Beside,
    behind: Beside,
    is_one: bool,
    is_title: bool,
}

/// Whether a line comes again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    No,
    /// It does, and may be a line of prose that is broken alike each time.
    Maybe,
    /// It looks like the header of a page, too: it is none of the prose around it.
    Header,
}

/// Which lines are headers or footers, or may be. A clause that is repeated has the same lines around each of
/// its lines, down to the one that ends it; entries that differ in a number only follow each other.
pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Repeats> {
    let lines: Vec<(u64, Option<bool>)> =
        lines.map(|line| (key(line), may_repeat(line).then(|| is_title(line)))).collect();
    let mut headers: HashMap<u64, Header> = HashMap::new();
    let at = |index: Option<usize>| index.and_then(|index| lines.get(index)).map_or(0, |(key, _)| *key);
    for (index, (key, is_title)) in lines.iter().enumerate() {
        let Some(is_title) = *is_title else { continue };
        let header = headers.entry(*key).or_insert(Header {
            count: 0,
            before: Beside::Unknown,
            behind: Beside::Unknown,
            is_one: true,
            is_title,
        });
        header.count += 1;
        header.before = header.before.with(at(index.checked_sub(1)));
        header.behind = header.behind.with(at(Some(index + 1)));
        header.is_one &= at(Some(index + 1)) != *key;
    }
    headers.retain(|_, header| header.count >= REPEATS_MIN && header.is_one);
    for _ in 0..ROUNDS {
        for (key, _) in lines.iter().rev() {
            drop_in_row(&mut headers, *key, |header| (header.behind, header.before));
        }
        for (key, _) in &lines {
            drop_in_row(&mut headers, *key, |header| (header.before, header.behind));
        }
    }
    let repeats = |(key, is_title): &(u64, Option<bool>)| match (is_title, headers.contains_key(key)) {
        (Some(true), true) => Repeats::Header,
        (Some(false), true) => Repeats::Maybe,
        _ => Repeats::No,
    };
    lines.iter().map(repeats).collect()
}

/// Leaves out a line beside which always the same line stands, if that is none. What looks like a header may
/// have the same text on one side.
fn drop_in_row(headers: &mut HashMap<u64, Header>, key: u64, sides: impl Fn(&Header) -> (Beside, Beside)) {
    let Some(header) = headers.get(&key) else { return };
    let (beside, other) = sides(header);
    let is_none =
        |beside: Beside| matches!(beside, Beside::One(line) if line != 0 && !headers.contains_key(&line));
    if is_none(beside) && (!header.is_title || is_none(other)) {
        headers.remove(&key);
    }
}

impl Beside {
    fn with(self, other: u64) -> Self {
        match self {
            Self::Unknown => Self::One(other),
            Self::One(one) if one == other => self,
            _ => Self::Several,
        }
    }
}

/// What headers have in common from page to page: their words, numbers left out.
fn key(line: &str) -> u64 {
    count(line.len().min(LINE_MAX));
    let mut hasher = DefaultHasher::new();
    for word in line[..line.floor_char_boundary(LINE_MAX)].split_whitespace() {
        let is_number = word.contains(char::is_numeric);
        if is_number { "0".hash(&mut hasher) } else { word.to_lowercase().hash(&mut hasher) }
    }
    // Zero is no line.
    hasher.finish().max(1)
}

/// Whether a line has no end of a sentence; a name may have its dot.
fn may_repeat(line: &str) -> bool {
    let is_name = || {
        line.ends_with('.')
            && line.split_whitespace().count() <= NAME_WORDS_MAX
            && !line.split_whitespace().any(is_grammatical)
    };
    line.len() <= LINE_MAX && (!line.ends_with(['.', '!', '?', '。', '！', '？']) || is_name())
}

/// Whether hardly any word of a line is one that prose writes small.
fn is_title(line: &str) -> bool {
    let words = || line.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
    let small = words().filter(|word| word.starts_with(char::is_lowercase)).count();
    let last = words().next_back().unwrap_or("").to_lowercase();
    small * 3 <= words().count() && !is_unfinished(&last) && !line.ends_with([',', ';', '-'])
}
