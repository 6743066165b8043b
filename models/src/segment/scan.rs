//! A block as words, one after the other, with what is needed to know of each whether a sentence ends behind
//! it.

use std::collections::VecDeque;
use std::ops::Range;

use super::count;
use super::item::Mark;
use super::letters::Letters;
use super::marks::{is_closer, is_emoticon, is_emphasis, is_opener, is_picture, is_terminal, is_wide};
use super::words::{WORD_MAX, class};

/// Words that are looked at behind the one at hand.
pub(super) const AHEAD: usize = 5;
/// Longest number of a note, or tag, at the end of a word, in bytes.
const NOTE_MAX: usize = 20;
/// Characters for which a bracket of Chinese or Japanese text holds a sentence together; one that is never
/// closed must not hold the rest of the text.
const BRACKET_MAX: usize = 80;

/// How a word ends, closing quotes and brackets aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not with a mark that could end a sentence.
    None,
    /// `.`
    Dot,
    /// `...`, `…`
    Dots,
    /// `!`, `?!`
    Exclaimed,
    /// `?`, and the marks of other scripts.
    Asked,
    /// `。` and other marks that need no space behind them, outside of brackets.
    Wide,
    /// `</p>`, `<br>`
    Tag,
}

/// How the letters of a word begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// A small letter.
    Lower,
    /// A capital, or a letter of a script that has none; also a name such as iPhone.
    Capital,
    Digit,
    /// There is neither a letter nor a digit.
    None,
}

/// What stands between two spaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) start: usize,
    pub(super) end: usize,
    /// As it stands there.
    pub(super) text: &'a str,
    /// Without quotes, brackets and marks at its ends.
    pub(super) stem: &'a str,
    pub(super) first: First,
    pub(super) stop: Stop,
    /// Dots at its end.
    pub(super) dots: usize,
    /// Whether something closes behind its mark: `done.)`
    pub(super) is_closed: bool,
    /// Whether something opens before it: `(see`
    pub(super) opens: bool,
    /// Whether white space, or the end, is behind it.
    pub(super) is_spaced: bool,
}

/// The words of a block, with some of those that follow at hand.
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
    end: usize,
    ahead: VecDeque<Word<'a>>,
    /// Openers of `《「` that are not closed, and how far behind the last is.
    depth: usize,
    since: usize,
    /// Whether all is written in capitals, so that they say nothing.
    is_capitals: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str, block: &Range<usize>, is_capitals: bool) -> Self {
        let mut scan = Self {
            text,
            at: block.start,
            end: block.end,
            ahead: VecDeque::with_capacity(AHEAD + 1),
            depth: 0,
            since: 0,
            is_capitals,
        };
        scan.fill();
        scan
    }

    /// The words that follow.
    pub(super) fn ahead(&self) -> &VecDeque<Word<'a>> {
        &self.ahead
    }

    fn fill(&mut self) {
        while self.ahead.len() < AHEAD {
            let Some(word) = self.read() else { break };
            self.ahead.push_back(word);
        }
    }

    /// The next word: up to white space, the end of a block in HTML, or a mark that needs no space.
    fn read(&mut self) -> Option<Word<'a>> {
        let rest = &self.text[self.at..self.end];
        let blank = rest.len() - rest.trim_start().len();
        let rest = &rest[blank..];
        let start = self.at + blank;
        let mut characters = rest.char_indices().peekable();
        let mut end = rest.len();
        let mut is_ended = false;
        while let Some((at, c)) = characters.next() {
            self.since += 1;
            match c {
                '《' | '「' | '『' | '【' | '（' | '〈' => {
                    (self.depth, self.since) = (self.depth + 1, 0);
                }
                '》' | '」' | '』' | '】' | '）' | '〉' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            let next = characters.peek().map(|(_, next)| *next);
            let is_held = self.depth > 0 && self.since < BRACKET_MAX;
            // What closes, or marks again, belongs to the mark.
            let is_mark = is_wide(c) || (is_ended && is_closer(c));
            let goes_on = next.is_some_and(|next| is_wide(next) || is_closer(next) || is_terminal(next));
            let is_decimal = c == '．' && next.is_some_and(char::is_numeric);
            is_ended = is_mark && !is_held && !is_decimal;
            if c.is_whitespace() {
                // "left.[2, 3] They"
                if is_within_note(&rest[..at], &rest[at..]) {
                    continue;
                }
                end = at;
                break;
            }
            if (is_ended && !goes_on) || (c == '>' && ends_with_tag(&rest[..=at])) {
                end = at + c.len_utf8();
                break;
            }
        }
        count(blank + end);
        if end == 0 {
            return None;
        }
        self.at = start + end;
        let is_spaced = rest[end..].chars().next().is_none_or(char::is_whitespace);
        let mut word = Word::new(start, &rest[..end], is_spaced);
        if self.is_capitals && word.first == First::Capital {
            word.first = First::Lower;
        }
        Some(word)
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let word = self.ahead.pop_front();
        self.fill();
        word
    }
}

/// Whether a text ends with a tag that ends a block of HTML.
fn ends_with_tag(text: &str) -> bool {
    const BLOCKS: [&str; 14] =
        ["p", "div", "li", "ul", "ol", "td", "tr", "th", "h1", "h2", "h3", "h4", "title", "blockquote"];
    let mut from = text.len().saturating_sub(16);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let Some(open) = text[from..].rfind('<') else { return false };
    let tag = text[from + open + 1..].trim_end_matches('>').to_ascii_lowercase();
    match tag.strip_prefix('/') {
        Some(name) => BLOCKS.contains(&name),
        None => matches!(tag.trim_end_matches('/').trim_end(), "br" | "hr"),
    }
}

/// Whether white space is within the numbers of notes: `[2, 3]`.
fn is_within_note(before: &str, after: &str) -> bool {
    let before = &before[before.ceil_char_boundary(before.len().saturating_sub(NOTE_MAX))..];
    let after = &after[..after.floor_char_boundary(NOTE_MAX)];
    let note = |open: &str, close: &str| {
        !open.is_empty()
            && [open, close].iter().all(|part| part.chars().all(is_of_note))
            && open.ends_with([',', ';'])
    };
    match (before.rsplit_once('['), after.split_once(']')) {
        (Some((_, open)), Some((close, _))) => note(open.trim_end(), close),
        _ => false,
    }
}

fn is_of_note(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, ',' | ';' | '-' | '–' | ' ' | '\n' | '\r')
}

/// Takes tags (`</b>`) and numbers of notes (`[12]`, `¹`) off the end of a word.
pub(super) fn without_notes(text: &str) -> &str {
    let mut text = text;
    for _ in 0..4 {
        let is_note = |c: char| matches!(c, '¹' | '²' | '³' | '⁰' | '⁴'..='⁹' | '†' | '‡') || is_picture(c);
        let bare = text.trim_end_matches(is_note);
        let mut from = bare.len().saturating_sub(NOTE_MAX);
        while !bare.is_char_boundary(from) {
            from += 1;
        }
        let tail = &bare[from..];
        let open = match bare.as_bytes().last() {
            Some(b'>') => tail.rfind('<'),
            Some(b']') => tail.rfind('[').filter(|open| {
                let note = &tail[open + 1..tail.len() - 1];
                !note.is_empty() && note.chars().all(is_of_note)
            }),
            _ => None,
        };
        match open {
            Some(open) if from + open > 0 => text = &bare[..from + open],
            _ if bare.len() < text.len() && bare.ends_with(is_terminal) => return bare,
            _ => return text,
        }
    }
    text
}

impl<'a> Word<'a> {
    fn new(start: usize, text: &'a str, is_spaced: bool) -> Self {
        count(3 * text.len());
        let is_tag = text.ends_with('>') && ends_with_tag(text);
        let bare = without_notes(text);
        let unclosed = bare.trim_end_matches(is_closer);
        // `**` and `"` alone close nothing.
        let core = if unclosed.is_empty() { bare } else { unclosed };
        let stem_end = core.trim_end_matches(is_terminal);
        let marks = &core[stem_end.len()..];
        let stem =
            without_tag(stem_end).trim_start_matches(|c: char| is_opener(c) || is_emphasis(c) || c == '>');
        let stem = behind_glue(stem).unwrap_or(stem);
        let dots = marks.chars().rev().take_while(|c| matches!(c, '.')).count();
        let stop = if is_tag { Stop::Tag } else { Stop::of(marks, dots) };
        let opens = text.starts_with(is_opener) && !stem.is_empty();
        let end = start + text.len();
        Self {
            start,
            end,
            text,
            stem,
            first: First::of(text),
            stop,
            dots,
            is_closed: core.len() < text.len(),
            opens,
            is_spaced,
        }
    }

    /// In small letters; empty if it is too long to be in a table.
    pub(super) fn lower(&self) -> String {
        if self.stem.len() <= WORD_MAX { self.stem.to_lowercase() } else { String::new() }
    }

    /// Without marks at either end, in small letters; for a word behind the one at hand.
    pub(super) fn bare(&self) -> String {
        let bare = self.stem.trim_matches(|c: char| !c.is_alphanumeric());
        if bare.len() <= WORD_MAX { bare.to_lowercase().replace('’', "'") } else { String::new() }
    }

    /// Whether it is all dots: a part of ". . ."
    pub(super) fn is_dots(&self) -> bool {
        self.stem.is_empty() && self.dots > 0 && self.text.starts_with('.')
    }

    /// Whether it is pictures and nothing else, or an emoticon; they belong to the sentence before them.
    pub(super) fn is_picture(&self) -> bool {
        (self.first == First::None && self.text.chars().all(is_picture)) || is_emoticon(self.text)
    }

    /// Whether a quote closes behind it.
    pub(super) fn is_quoted(&self) -> bool {
        self.text.ends_with(['"', '\'', '”', '’', '»'])
    }

    /// The mark that it is if it is a number with a dot: `3.`
    pub(super) fn number_mark(&self) -> Option<Mark> {
        Mark::of(self.text).filter(|_| self.first == First::Digit)
    }

    /// Whether it is the number of a note.
    pub(super) fn is_note(&self) -> bool {
        let note = self.text.strip_prefix('[').and_then(|note| note.strip_suffix(']'));
        note.is_some_and(|note| note.len() <= NOTE_MAX && note.chars().all(is_of_note))
    }

    /// The number of the note that it is, if it is of one.
    pub(super) fn note(&self) -> Option<u32> {
        self.text.strip_prefix('[').and_then(|note| note.strip_suffix(']'))?.parse().ok()
    }

    /// Whether it stands before a sentence and is none of it: `>`, `-`, `3.`, `[x]`, `[10:02]`.
    pub(super) fn is_lead(&self) -> bool {
        let is_time = || {
            let time = self.text.trim_matches(['[', ']', '(', ')', '<', '>']);
            time.len() < self.text.len()
                && time.contains(':')
                && time.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-' | b'T' | b'Z'))
        };
        self.first == First::None
            || self.is_note()
            || Mark::of_item(self.text).is_some()
            || matches!(self.text, "[x]" | "[X]")
            || is_time()
    }
}

/// The abbreviation at the end of a word, if it touches what stands before it: `chair—Mr`, `1,Mr`, `done?Mr`.
fn behind_glue(stem: &str) -> Option<&str> {
    let is_glue = |c: char| {
        matches!(
            c,
            '—' | '–'
                | ','
                | ';'
                | ':'
                | '='
                | '|'
                | '?'
                | '!'
                | '…'
                | '"'
                | '“'
                | '”'
                | '('
                | '['
                | '@'
                | '#'
                | '$'
                | '<'
                | '>'
                | '*'
                | '_'
                | '\u{1}'
                | '\u{ad}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2060}'
                | '\u{feff}'
        ) || is_picture(c)
    };
    let from = stem.rfind("..").map_or(0, |dots| dots + 2);
    let part = stem[from..].rsplit(is_glue).next().unwrap_or("");
    if part.len() == stem.len() || part.is_empty() || part.len() > WORD_MAX {
        return None;
    }
    let letters = Letters::of(part);
    // A letter may be of anything: `id=a`.
    let is_letters = letters.is_some_and(|letters| letters.count > 1 || !letters.is_small);
    (is_letters || class(part, &part.to_lowercase(), false).is_some()).then_some(part)
}

/// A word without the tag that it begins with: `<b>The`.
fn without_tag(text: &str) -> &str {
    match text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((tag, rest)) if tag.len() <= 16 && !rest.is_empty() => rest,
        _ => text,
    }
}

impl Stop {
    fn of(marks: &str, dots: usize) -> Self {
        let Some(last) = marks.chars().next_back() else { return Self::None };
        if marks.contains(['!', '‼']) && !marks.contains('?') {
            return Self::Exclaimed;
        }
        match last {
            _ if marks.contains('?') => Self::Asked,
            '.' if dots == 1 && marks.len() == 1 => Self::Dot,
            '.' | '…' => Self::Dots,
            c if is_wide(c) => Self::Wide,
            _ => Self::Asked,
        }
    }
}

impl First {
    fn of(text: &str) -> Self {
        let text = without_tag(text);
        let mut letters = text.chars().filter(|c| c.is_alphanumeric());
        match letters.next() {
            None => Self::None,
            Some(c) if c.is_lowercase() => {
                // iPhone and eBay begin sentences; "mid-May" does not.
                let is_brand = text.starts_with(c) && letters.take(2).any(char::is_uppercase);
                if is_brand { Self::Capital } else { Self::Lower }
            }
            Some(c) if c.is_numeric() => Self::Digit,
            Some(_) => Self::Capital,
        }
    }
}
