//! A sentence as far as it was read, and what stands before it: marks of items, quotes, who speaks.

use std::ops::Range;

use super::item::Mark;
use super::scan::{First, Word};
use super::words;

/// Words of the name of who speaks: "Anna Schmidt: …".
const SPEAKER_MAX: usize = 4;

/// A sentence as far as it was read.
pub(super) struct Sentence<'a> {
    pub(super) first: Word<'a>,
    /// Words that stand before it, and are none of it: marks of items, who speaks; and how many of them, from
    /// the first on, have neither letters nor digits.
    pub(super) lead: usize,
    pub(super) signs: usize,
    /// Whether what is behind those only says when.
    pub(super) is_when: bool,
    /// The first word behind those.
    pub(super) body: Option<Word<'a>>,
    pub(super) end: usize,
    pub(super) words: usize,
    pub(super) previous: Option<Word<'a>>,
    pub(super) last: Word<'a>,
    /// The last word that is neither a picture nor the number of a note.
    pub(super) told: Option<Word<'a>>,
    /// The last number with a dot before the last word, as items have them.
    pub(super) mark: Option<Mark>,
    /// Single dots in a row, such as ". . .".
    pub(super) dots: usize,
}

impl<'a> Sentence<'a> {
    pub(super) fn new(word: Word<'a>) -> Self {
        let dots = usize::from(word.is_dots());
        let sentence = Self {
            first: word,
            lead: 0,
            is_when: true,
            signs: 0,
            body: None,
            end: word.end,
            words: 1,
            previous: None,
            last: word,
            told: Some(word).filter(is_told),
            mark: None,
            dots,
        };
        sentence.led()
    }

    pub(super) fn with(self, word: Word<'a>) -> Self {
        let dots = if word.is_dots() { self.dots + word.dots } else { 0 };
        let sentence = Self {
            end: word.end,
            words: self.words + 1,
            previous: Some(self.last),
            last: word,
            told: Some(word).filter(is_told).or(self.told),
            mark: self.last.number_mark().or(self.mark),
            dots,
            ..self
        };
        sentence.led()
    }

    /// Looks whether the last word is one of those that stand before a sentence.
    fn led(mut self) -> Self {
        let is_all = self.lead + 1 == self.words;
        if is_all && self.signs + 1 == self.words && self.last.first == First::None {
            self.signs += 1;
        }
        let is_speaker = self.last.text.ends_with(':') && self.words - self.lead <= SPEAKER_MAX;
        if is_speaker || (is_all && self.last.is_lead()) {
            (self.lead, self.body, self.is_when) = (self.words, None, true);
            return self;
        }
        if is_all {
            self.body = Some(self.last);
        }
        self.is_when = self.is_when && is_when(&self.last);
        self
    }

    /// The first word, and how many there are, without what stands before the sentence.
    pub(super) fn body(&self) -> (&Word<'a>, usize) {
        (self.body.as_ref().unwrap_or(&self.first), self.words - self.lead)
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.first.start..self.end
    }
}

fn is_told(word: &Word<'_>) -> bool {
    !word.is_picture() && !word.is_note()
}

/// Whether a word may be of a phrase that only says when.
fn is_when(word: &Word<'_>) -> bool {
    let bare = word.bare();
    matches!(word.first, First::Digit | First::None)
        || words::is_when(&bare)
        || words::is_day_name(&bare)
        || words::is_month(&bare)
        || words::is_zone(&bare)
}
