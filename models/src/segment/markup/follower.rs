//! What tags say of the text between them: which of them end a name, which line breaks are blanks, and what
//! is the number of a note.

use std::ops::Range;

use super::super::count;
use super::super::marks::is_line_break;
use super::tag;

/// Longest number of a note, in bytes, the tags around it aside.
const NOTE_MAX: usize = 12;
/// Longest text of an element, in bytes, that may be a name of its own.
const NAME_MAX: usize = 96;

/// Follows tags from the start of a text to its end.
#[derive(Default)]
pub(super) struct TagFollower {
    /// Where tags begin that end what they stand behind.
    pub(super) ends: Vec<usize>,
    /// Markup with blanks in it, which parts nothing.
    pub(super) blanks: Vec<Range<usize>>,
    /// Up to where the text was looked at.
    passed: usize,
    /// Whether a link, or an element that holds a whole name, was closed, and nothing but marks is behind it.
    is_behind_link: bool,
    is_behind_name: bool,
    /// The element within a line that was opened last and not closed.
    open: Option<Element>,
    /// The note that is open.
    note: Option<Range<usize>>,
    /// Where the text of a paragraph begins, and whether lines of it are ended by tags.
    paragraph: Option<Element>,
    has_breaks: bool,
}

struct Element {
    name: String,
    tag: Range<usize>,
    /// Whether it directly follows one that holds a whole name.
    is_next: bool,
}

impl TagFollower {
    /// Passes a tag, of which the text is blank already.
    pub(super) fn pass(
        &mut self,
        text: &str,
        bytes: &mut [u8],
        place: Range<usize>,
        name: &str,
        is_inline: bool,
    ) {
        let between = str_of(bytes, self.passed..place.start);
        count(between.len());
        if between.contains(char::is_alphanumeric) {
            (self.is_behind_link, self.is_behind_name) = (false, false);
        }
        self.passed = place.end;
        let is_closing = text[place.start..].starts_with("</");
        let name = name.to_ascii_lowercase();
        if !is_inline {
            self.pass_block(text, bytes, place, name, is_closing);
        } else if name.is_empty() {
            // A comment.
        } else if is_closing {
            self.close(text, bytes, place, &name);
        } else {
            if name == "a" && self.is_behind_link {
                self.ends.push(place.start);
            }
            if name == "sup" {
                self.note = Some(place.clone());
            }
            self.open = Some(Element { name, tag: place, is_next: self.is_behind_name });
        }
    }

    /// Ends and blanks, ascending.
    pub(super) fn finish(self) -> (Vec<usize>, Vec<Range<usize>>) {
        let Self { mut ends, mut blanks, .. } = self;
        ends.sort_unstable();
        ends.dedup();
        blanks.sort_unstable_by_key(|blank| (blank.start, blank.end));
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(blanks.len());
        for blank in blanks {
            match merged.last_mut() {
                Some(last) if blank.start < last.end => last.end = last.end.max(blank.end),
                _ => merged.push(blank),
            }
        }
        (ends, merged)
    }

    /// The end of an element within a line.
    fn close(&mut self, text: &str, bytes: &mut [u8], place: Range<usize>, name: &str) {
        if let Some(note) = self.note.take_if(|_| name == "sup")
            && is_note(text, bytes, note.start, note.end..place.start)
        {
            bytes[note.start..place.end].fill(b' ');
            self.blanks.push(note.start..place.end);
            self.open = None;
            return;
        }
        self.is_behind_link |= name == "a";
        let Some(open) = self.open.take_if(|open| open.name == name) else { return };
        let content = open.tag.end..place.start;
        if content.len() <= NAME_MAX && is_full_name(str_of(bytes, content)) {
            // "<b>Anna Schmidt</b> <b>Peter Jones</b>", but not "<b>Anna</b> <b>Schmidt</b>".
            if open.is_next {
                self.ends.push(open.tag.start);
            }
            self.is_behind_name = true;
        }
    }

    /// A tag that ends a line or a paragraph.
    fn pass_block(
        &mut self,
        text: &str,
        bytes: &mut [u8],
        place: Range<usize>,
        name: String,
        is_closing: bool,
    ) {
        // A line that is broken in HTML and in the text, too: the lines tell whether it reads on.
        let is_break = name == "br";
        if !(is_break && text[place.end..].starts_with(is_line_break)) {
            self.ends.push(place.start);
        }
        (self.is_behind_link, self.is_behind_name) = (false, false);
        (self.open, self.note) = (None, None);
        if is_break {
            self.has_breaks = true;
            return;
        }
        let paragraph = self.paragraph.take();
        if let Some(paragraph) =
            paragraph.filter(|paragraph| is_closing && paragraph.name == name && !self.has_breaks)
        {
            self.join_lines(bytes, paragraph.tag.end..place.start);
        }
        self.has_breaks = false;
        if !is_closing && tag::is_flow(&name) {
            self.paragraph = Some(Element { name, tag: place, is_next: false });
        }
    }

    /// Makes line breaks within a paragraph blanks, as HTML has them. What was written line by line stays so:
    /// paragraphs with blank lines between them, and lines that are a name each.
    fn join_lines(&mut self, bytes: &mut [u8], place: Range<usize>) {
        let text = str_of(bytes, place.clone());
        count(2 * text.len());
        let start = place.start + text.len() - text.trim_start().len();
        let text = text.trim();
        let lines = || text.lines().map(|line| line.trim_matches(is_blank));
        if !text.contains('\n') || lines().any(str::is_empty) || lines().all(is_full_name) {
            return;
        }
        let mut breaks = Vec::new();
        let mut blank: Option<(usize, bool)> = None;
        for (offset, c) in text.char_indices() {
            if is_blank(c) {
                let (from, has_break) = blank.unwrap_or((offset, false));
                blank = Some((from, has_break || c == '\n'));
            } else if let Some((from, true)) = blank.take() {
                breaks.push(start + from..start + offset);
            }
        }
        for place in breaks {
            bytes[place.clone()].fill(b' ');
            if place.len() > 1 {
                self.blanks.push(place);
            }
        }
    }
}

/// Blanks of ASCII, and what stands for markup within a word.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{1}'
}

fn str_of(bytes: &[u8], place: Range<usize>) -> &str {
    std::str::from_utf8(&bytes[place]).unwrap_or("")
}

/// Whether what a `sup` holds is the number of a note: `Schmidt<sup>1</sup>`, `it.<sup>[2]</sup>`, but not
/// `10<sup>2</sup>`.
fn is_note(text: &str, bytes: &[u8], start: usize, content: Range<usize>) -> bool {
    let note = str_of(bytes, content);
    count(note.len());
    let note = note.trim_matches(is_blank);
    let is_of_note =
        |c: char| c.is_ascii_digit() || matches!(c, '[' | ']' | ',' | ' ' | '*' | '†' | '‡' | '§');
    !note.is_empty()
        && note.len() <= NOTE_MAX
        && note.chars().all(is_of_note)
        && !text[..start].ends_with(|c: char| c.is_numeric())
}

/// Whether a text is two words or more, each with a capital but for those between the first and the last.
fn is_full_name(text: &str) -> bool {
    let is_capital = |word: &str| word.starts_with(char::is_uppercase);
    let mut words = text.split(is_blank).filter(|word| !word.is_empty());
    let (first, last) = (words.next(), words.next_back());
    first.is_some_and(is_capital) && last.is_some_and(is_capital)
}
