//! Which lines of a text are of logs, code or tables, or wrap it as headers do: by themselves, and by what
//! they stand in.

mod furniture;
mod log;
mod paragraph;
mod table;
mod wrapping;

use std::ops::Range;

use super::code::{is_code, is_prompt, prose_words};
use crate::segment::{count, is_line_break};
use furniture::Repeats;
use log::{is_error, is_log, is_of_tool};
use table::is_row;
use wrapping::Patch;

/// Bytes of a line that are looked at.
const LOOKED_MAX: usize = 4096;
/// Lines of a paragraph that are looked at together.
const PARAGRAPH_MAX: usize = 4096;

/// The lines of a text that are not blank, and whether they are of its matter.
pub(super) struct Lines(Vec<Line>);

struct Line {
    bytes: Range<usize>,
    /// Whether it is further to the right than the first of its paragraph, or could be.
    is_indented: bool,
    apart: Apart,
    repeats: Repeats,
}

/// Whether a line is of a log, of code, of a table, or wraps the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Apart {
    No,
    /// It looks so, and may be a line of prose that was broken at an odd place.
    Looks,
    Surely,
}

/// Lines of one kind in a row, and the bytes of a sentence that are in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) bytes: Range<usize>,
    pub(super) apart: Apart,
    /// Whether they are headers or footers of pages.
    pub(super) is_furniture: bool,
    pub(super) lines: Range<usize>,
}

/// What lines stand in.
#[derive(Default)]
struct Place {
    /// Between lines of ``` everything is code.
    is_fenced: bool,
    /// Within `"""`, `/* */`, or armour: what ends it.
    until: Option<&'static str>,
    /// The indentation of a line such as `def run(x):`, which is above what is further to the right.
    body: Option<usize>,
    /// Below `Traceback`, up to the line of the error.
    is_trace: bool,
    /// Below a command, among what it printed.
    is_output: bool,
    /// At the head of a patch.
    is_patch: bool,
    /// Lines of a part of a patch that are still to come, before and after it.
    hunk: (usize, usize),
}

impl Lines {
    /// Of a text without its markup, and as it was written.
    pub(super) fn of(text: &str, raw: &str) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        // The line that opened what is not closed yet.
        let (mut start, mut paragraph, mut opened) = (0, 0, 0);
        let mut place = Place::default();
        for whole in text.split_inclusive(is_line_break) {
            let line = whole.trim();
            let indent = whole.len() - whole.trim_start().len();
            let from = start + indent;
            start += whole.len();
            if line.is_empty() || lines.len() - paragraph >= PARAGRAPH_MAX {
                if whole != "\n" || !text[..start - whole.len()].ends_with('\r') {
                    paragraph::look_at(text, &mut lines[paragraph..]);
                    paragraph = lines.len();
                    place.end_paragraph();
                }
                if line.is_empty() {
                    continue;
                }
            }
            let head = &line[..line.floor_char_boundary(LOOKED_MAX)];
            count(head.len() + 1);
            let (was_open, was_fenced) = (place.is_open(), place.is_fenced);
            let mut apart = place.apart(head, indent);
            if place.is_open() && !was_open {
                opened = lines.len();
            }
            let is_of_fence = was_fenced || place.is_fenced;
            // What is fenced says nothing of the lines around it.
            if is_of_fence {
                paragraph::look_at(text, &mut lines[paragraph..]);
            }
            let bytes = from..from + line.len();
            // Tags beside a value are blanks in the text.
            let written = raw.get(start - whole.len()..start).unwrap_or("").trim();
            let is_short = written.len() <= LOOKED_MAX;
            if is_short && written.len() > line.len() && wrapping::is_element(written) {
                apart = apart.max(Apart::Looks);
            }
            lines.push(Line { bytes, is_indented: indent > 0, apart, repeats: Repeats::No });
            paragraph = if is_of_fence { lines.len() } else { paragraph };
        }
        paragraph::look_at(text, &mut lines[paragraph..]);
        if place.is_open() {
            // What is never closed was not opened.
            let mut place = Place::default();
            for line in lines.iter_mut().skip(opened + 1) {
                let head = &text[line.bytes.clone()];
                let head = &head[..head.floor_char_boundary(LOOKED_MAX)];
                count(head.len());
                line.apart = place.apart(head, 0);
            }
        }
        let repeats = furniture::of(lines.iter().map(|line| &text[line.bytes.clone()]));
        for (line, repeats) in lines.iter_mut().zip(repeats) {
            line.repeats = repeats;
        }
        Self(lines)
    }

    /// The line, at or behind a place, in which a byte is.
    pub(super) fn place(&self, from: usize, byte: usize) -> usize {
        let mut place = from;
        while self.0.get(place + 1).is_some_and(|next| next.bytes.start <= byte) {
            place += 1;
            count(1);
        }
        place
    }

    /// The lines of a sentence that begins in this line, parted where others begin than prose.
    pub(super) fn stretches(&self, place: usize, sentence: &Range<usize>) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        let lines =
            self.0.iter().enumerate().skip(place).take_while(|(_, line)| line.bytes.start < sentence.end);
        for (index, line) in lines {
            count(1);
            let bytes = line.bytes.start.max(sentence.start)..line.bytes.end.min(sentence.end);
            if bytes.is_empty() {
                continue;
            }
            let is_furniture = line.repeats == Repeats::Header;
            match stretches.last_mut() {
                Some(last) if last.apart == line.apart && last.is_furniture == is_furniture => {
                    last.bytes.end = bytes.end;
                    last.lines.end = index + 1;
                }
                _ => stretches.push(Stretch {
                    bytes,
                    apart: line.apart,
                    is_furniture,
                    lines: index..index + 1,
                }),
            }
        }
        stretches
    }

    /// Whether a sentence is a line and nothing else.
    pub(super) fn is_line(&self, place: usize, sentence: &Range<usize>) -> bool {
        self.0.get(place).is_some_and(|line| line.bytes == *sentence)
    }

    /// Whether a line comes again and again.
    pub(super) fn repeats(&self, place: usize) -> bool {
        self.0.get(place).is_some_and(|line| line.repeats != Repeats::No)
    }
}

/// Whether a word is an article, a pronoun, or another of which sentences are full.
fn is_grammatical(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    word.len() <= 8 && crate::segment::is_grammar(&word.to_lowercase())
}

/// Whether a line below a command is prose, and none of what the command printed.
fn is_telling(line: &str) -> bool {
    let grammar = line.split_whitespace().filter(|word| is_grammatical(word)).count();
    let is_ended = line.ends_with(['.', '!', '?']) && !line.ends_with("...");
    let is_anew = line.starts_with(|c: char| c.is_uppercase());
    grammar > 1 || (is_anew && is_ended && line.split_whitespace().nth(2).is_some())
}

impl Place {
    /// Whether something was opened that ends with a mark of its own.
    fn is_open(&self) -> bool {
        self.is_fenced || self.until.is_some()
    }

    fn end_paragraph(&mut self) {
        (self.is_output, self.is_patch) = (false, false);
    }

    /// What the next line is.
    fn apart(&mut self, line: &str, indent: usize) -> Apart {
        if self.is_within(line, indent) {
            return Apart::Surely;
        }
        if self.body.is_some_and(|body| indent > body) {
            return Apart::Looks;
        }
        let is_code = is_code(line);
        self.body = (is_code && (line.ends_with([':', '{']))).then_some(indent);
        self.is_output = is_prompt(line) || is_of_tool(line) || (self.is_output && !is_telling(line));
        if is_log(line) || self.is_output {
            return Apart::Surely;
        }
        if is_code || is_row(line) { Apart::Looks } else { Apart::No }
    }

    /// Whether a line is within something that began before, or begins it.
    fn is_within(&mut self, line: &str, indent: usize) -> bool {
        if let Some(end) = self.until {
            if line.contains(end) {
                self.until = None;
            }
            return true;
        }
        if line.starts_with("```") || line.starts_with("~~~") {
            self.is_fenced = !self.is_fenced;
            return true;
        }
        if self.is_fenced {
            return true;
        }
        if self.is_trace {
            self.is_trace = indent > 0 && !is_error(line);
            return true;
        }
        for quote in ["\"\"\"", "'''"] {
            let quotes = line.matches(quote).count();
            if quotes % 2 == 1 {
                self.until = Some(quote);
            }
            if quotes > 0 {
                return true;
            }
        }
        if line.starts_with("/*") {
            self.until = Some("*/").filter(|end| !line.contains(end));
            return true;
        }
        self.is_trace = line.starts_with("Traceback (");
        if wrapping::is_mark(line) {
            self.until = wrapping::armour(line);
            return true;
        }
        self.is_of_patch(line, indent)
    }

    fn is_of_patch(&mut self, line: &str, indent: usize) -> bool {
        if let Some(patch) = Patch::of(line) {
            self.is_patch = true;
            self.hunk = match patch {
                Patch::Head => (0, 0),
                Patch::Hunk(old, new) => (old, new),
            };
            return true;
        }
        let (old, new) = self.hunk;
        if old + new > 0 {
            let (is_old, is_new) = (line.starts_with('-'), line.starts_with('+'));
            let is_same = indent > 0 && !is_old && !is_new;
            if is_old || is_new || is_same || line.starts_with('\\') {
                let old = old.saturating_sub(usize::from(is_old || is_same));
                self.hunk = (old, new.saturating_sub(usize::from(is_new || is_same)));
                return true;
            }
            self.hunk = (0, 0);
        }
        self.is_patch = self.is_patch && wrapping::is_of_patch_head(line);
        self.is_patch
    }
}

#[cfg(test)]
mod tests;
