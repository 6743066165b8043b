//! Numbers with a dot: ordinals, marks of items, and the `No.` before one.

use super::Context;
use crate::segment::item::Mark;
use crate::segment::scan::{First, Stop, Word};
use crate::segment::words;

impl Context<'_, '_> {
    /// A number that a dot makes an ordinal, as in German: "am 3. Mai", "im 19. Jahrhundert".
    pub(super) fn is_ordinal(&self, word: &Word<'_>, next: &Word<'_>) -> bool {
        let before = self.here.previous.map(|before| before.bare()).unwrap_or_default();
        let next = next.bare();
        let is_short = word.stem.chars().count() <= 3 || words::is_roman(word.stem);
        is_short
            && (words::is_german_month(&next)
                || (words::is_german_article(&before) && !words::is_starter(&next))
                || (words::is_german_word(&before) && words::is_month(&next)))
    }

    /// "The answer is no. 5 people left.", but "This is no. 5."
    pub(super) fn is_answer(&self, next: &Word<'_>) -> bool {
        let before = self.here.previous.map(|before| before.bare()).unwrap_or_default();
        let behind = self.ahead.get(1);
        let is_counted =
            behind.is_some_and(|word| word.first == First::Lower && words::is_many(&word.bare()));
        next.first == First::Digit
            && next.stop == Stop::None
            && (words::is_speech(&before) || matches!(before.as_str(), "is" | "was" | "a" | "be" | "answer"))
            && is_counted
    }

    /// Whether the number that follows another is among the words at hand, before a word.
    fn is_counted_on(&self, mark: Mark) -> bool {
        let words = self.ahead.iter().zip(self.ahead.iter().skip(1));
        words.filter_map(|(word, _)| word.number_mark()).any(|next| mark.precedes(next))
    }

    /// Whether a number is the mark of an item within a sentence: "we need: 1. milk 2. eggs".
    pub(super) fn is_item(&self, word: &Word<'_>, next: &Word<'_>) -> bool {
        let Some(mark) = Mark::of(word.text) else { return false };
        let before = self.here.previous.map_or("", |before| before.text);
        let is_listed = before.ends_with([':', ',', ';', '-']);
        if word.first != First::Digit {
            return is_listed || matches!(before, "and" | "or");
        }
        // "the rules 1. be kind", but "we won by 1. he left"
        let is_one = mark.number == 1 && !words::is_preposition(before);
        is_listed
            || self.here.mark.is_some_and(|before| before.precedes(mark))
            || (!self.is_sure_starter(next) && (is_one || self.is_counted_on(mark)))
    }
}
