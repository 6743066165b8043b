//! Where names end although a model may read on: at the ends of lines that do not read on, of items and of
//! cells; and what a model reads for a text, so that it sees that.

use std::borrow::Cow;
use std::ops::Range;

use super::item::Mark;
use super::kind::check_box;
use super::lines::{Block, Blocks};
use super::marks::{is_bullet, is_line_break, is_terminal};
use super::markup::Plain;
use super::{SEGMENTED_PER_TOKENISED, count};
use crate::characters::enclosed;
use crate::pool::Pace;

/// Spaces that part two columns in a line that is no sentence; in one that is, two may be a slip.
const GAP_MIN: usize = 2;
/// Longest mark of an item with the blanks before it, in bytes.
const MARK_MAX: usize = 64;

/// A text as names are looked for in it. Its strings have as many bytes as the text, and characters begin at
/// the same ones.
pub(crate) struct Cells {
    /// The places before which a name ends, ascending: the start of each block, the end of its mark if it is
    /// an item of a list, tags of blocks, tabs, bars, bullets, semicolons, dashes and wide gaps.
    pub(crate) ends: Vec<usize>,
    /// Without markup, if there is any.
    pub(crate) plain: Option<String>,
    /// References such as `&amp;`, which are one character each, ascending.
    pub(crate) references: Vec<Range<usize>>,
    /// Without markup, with a comma where a name ends at the end of a line or cell, and with blanks for the
    /// marks of items: models that were trained on sentences do not see lines. `None` is the text as it is.
    pub(crate) read: Option<String>,
}

impl Cells {
    /// Of a text, and what it is without markup.
    pub(crate) async fn of(text: &str, plain: Plain<'_>, pace: &Pace) -> Self {
        let Plain { text: plain, ends: tags, blanks, references } = plain;
        // Ends of lines and cells, and those at which the text says enough by itself.
        let (mut ends, mut marked) = (Vec::new(), Vec::new());
        let mut blocks = Blocks::new(&plain).peekable();
        let (mut before, mut was_listed) = (None::<Mark>, false);
        let mut prefixes = Vec::new();
        while let Some(Block { bytes: block, name_ends, prefixes: marks }) = blocks.next() {
            prefixes.extend(marks);
            ends.push(block.start);
            ends.extend(name_ends);
            let (mark, end) = mark(&plain[block.clone()]);
            let next = blocks.peek().and_then(|next| self::mark(&plain[next.bytes.clone()]).0);
            // A number may be part of a name, but not if the lines are counted.
            let is_counted = |left: Option<Mark>, right: Option<Mark>| {
                left.zip(right).is_some_and(|(left, right)| left.precedes(right) || left.repeats(right))
            };
            let mut first = block.start;
            // `A. `, `B. ` may be initials, if they do not count from A, or from I.
            let is_lettered = mark.is_some_and(Mark::is_initial);
            let is_item = !is_lettered
                || (was_listed && is_counted(before, mark))
                || mark.zip(next).is_some_and(|(mark, next)| mark.begins(next));
            was_listed = mark.is_some() && is_item;
            if end > 0 && is_item && (mark.is_none() || is_counted(before, mark) || is_counted(mark, next)) {
                first = block.start + end;
                ends.push(first);
            }
            before = mark;
            let bytes = block.len();
            let tag = tags.partition_point(|tag| *tag <= first);
            let is_tagged = tags.get(tag).is_some_and(|tag| *tag < block.end);
            cells((text, &plain, &blanks), block, first, is_tagged, (&mut ends, &mut marked));
            pace.spend(bytes / SEGMENTED_PER_TOKENISED).await;
        }
        ends.extend(tags);
        ends.sort_unstable();
        ends.dedup();
        let read = Some(separated(&plain, &ends, &prefixes)).filter(|read| read != text);
        ends.append(&mut marked);
        ends.sort_unstable();
        ends.dedup();
        Self { ends, plain: matches!(plain, Cow::Owned(_)).then(|| plain.into_owned()), references, read }
    }
}

/// The number of an item, and how many bytes of a block its mark takes: `3. `, `- `.
fn mark(block: &str) -> (Option<Mark>, usize) {
    let blank = block.len() - block.trim_start().len();
    let word = block[blank..].split(char::is_whitespace).next().unwrap_or("");
    let mark = Mark::of_item(word);
    let is_circled =
        word.chars().next().is_some_and(|c| enclosed(c).is_some()) && word.chars().nth(1).is_none();
    let is_mark = is_circled || mark.is_some() || matches!(word, "-" | "*" | "+" | "–" | "—" | ">");
    let bytes = if is_mark { word.len() } else { check_box(&block[blank..]) };
    (mark, if bytes > 0 { blank + bytes } else { 0 })
}

/// Ends within a block, of a text and without its markup: those that are to be marked by a comma, and those
/// that are marked.
fn cells(
    (text, plain, blanks): (&str, &str, &[Range<usize>]),
    block: Range<usize>,
    first: usize,
    is_tagged: bool,
    (ends, marked): (&mut Vec<usize>, &mut Vec<usize>),
) {
    count(block.len());
    let part = &plain[block.clone()];
    let is_sentence = part.trim_end().ends_with(is_terminal);
    let gap = if is_sentence { GAP_MIN + 1 } else { GAP_MIN };
    // One may be within a name: "Marks & Spencer".
    let is_joined = !is_sentence
        && part.matches(" & ").nth(1).is_some()
        && !part.contains(|c| is_separator(c) || matches!(c, ',' | ':' | '/' | '–' | '—' | '\u{a0}'))
        && !part.trim().contains("  ")
        && !is_tagged;
    let mut blanks = blanks[blanks.partition_point(|blank| blank.end <= block.start)..].iter().peekable();
    let mut spaces: usize = 0;
    let mut has_name = true;
    // Indentation is no gap.
    let mut is_indent = true;
    let mut characters = part.char_indices().peekable();
    while let Some((offset, c)) = characters.next() {
        let at = block.start + offset;
        // Blanks for markup take no place, and of those around a tag one is enough.
        if c == ' ' && text.as_bytes()[at] == b'<' {
            spaces = spaces.saturating_sub(1);
        }
        while blanks.next_if(|blank| blank.end <= at).is_some() {}
        if blanks.peek().is_some_and(|blank| blank.start <= at) {
            continue;
        }
        let next = characters.peek().map(|(_, next)| *next);
        if is_line_break(c) {
            (spaces, is_indent) = (0, true);
            continue;
        }
        if c == ' ' || c == '\u{a0}' {
            let is_space = c != ' ' || text.as_bytes()[at] == b' ';
            spaces += usize::from(is_space);
            continue;
        }
        let is_spaced = next.is_none_or(char::is_whitespace);
        let is_end = is_separator(c) || (is_joined && c == '&' && spaces > 0 && is_spaced) || spaces >= gap;
        // Of what stands between two names, the first is enough.
        if at > first && !is_indent && is_end && has_name {
            ends.push(at);
            has_name = false;
        }
        has_name |= !is_separator(c);
        let is_dash = matches!(c, '-' | '–' | '—' | '/') && spaces > 0 && is_spaced;
        if at > first
            && (is_dash
                || (c == '<' && spaces > 0)
                || (c == ':' && is_spaced && ends_field(plain, &block, at)))
        {
            marked.push(at);
        }
        spaces = 0;
        is_indent &= c.is_whitespace();
    }
}

/// Whether a colon ends the name of a field or of who speaks: it is in the first words of a line, or a small
/// letter is behind it.
fn ends_field(plain: &str, block: &Range<usize>, at: usize) -> bool {
    const FIELD_MAX: usize = 48;
    let from = plain.floor_char_boundary(at.saturating_sub(FIELD_MAX).max(block.start));
    let is_first = from == block.start || plain[from..at].contains(is_line_break);
    let next = plain[at + 1..block.end].chars().find(|c| !c.is_whitespace());
    is_first || next.is_some_and(char::is_lowercase)
}

fn is_separator(c: char) -> bool {
    matches!(c, '\t' | '|' | ';' | '¦' | '│' | '\u{1c}'..='\u{1f}') || is_bullet(c)
}

/// The text with commas and blanks where names end: see [`Cells::read`].
fn separated(text: &str, ends: &[usize], prefixes: &[Range<usize>]) -> String {
    let mut written = text.as_bytes().to_vec();
    let mut ends = ends.iter().copied().peekable();
    let mut prefixes = prefixes.iter().peekable();
    // The end of what stands before, if a comma may follow it, and the bytes of what follows.
    let mut open: Option<Range<usize>> = None;
    let mut blank_to = 0;
    let mut begins_line = true;
    count(text.len());
    for (at, c) in text.char_indices() {
        let place = at..at + c.len_utf8();
        if let Some(open) = &mut open
            && open.start == open.end
            && open.start == at
            && (c.is_whitespace() || is_separator(c))
        {
            *open = place.clone();
        }
        if ends.next_if(|end| *end <= at).is_some() {
            while ends.next_if(|end| *end <= at).is_some() {}
            if let Some(Range { start, end }) =
                open.take().filter(|open: &Range<usize>| open.start < open.end)
            {
                written[start..end].fill(b' ');
                written[start] = b',';
            }
            // A mark is what two ends and nothing else are around.
            if let Some(next) = ends.peek().copied() {
                let is_mark = next - at <= MARK_MAX && mark(&text[at..next]).1 + at == next;
                blank_to = if is_mark { next } else { blank_to };
            }
        }
        while prefixes.next_if(|prefix| prefix.end <= at).is_some() {}
        let is_quote = (begins_line && c == '>') || prefixes.peek().is_some_and(|prefix| prefix.start <= at);
        let is_mark = at < blank_to || is_quote || is_separator(c);
        begins_line = is_line_break(c) || (begins_line && (is_quote || c.is_whitespace()));
        if is_mark && !matches!(written[at], b',' | b'\n' | b'\r') {
            written[place].fill(b' ');
        } else if !c.is_whitespace() && !is_mark {
            let is_name = c.is_alphanumeric() || matches!(c, ')' | '"' | '”' | '’' | '\'');
            open = is_name.then_some(place.end..place.end);
        }
    }
    // Whole characters were replaced by blanks.
    String::from_utf8(written).unwrap_or_else(|_| text.to_owned())
}
