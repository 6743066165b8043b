//! A line by itself: how it begins and ends, and what it is made of.

use std::ops::Range;

use super::count;
use super::kind::Kind;
use super::marks::{is_closer, is_terminal};
use super::scan::without_notes;
use super::words;

/// Most words of an entry of a list.
pub(super) const ENTRY_WORDS: usize = 8;
/// Longest word that says something about the width of a column; longer ones are addresses of pages.
const WORD_MAX: usize = 30;

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With a small letter.
    Lower,
    /// With a capital, a digit, or a letter of a script that has no capitals.
    Anew,
    /// With none of these.
    Other,
}

/// A line that is not blank, with what decides whether the next goes on with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// With its white space and its line break.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) first: &'a str,
    pub(super) last: &'a str,
    /// In characters.
    pub(super) width: usize,
    pub(super) words: usize,
    /// Those of them that a list of names hardly has, and of these the ones that no name has.
    pub(super) grammar: usize,
    pub(super) no_name: usize,
    pub(super) begin: Begin,
    pub(super) is_ended: bool,
    pub(super) is_wide: bool,
    /// `Dear all,`
    pub(super) is_greeting: bool,
    pub(super) kind: Kind,
}

/// Whether the first word of the second line would have fitted into the first. Behind a full stop there may
/// be two spaces.
pub(super) fn is_meant(before: &Line<'_>, line: &Line<'_>, width: usize) -> bool {
    before.width + 1 + usize::from(before.is_ended) + line.first.chars().take(width + 1).count() <= width
}

/// Whether a capital of a word says that a sentence begins with it, and not a name.
pub(super) fn begins_sentence(word: &str) -> bool {
    let word = word.trim_end_matches([',', ';']);
    // A letter may be a number: "Exhibit", "A."
    word.len() > 1
        && !word.ends_with('.')
        && word.starts_with(char::is_uppercase)
        && words::is_starter(&bare(word))
}

/// A word without marks at its ends, in small letters; empty if it is too long to be in a table.
pub(super) fn bare(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    if bare.len() <= words::WORD_MAX { bare.to_lowercase() } else { String::new() }
}

/// Whether a line that ends with this word must go on.
pub(super) fn is_unfinished(last: &str) -> bool {
    use words::Class::{Link, Numbered, Title};
    words::is_unfinished(last) || matches!(abbreviation(last), Some(Title | Link | Numbered))
}

/// `J.`
pub(super) fn is_initial(word: &str) -> bool {
    word.strip_suffix('.').is_some_and(|letter| letter.len() == 1 && letter.starts_with(char::is_alphabetic))
}

/// Whether a name has an initial at the end of a line: "John F.", "Kennedy spoke".
pub(super) fn is_initialed(before: &Line<'_>, line: &Line<'_>) -> bool {
    is_initial(before.last)
        && before.words > 1
        && before.last.starts_with(char::is_uppercase)
        && line.first.starts_with(char::is_uppercase)
        && !begins_sentence(line.first)
}

/// Whether a word goes on in the next line: "Schmidt-".
pub(super) fn is_hyphened(last: &str) -> bool {
    last.strip_suffix(['-', '\u{2010}', '\u{ad}']).is_some_and(|part| part.ends_with(char::is_alphabetic))
}

/// "No." at the end of a line, which a number follows.
pub(super) fn is_numbered(last: &str) -> bool {
    matches!(abbreviation(last), Some(words::Class::NumberedWord))
}

/// The class of the abbreviation that a word is.
fn abbreviation(word: &str) -> Option<words::Class> {
    let stem = word.strip_suffix('.').filter(|stem| stem.len() <= words::WORD_MAX)?;
    let stem = stem.trim_start_matches(|c: char| !c.is_alphanumeric());
    words::class(stem, &stem.to_lowercase(), false)
}

impl<'a> Line<'a> {
    pub(super) fn new(range: Range<usize>, text: &'a str) -> Self {
        count(text.len());
        let kind = Kind::of(text);
        let body = if kind == Kind::Quoted { text.trim_start_matches(['>', ' ']) } else { text };
        let begin = match body.chars().find(|c| c.is_alphanumeric()) {
            Some(c) if c.is_lowercase() => Begin::Lower,
            Some(_) => Begin::Anew,
            None => Begin::Other,
        };
        let unclosed = without_notes(text).trim_end_matches(is_closer);
        let words = || body.split_whitespace();
        let (mut count, mut grammar, mut no_name) = (0, 0, 0);
        for word in words() {
            let word = bare(word);
            // "the Alps" is an entry, too.
            no_name += usize::from(words::is_grammar(&word) && (count > 0 || word != "the"));
            grammar += usize::from(words::is_grammar(&word) || words::is_link(&word));
            count += 1;
        }
        Self {
            start: range.start,
            end: range.end,
            first: words().next().unwrap_or(""),
            last: body.rsplit(char::is_whitespace).next().unwrap_or(""),
            width: text.chars().count(),
            words: count,
            grammar,
            no_name,
            begin,
            is_ended: unclosed.ends_with(is_terminal),
            is_wide: words().any(|word| word.len() > WORD_MAX && word.chars().count() > WORD_MAX),
            is_greeting: text.ends_with([',', '!']) && is_greeting(body),
            kind,
        }
    }
}

impl Line<'_> {
    /// Whether no line goes on with it, nor does it with one.
    pub(super) fn stands_alone(&self) -> bool {
        matches!(self.kind, Kind::Header | Kind::Title | Kind::Rule | Kind::Row)
    }

    /// Where its last word begins.
    pub(super) fn start_of_last(&self, text: &str) -> usize {
        self.start + text[self.start..self.end].trim_end().len() - self.last.len()
    }

    /// Whether it could be a name, or a few: short, and without words that no name has.
    pub(super) fn is_entry(&self) -> bool {
        self.no_name == 0 && self.words <= ENTRY_WORDS
    }
}

fn is_greeting(line: &str) -> bool {
    let first = line.split(|c: char| !c.is_alphabetic()).next().unwrap_or("");
    first.len() <= words::WORD_MAX && words::is_greeting(&first.to_lowercase())
}
