//! Where names end although a model may read on: at the ends of lines that do not read on, of items and of cells.

use std::ops::Range;

use super::count;
use super::lines::{Blocks, is_bullet, is_line_break};
use super::scan::{self, Mark};

/// Spaces that part two columns in a line that is no sentence; in one that is, two may be a slip.
const GAP_MIN: usize = 2;

/// The places before which a name ends, ascending: the start of each block, the end of its mark if it is an item of a list,
/// tabs, bars, bullets, semicolons and wide gaps.
pub(crate) fn name_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut blocks = Blocks::new(text).peekable();
    let mut before = None;
    while let Some(block) = blocks.next() {
        ends.push(block.start);
        let (mark, end) = mark(&text[block.clone()]);
        let next = blocks.peek().and_then(|next| self::mark(&text[next.clone()]).0);
        // A number may be part of a name, but not if the lines are counted.
        let is_counted = |left: Option<Mark>, right: Option<Mark>| {
            left.zip(right).is_some_and(|(left, right)| left.precedes(right))
        };
        if end > 0 && (mark.is_none() || is_counted(before, mark) || is_counted(mark, next)) {
            ends.push(block.start + end);
        }
        before = mark;
        cells(text, block, &mut ends);
    }
    ends.dedup();
    ends
}

/// The number of an item, and how many bytes of a block its mark takes: `3. `, `- `.
fn mark(block: &str) -> (Option<Mark>, usize) {
    let blank = block.len() - block.trim_start().len();
    let word = block[blank..].split(char::is_whitespace).next().unwrap_or("");
    let mark = Mark::of(word);
    let is_mark = mark.is_some() || matches!(word, "-" | "*" | "+" | "–" | "—" | ">");
    (mark, if is_mark { blank + word.len() } else { 0 })
}

/// Ends within a block.
fn cells(text: &str, block: Range<usize>, ends: &mut Vec<usize>) {
    count(block.len());
    let is_sentence = text[block.clone()].trim_end().ends_with(scan::is_terminal);
    let gap = if is_sentence { GAP_MIN + 1 } else { GAP_MIN };
    let first = ends.last().copied().unwrap_or(0);
    let mut spaces = 0;
    for (at, c) in text[block.clone()].char_indices() {
        let at = block.start + at;
        if c == ' ' || c == '\u{a0}' {
            spaces += 1;
            continue;
        }
        if at > first && (is_separator(c) || spaces >= gap && !is_line_break(c)) {
            ends.push(at);
        }
        // Indentation is no gap.
        spaces = 0;
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, '\t' | '|' | ';' | '¦' | '│') || is_bullet(c)
}

/// The text with a comma where a name ends at the end of a line or cell, and with blanks for the marks of items: models that
/// were trained on sentences do not see lines. It has as many bytes, and characters begin at the same ones.
pub(crate) fn separated(text: &str, ends: &[usize]) -> String {
    let mut written = text.as_bytes().to_vec();
    let mut ends = ends.iter().copied().peekable();
    // The end of what stands before, if a comma may follow it.
    let mut open = None;
    let mut blank_to = 0;
    count(text.len());
    for (at, c) in text.char_indices() {
        if ends.next_if(|end| *end <= at).is_some() {
            if let Some(byte) = open.take().and_then(|open: usize| written.get_mut(open))
                && (byte.is_ascii_whitespace() || matches!(*byte, b';' | b'|'))
            {
                *byte = b',';
            }
            // A mark is what two ends and nothing else are around.
            if let Some(next) = ends.peek().copied() {
                let is_mark = next - at <= MARK_MAX && mark(&text[at..next]).1 + at == next;
                blank_to = if is_mark { next } else { blank_to };
            }
        }
        let is_mark = at < blank_to || is_separator(c);
        if is_mark && !matches!(written[at], b',' | b'\n' | b'\r') {
            written[at..at + c.len_utf8()].fill(b' ');
        } else if !c.is_whitespace() && !is_mark {
            let is_name = c.is_alphanumeric() || matches!(c, ')' | '"' | '”' | '’' | '\'');
            open = is_name.then_some(at + c.len_utf8());
        }
    }
    // Whole characters were replaced by blanks, and single bytes by others.
    String::from_utf8(written).unwrap_or_else(|_| text.to_owned())
}

/// Longest mark of an item with the blanks before it, in bytes.
const MARK_MAX: usize = 64;
