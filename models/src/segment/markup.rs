//! Tags, comments and references of HTML and XML: marks around a text, and no part of it.

mod follower;
mod paragraphs;
mod reference;
mod tag;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::count;
use follower::TagFollower;
use reference::reference;
pub(crate) use tag::is_of_html;
use tag::{is_inline, is_of_name, tag};

/// Longest mark such as `<![endif]>`, in bytes.
const CONDITION_MAX: usize = 128;
/// Longest beginning of an address that holds what it stands for, in bytes: `data:image/png;charset=utf-8`.
const MEDIA_MAX: usize = 128;
/// Stands inside a word where a tag or the rest of a reference was: tokenizers drop it.
const NOTHING: u8 = 1;

/// A text without its markup: it has as many bytes, and characters begin at the same ones.
pub(crate) struct Plain<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Where tags begin that end what they stand behind, ascending.
    pub(super) ends: Vec<usize>,
    /// Tags with blanks in them, which part nothing, ascending.
    pub(super) blanks: Vec<Range<usize>>,
    /// References for which a character stands now, ascending.
    pub(super) references: Vec<Range<usize>>,
}

enum Mark<'a> {
    Tag(Tag<'a>),
    /// To which byte, and what it stands for.
    Reference {
        end: usize,
        text: &'static str,
        number: Option<char>,
    },
}

struct Tag<'a> {
    end: usize,
    /// Empty if it is no element of HTML.
    name: &'a str,
    /// Whether a name goes on over it.
    is_inline: bool,
}

/// Looks for markup, and remembers what it looked for in vain, so that nothing is looked for twice.
struct Scanner<'a> {
    text: &'a str,
    /// Names of elements that are closed somewhere; found once they are asked for.
    closed: Option<HashSet<&'a str>>,
    /// What never ends behind the place at hand.
    unended: Vec<&'static str>,
}

impl<'a> Plain<'a> {
    /// Puts blanks for the markup of a text, and characters for references.
    pub(crate) fn of(text: &'a str) -> Self {
        let mut scanner = Scanner { text, closed: None, unended: Vec::new() };
        let mut follower = TagFollower::default();
        let mut references = Vec::new();
        let mut written: Option<Vec<u8>> = None;
        let mut at = 0;
        count(text.len());
        while let Some(offset) = text[at..].find(['<', '&', '\\']) {
            let start = at + offset;
            let Some(mark) = scanner.mark(start) else {
                at = start + 1;
                continue;
            };
            let bytes = written.get_or_insert_with(|| text.as_bytes().to_vec());
            at = match mark {
                Mark::Tag(tag) => {
                    let place = start..tag.end;
                    let is_within = tag.is_inline && is_within_word(text, start, tag.end);
                    if bytes[place.clone()].contains(&b' ') {
                        follower.blanks.push(place.clone());
                    }
                    bytes[place.clone()].fill(if is_within { NOTHING } else { b' ' });
                    follower.pass(text, bytes, place, tag.name, tag.is_inline);
                    tag.end
                }
                Mark::Reference { end, text: name, number } => {
                    let mut buffer = [0; 4];
                    let character = number.map_or(name, |number| number.encode_utf8(&mut buffer));
                    write_reference(text, bytes, start..end, character);
                    references.push(start..end);
                    end
                }
            };
        }
        for data in addresses_of_data(text) {
            let bytes = written.get_or_insert_with(|| text.as_bytes().to_vec());
            // Those within tags are gone.
            if bytes[data.start] != b' ' && bytes[data.start] != NOTHING {
                bytes[data.clone()].fill(b' ');
                follower.ends.push(data.start);
            }
        }
        let (ends, blanks) = follower.finish();
        // Whole characters were replaced by whole ones.
        let text = match written.map(String::from_utf8) {
            Some(Ok(written)) => Cow::Owned(written),
            _ => Cow::Borrowed(text),
        };
        Self { text, ends, blanks, references }
    }
}

fn write_reference(text: &str, bytes: &mut [u8], place: Range<usize>, character: &str) {
    let rest = place.start + character.len();
    bytes[place.start..rest].copy_from_slice(character.as_bytes());
    let is_within = text[..place.start].ends_with(char::is_alphanumeric)
        && text[place.end..].starts_with(char::is_alphanumeric);
    let is_letter = character.starts_with(char::is_alphabetic);
    let is_space = character.starts_with(char::is_whitespace);
    let is_nothing = is_letter || (is_within && !is_space);
    bytes[rest..place.end].fill(if is_nothing { NOTHING } else { b' ' });
}

/// Whether what is at the ends of a tag is one word: `An<b>na`, but not `Anna</b><b>Schmidt`.
fn is_within_word(text: &str, start: usize, end: usize) -> bool {
    text[..start].ends_with(char::is_alphabetic) && text[end..].starts_with(char::is_lowercase)
}

/// Where addresses stand that hold a picture or other data themselves: `data:image/png;base64,…`.
fn addresses_of_data(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let is_of_media =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+' | b'.' | b'-' | b';' | b'=' | b':');
    let is_of_data =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+' | b'-' | b'_' | b'=' | b'%');
    count(text.len());
    text.match_indices(";base64,").filter_map(move |(at, mark)| {
        let bytes = text.as_bytes();
        let media = bytes[..at].iter().rev().take(MEDIA_MAX).take_while(|b| is_of_media(**b)).count();
        count(media);
        let start = at - media + text[at - media..at].find("data:")?;
        let from = at + mark.len();
        let length = bytes[from..].iter().take_while(|b| is_of_data(**b)).count();
        Some(start..from + length)
    })
}

impl<'a> Scanner<'a> {
    fn mark(&mut self, start: usize) -> Option<Mark<'a>> {
        let rest = &self.text[start..];
        let unnamed = |end: usize, is_inline: bool| Mark::Tag(Tag { end, name: "", is_inline });
        if rest.starts_with('\\') {
            return self.line_break(start).map(|end| unnamed(end, false));
        }
        if rest.starts_with('&') {
            // HTML that was escaped once too often.
            if let Some((name, length)) = tag::escaped_tag(rest) {
                return Some(unnamed(start + length, is_inline(&name)));
            }
            let (length, text, number) = reference(rest)?;
            return Some(Mark::Reference { end: start + length, text, number });
        }
        if let Some(comment) = rest.strip_prefix("<!--") {
            // `<!-->` is an empty one.
            let empty = ["->", ">"].iter().find(|end| comment.starts_with(**end));
            let end = match empty {
                Some(end) => start + 4 + end.len(),
                None => self.find(start + 4, "-->")?,
            };
            return Some(unnamed(end, true));
        }
        if rest.starts_with("<![") {
            let head = &rest[..rest.floor_char_boundary(CONDITION_MAX)];
            return head.find("]>").map(|end| unnamed(start + end + 2, true));
        }
        let (name, length) = tag(rest)?;
        let end = start + length;
        let lower = name.to_ascii_lowercase();
        let is_known = is_of_html(&lower);
        if !is_known && !self.is_element(&self.text[start..end], name) {
            return None;
        }
        // What is between these is no text either.
        let close = match lower.as_str() {
            "script" => Some("</script"),
            "style" => Some("</style"),
            _ => None,
        };
        let close = close.filter(|_| !rest.starts_with("</"));
        let end = close.and_then(|close| self.find_close(end, close)).unwrap_or(end);
        Some(Mark::Tag(Tag { end, name: if is_known { name } else { "" }, is_inline: is_inline(&lower) }))
    }

    /// A line break that is written out: `Anna\nPeter`, but not `C:\names`. Gives its end.
    fn line_break(&self, start: usize) -> Option<usize> {
        let (before, rest) = (&self.text[..start], &self.text[start..]);
        let length = ["\\r\\n", "\\n", "\\t"].iter().find(|written| rest.starts_with(**written))?.len();
        let is_break = before
            .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | ',' | '!' | '?' | ')' | ':'))
            && rest[length..].starts_with(|c: char| c.is_uppercase() || c == '\\');
        let is_path = before.ends_with(':')
            && before.as_bytes().iter().rev().nth(1).is_some_and(u8::is_ascii_uppercase);
        (is_break && !is_path).then_some(start + length)
    }

    /// Where something ends that is looked for from a place on.
    fn find(&mut self, from: usize, what: &'static str) -> Option<usize> {
        if self.unended.contains(&what) {
            return None;
        }
        let found = self.text[from..].find(what);
        count(found.unwrap_or(self.text.len() - from));
        if found.is_none() {
            self.unended.push(what);
        }
        found.map(|offset| from + offset + what.len())
    }

    /// Where an element ends that is looked for from a place on, its name in capitals or not: `</SCRIPT >`.
    fn find_close(&mut self, from: usize, close: &'static str) -> Option<usize> {
        if self.unended.contains(&close) {
            return None;
        }
        let bytes = self.text.as_bytes();
        let is_close = |at: usize| {
            let name = bytes.get(at..at + close.len());
            let next = bytes.get(at + close.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(close.as_bytes()))
                && next.is_some_and(|next| !is_of_name(*next))
        };
        let mut places = self.text[from..].match_indices("</").map(|(offset, _)| from + offset);
        let found = places.find(|at| is_close(*at));
        count(found.unwrap_or(self.text.len()) - from);
        if found.is_none() {
            self.unended.push(close);
        }
        let at = found?;
        let end = self.find(at, ">")?;
        Some(end)
    }

    /// Whether a tag that is none of HTML is one of XML: it closes, has values, or is closed somewhere.
    fn is_element(&mut self, tag: &str, name: &str) -> bool {
        let is_plain = tag.len() == name.len() + 2;
        tag.starts_with("</")
            || tag.starts_with("<!")
            || tag.starts_with("<?")
            || tag.ends_with("/>")
            || (tag.contains("=\"") || tag.contains("='"))
            || (is_plain && self.closed().contains(name))
    }

    fn closed(&mut self) -> &HashSet<&'a str> {
        let text = self.text;
        self.closed.get_or_insert_with(|| {
            count(text.len());
            let names = text.match_indices("</").map(|(at, _)| {
                let name = &text[at + 2..];
                &name[..name.bytes().take_while(|b| is_of_name(*b)).count()]
            });
            names.collect()
        })
    }
}

#[cfg(test)]
mod tests;
