//! Sentences of a text, as byte ranges, and where names end.
//!
//! A text is cut into blocks of lines that read on ([`lines`]), a block into words ([`scan`]), and behind
//! each word that ends with a mark it is decided whether a sentence ends ([`ends`]), by tables of
//! abbreviations and of words that begin sentences ([`words`]). Everything goes forward and looks a few words
//! ahead, so that the work is proportional to the text. A sentence depends on its own paragraph only: two
//! texts with a blank line between them have the sentences of both.

mod cells;
mod citations;
mod comment;
mod ends;
mod feelings;
mod forms;
mod item;
mod kind;
mod letters;
mod line;
mod lines;
mod marks;
mod markup;
mod scan;
mod sentence;
mod times;
mod words;

use std::ops::Range;

use crate::pool::Pace;

pub(crate) use cells::Cells;
pub(crate) use kind::{is_stamped, is_tabbed_prose};
pub(crate) use marks::is_line_break;
pub(crate) use markup::{Plain, is_of_html};
pub(crate) use words::{is_exclaimed, is_grammar, is_unfinished};

/// Bytes of words that are read in one step.
const STEP: usize = 16 << 10;

/// Bytes that are looked through in the time that one is tokenised in: by a rough measurement.
const SEGMENTED_PER_TOKENISED: usize = 4;

/// The sentences of a text: trimmed, not empty, in order, not overlapping; together they hold everything but
/// white space.
pub(crate) async fn sentences(text: &str, pace: &Pace) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut segmenter = Segmenter::new(text);
    while let Some(bytes) = segmenter.step(&mut found) {
        pace.spend(bytes / SEGMENTED_PER_TOKENISED).await;
    }
    found
}

/// The same, for tests.
#[cfg(test)]
pub(crate) fn sentences_at_once(text: &str) -> Vec<Range<usize>> {
    crate::pool::complete(sentences(text, &Pace::at_once()))
}

/// Whether a text ends as a sentence does, notes and what closes aside.
pub(crate) fn ends_sentence(text: &str) -> bool {
    scan::without_notes(text).trim_end_matches(marks::is_closer).ends_with(marks::is_terminal)
}

/// Whether a word is the mark of an item before the next word, which is in small letters: `3.`, `b)`. A
/// capital with a dot may be of a name, and a number of a date.
pub(crate) fn is_item_mark(word: &str, next: &str) -> bool {
    item::Mark::of_item(word)
        .is_some_and(|mark| if mark.is_initial() { is_grammar(next) } else { !words::is_german_month(next) })
}

/// Finds sentences in steps, between which others may work.
struct Segmenter<'a> {
    text: &'a str,
    blocks: lines::Blocks<'a>,
    reader: Option<ends::Reader<'a>>,
}

impl<'a> Segmenter<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, blocks: lines::Blocks::new(text), reader: None }
    }

    /// Reads on for about [`STEP`] bytes, and adds the sentences that ended; gives the bytes read, and `None`
    /// at the end. Only a word, or a line in which no other line has been looked at, is read at once however
    /// long it is.
    fn step(&mut self, found: &mut Vec<Range<usize>>) -> Option<usize> {
        let mut bytes = 0;
        while bytes < STEP {
            let Some(reader) = &mut self.reader else {
                let Some(block) = self.blocks.next() else { break };
                self.reader = Some(ends::Reader::new(self.text, &block.bytes));
                continue;
            };
            match reader.advance(found) {
                Some(word) => bytes += word + 1,
                None => self.reader = None,
            }
        }
        (bytes > 0).then_some(bytes)
    }
}

/// Counts bytes that were looked at, so that a test can tell that the work is proportional to the text.
#[cfg(test)]
pub(crate) fn count(bytes: usize) {
    tests::VISITED.with(|visited| visited.set(visited.get() + bytes));
}

#[cfg(not(test))]
pub(crate) fn count(_: usize) {}

/// The bytes that some work counts.
#[cfg(test)]
pub(crate) fn counted(work: impl FnOnce()) -> usize {
    tests::VISITED.set(0);
    work();
    tests::VISITED.get()
}

#[cfg(test)]
mod tests;
