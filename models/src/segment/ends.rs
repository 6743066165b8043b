//! Whether a sentence ends behind a word.

mod numbers;
mod style;

use std::collections::VecDeque;
use std::ops::Range;

use super::citations;
use super::count;
use super::feelings;
use super::forms::{is_number, is_question, is_temperature, is_time, is_verse, is_zip};
use super::item::Mark;
use super::letters::Letters;
use super::scan::{First, Scan, Stop, Word};
use super::sentence::Sentence;
use super::times;
use super::words::{self, Class};
use style::Style;

/// Words of a phrase that only says when: "At 5 a.m. Mr. Lee called."
const WHEN_MAX: usize = 8;
/// Shortest word in small letters that is no abbreviation if it is in no table.
const WORD_MIN: usize = 5;
/// Longest word that may be an abbreviation although it is in no table.
const ABBREVIATION_MAX: usize = 6;

/// A block that is being cut into sentences.
pub(super) struct Reader<'a> {
    scan: Scan<'a>,
    sentence: Option<Sentence<'a>>,
    /// The mark of the item of a list that is being read, which the next may follow without a line break.
    mark: Option<Mark>,
    is_small: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, block: &Range<usize>) -> Self {
        let style = Style::of(&text[block.clone()]);
        let scan = Scan::new(text, block, style == Style::Capitals);
        Self { scan, sentence: None, mark: None, is_small: style != Style::Mixed }
    }

    /// Reads one word; adds the sentences that end there. Gives the bytes of the word, `None` at the end of
    /// the block.
    pub(super) fn advance(&mut self, found: &mut Vec<Range<usize>>) -> Option<usize> {
        let Some(word) = self.scan.next() else {
            found.extend(self.sentence.take().map(|rest| rest.range()));
            return None;
        };
        let here = match self.sentence.take() {
            None => Sentence::new(word),
            Some(before) if begins_item(&before, &word, self.mark, self.scan.ahead(), self.is_small) => {
                found.push(before.range());
                Sentence::new(word)
            }
            Some(before) => before.with(word),
        };
        if here.words == 1 || (here.words == 2 && here.first.first == First::None) {
            self.mark = Mark::of(word.text).or(self.mark);
        }
        let context = Context { here: &here, ahead: self.scan.ahead(), is_small: self.is_small };
        if context.is_end() {
            found.push(here.range());
        } else {
            self.sentence = Some(here);
        }
        Some(word.text.len())
    }
}

/// Whether a word begins the next item of a list: `• two`, `2. Two` after `1. One`.
fn begins_item(
    before: &Sentence<'_>,
    word: &Word<'_>,
    mark: Option<Mark>,
    ahead: &VecDeque<Word<'_>>,
    is_small: bool,
) -> bool {
    if word.text.starts_with(['•', '⁃']) {
        return before.words > 1 || before.last.first != First::None;
    }
    let next = ahead.front().is_some_and(|next| next.first == First::Capital || is_small);
    let follows = mark.zip(Mark::of(word.text)).is_some_and(|(mark, next)| mark.precedes(next));
    follows && next && before.words > 1
}

/// A word that may end a sentence, and what is around it.
struct Context<'a, 's> {
    here: &'s Sentence<'a>,
    ahead: &'s VecDeque<Word<'a>>,
    is_small: bool,
}

impl<'a> Context<'a, '_> {
    fn is_end(&self) -> bool {
        let word = &self.here.last;
        // Pictures, numbers of notes and marks alone belong to the sentence before them.
        let word = match self.here.told.as_ref() {
            Some(told) if (word.is_picture() || word.is_note()) && self.here.words > 1 => {
                if told.stop == Stop::None && !word.is_note() {
                    return feelings::ends_sentence(word, told, self.ahead, self.is_small);
                }
                told
            }
            _ => word,
        };
        if word.stop == Stop::None {
            return false;
        }
        if self.ahead.front().is_some_and(|next| next.is_picture() || next.is_note()) {
            return self.is_before_item();
        }
        if matches!(word.stop, Stop::Tag) {
            return true;
        }
        if word.stop == Stop::Wide && !word.is_spaced {
            return true;
        }
        if !word.is_spaced {
            return false;
        }
        let Some(next) = self.next() else { return true };
        count(word.text.len() + next.text.len());
        match word.stop {
            Stop::None | Stop::Tag => false,
            Stop::Wide => true,
            Stop::Dots => self.is_end_of_dots(word, next),
            Stop::Exclaimed | Stop::Asked => self.is_end_of_call(word, next),
            Stop::Dot => self.is_end_of_dot(word, next),
        }
    }

    /// Whether the number of a note that follows is that of the next item: `[1] It broke. [2] It closed.`
    fn is_before_item(&self) -> bool {
        let next = self.ahead.front().and_then(Word::note);
        next.zip(self.here.first.note()).is_some_and(|(next, first)| next == first.saturating_add(1))
            && self.ahead.get(1).is_some_and(|word| self.is_anew(word))
    }

    /// The next word that has letters or digits, or the next if none of those at hand has.
    fn next(&self) -> Option<&Word<'a>> {
        self.ahead.iter().find(|word| word.first != First::None).or_else(|| self.ahead.front())
    }

    /// Whether the next word begins like a sentence does.
    fn is_anew(&self, next: &Word<'_>) -> bool {
        next.first != First::Lower || self.is_small
    }

    fn is_end_of_dots(&self, word: &Word<'_>, next: &Word<'_>) -> bool {
        // "[...]"
        if word.stem.is_empty() && !word.is_dots() && word.text.starts_with(['[', '(']) {
            return false;
        }
        match next.first {
            First::Capital => true,
            First::Digit => !word.stem.is_empty(),
            // "no idea... bye"
            First::Lower => {
                self.is_small && (word.dots > 3 || (self.here.words > 1 && words::is_farewell(&next.bare())))
            }
            First::None => false,
        }
    }

    /// `!` and `?`
    fn is_end_of_call(&self, word: &Word<'_>, next: &Word<'_>) -> bool {
        let lower = word.lower();
        if words::is_exclaimed(&lower) {
            // In small letters "yahoo! we won" may be two sentences.
            let is_within = self.here.words > 1 || (word.first == First::Capital && !self.is_small);
            let is_name = words::goes_on_with_company(&next.bare())
                || (next.first == First::Lower && is_within && word.stem.len() + 1 == word.text.len());
            return !is_name;
        }
        match next.first {
            _ if word.is_closed && self.is_said(word) => false,
            First::Capital if word.stop == Stop::Exclaimed => !matches!(
                next.text.trim_end_matches(','),
                "Inc." | "Corp." | "Ltd." | "LLC" | "plc" | "Brands"
            ),
            // "Stop!" she cried. A name: "at Wham! in London".
            First::Lower if word.is_closed => {
                let bare = next.bare();
                let is_anew = words::is_starter(&bare) && !words::is_preposition(&bare);
                self.is_small && word.is_quoted() && is_anew
            }
            // "No! no! no!"
            First::Lower if word.stop == next.stop && next.bare() == word.bare() => false,
            First::Lower if self.is_small => true,
            First::Lower if words::is_joining(&next.bare()) => false,
            First::Lower => {
                // "Who's Afraid of Virginia Woolf? by Albee"
                let is_within = word.stop == Stop::Exclaimed || words::goes_on(&next.bare());
                !(word.first == First::Capital && self.here.words > 1 && is_within)
            }
            First::None if word.stem.is_empty() => false,
            _ => true,
        }
    }

    fn is_end_of_dot(&self, word: &Word<'_>, next: &Word<'_>) -> bool {
        if word.stem.is_empty() {
            return self.is_end_of_spaced_dots(word, next);
        }
        if self.ahead.front().is_some_and(Word::is_dots) {
            return self.begins_with_dots();
        }
        // The number of an item, of a chapter: "3. Payment", "IV. Results".
        let is_letter = word.stem.chars().nth(1).is_none();
        if self.is_first(word)
            && (is_letter
                || Mark::of(word.text).is_some()
                || words::is_roman(word.stem)
                || word.text.starts_with('§')
                || is_question(word.stem))
        {
            return false;
        }
        // "Section 5. Payment."
        let is_number = word.first == First::Digit || words::is_roman(word.stem);
        let (first, count) = self.here.body();
        if is_number && count == 2 && words::is_heading(&first.bare()) {
            return next.bare() == first.bare();
        }
        if !word.is_closed && citations::goes_on(word, self.ahead, self.here.body().1 == 1) {
            return false;
        }
        if is_number && self.is_ordinal(word, next) {
            return false;
        }
        if word.is_closed && (next.first == First::Lower || self.is_said(word)) {
            return self.is_small && !self.is_said(word) && self.is_end_of_closed(word, next);
        }
        if times::is_zone_of(word, self.here.previous.as_ref()) {
            return next.first != First::Lower || (self.is_small && !words::is_preposition(&next.bare()));
        }
        if word.opens && next.first == First::Digit && word.first == First::Capital {
            return false;
        }
        let lower = word.lower();
        // "boston, mass. 02110", "in st. louis, mo. last year"
        if words::is_state(&lower) {
            let is_of_place = self.here.previous.is_some_and(|before| before.text.ends_with(','));
            if is_zip(next) || (self.is_small && is_of_place && !self.is_sure_starter(next)) {
                return false;
            }
        }
        if words::is_book(&lower) && is_verse(next) && (word.opens || !is_time(next)) {
            return false;
        }
        if let Some(letters) = Letters::of(word.stem) {
            return self.is_end_of_letters(word, next, letters, &lower);
        }
        // "Tuesday.Mr. Smith"
        if let Some((before, title)) = word.stem.rsplit_once('.')
            && before.ends_with(char::is_alphabetic)
            && title.len() > 1
            && title.len() <= words::WORD_MAX
            && title.starts_with(char::is_uppercase)
            && words::class(title, &title.to_lowercase(), false) == Some(Class::Title)
        {
            return false;
        }
        // In small letters they are titles, too, if a name may follow.
        if self.is_small && words::is_small_title(&lower) && !word.is_closed {
            let bare = next.bare();
            return words::is_starter(&bare) || words::is_common(&bare) || words::is_preposition(&bare);
        }
        // "6 ft.", "$50 per mo."
        let is_measure =
            self.here.previous.is_some_and(|before| before.first == First::Digit || before.text == "per");
        // "Mon.-Fri."
        let last = lower.rsplit(['-', '–', '/']).next().unwrap_or("");
        match words::class(word.stem, last, is_measure) {
            // "the App. Div.", but "the app. Anna".
            Some(Class::NumberedWord)
                if word.first == First::Capital && !self.is_first(word) && !words::is_word(&lower) =>
            {
                self.is_end_of_abbreviation(Class::Numbered, next, last)
            }
            Some(class) => self.is_end_of_abbreviation(class, next, last),
            None => self.is_end_of_word(word, next, &lower),
        }
    }

    /// In small letters, behind what closes: a quote is the end of a sentence, unless it is of an
    /// abbreviation or the sentence goes on.
    fn is_end_of_closed(&self, word: &Word<'_>, next: &Word<'_>) -> bool {
        let lower = word.lower();
        let is_short = Letters::of(word.stem).is_some()
            || (words::class(word.stem, &lower, false).is_some() && !words::is_short_word(&lower))
            || word.stem.is_empty();
        let bare = next.bare();
        self.is_sure_starter(next)
            || (word.is_quoted()
                && !next.opens
                && !is_short
                && (bare == "then" || !words::is_preposition(&bare)))
    }

    fn is_first(&self, word: &Word<'_>) -> bool {
        self.here.words == self.here.signs + 1 && self.here.last.start == word.start
    }

    /// ". . ." is a gap, ". . . ." a gap and the end.
    fn is_end_of_spaced_dots(&self, word: &Word<'_>, next: &Word<'_>) -> bool {
        let is_last = !self.ahead.front().is_some_and(Word::is_dots);
        // A mark by itself ends a sentence, too, as in texts that were cut into tokens.
        let is_mark = if word.is_dots() { self.here.dots == 1 } else { word.dots == 1 };
        is_last && (self.here.dots > 3 || is_mark) && self.is_anew(next)
    }

    /// "It ended. . . . The next": exactly three dots that begin the next sentence.
    fn begins_with_dots(&self) -> bool {
        let dots = self.ahead.iter().take_while(|word| word.is_dots()).count();
        dots == 3 && self.ahead.get(3).is_some_and(|word| word.first == First::Capital || self.is_small)
    }

    /// Initials, `U.S.`, `p.m.`, and letters that are no abbreviation: "plan B."
    fn is_end_of_letters(&self, word: &Word<'_>, next: &Word<'_>, letters: Letters, lower: &str) -> bool {
        if next.first == First::Digit {
            // "J. 5" is nothing; "Vitamin C. 20 people" is two sentences.
            return letters.count == 1 && self.follows_lettered();
        }
        if next.first == First::Lower && !self.is_small {
            // "Type O. is common."
            let begins = self.is_starter(next) && !words::is_preposition(&next.bare());
            return letters.count == 1 && !word.opens && (self.follows_lettered() || lower == "i") && begins;
        }
        if next.first == First::None {
            return false;
        }
        if letters.is_small && words::is_dose(lower) {
            return next.first == First::Capital;
        }
        if matches!(lower, "p.s" | "p.p.s" | "n.b" | "e.g" | "i.e" | "a.k.a")
            || (letters.is_small && matches!(lower, "v" | "c"))
        {
            return false;
        }
        if matches!(lower, "a.m" | "p.m") {
            return self.is_end_of_time(next);
        }
        if letters.count == 1 {
            if is_temperature(self.here.previous.as_ref(), word, next) {
                return true;
            }
            if letters.is_small && !self.is_small && !self.follows_lettered() {
                return words::is_starter(&next.bare());
            }
            // "plan b. is good"
            let is_within = next.first == First::Lower && words::is_preposition(&next.bare());
            return if self.follows_lettered() { !is_within } else { self.is_starter(next) };
        }
        if next.first == First::Lower { self.is_sure_starter(next) } else { self.is_starter(next) }
    }

    /// "plan", "Exhibit" and the like before a single letter.
    fn follows_lettered(&self) -> bool {
        self.here.previous.is_some_and(|before| {
            let before = before.bare();
            words::is_lettered(&before)
        })
    }

    /// Whether what was quoted is followed by who said it: "Stop!" Anna Berg cried.
    fn is_said(&self, word: &Word<'_>) -> bool {
        // "We are done." She said no more.
        let is_anew =
            self.ahead.front().is_some_and(|next| next.first == First::Capital && self.is_starter(next));
        word.is_quoted()
            && !is_anew
            && self
                .ahead
                .iter()
                .take(3)
                .take_while(|word| !word.opens)
                .find(|word| word.stop != Stop::None || words::is_speech(&word.bare()))
                .is_some_and(|word| words::is_speech(&word.bare()))
    }

    fn is_sure_starter(&self, next: &Word<'_>) -> bool {
        words::is_sure_starter(&next.bare())
    }

    fn is_starter(&self, next: &Word<'_>) -> bool {
        words::is_starter(&next.bare())
    }

    /// "at 6 p.m. Mr. Smith left", but "At 5 a.m. Mr. Lee called" and "5 p.m. Monday".
    fn is_end_of_time(&self, next: &Word<'_>) -> bool {
        let bare = next.bare();
        if next.opens || times::goes_on(self.ahead, self.is_small) {
            return false;
        }
        let is_when = self.here.is_when && self.here.body().1 <= WHEN_MAX;
        if next.first == First::Lower {
            return self.is_small
                && !is_when
                && (words::is_starter(&bare) || self.is_title(next))
                && !words::is_preposition(&bare);
        }
        !is_when
    }

    fn is_title(&self, next: &Word<'_>) -> bool {
        next.stop == Stop::Dot && words::class(next.stem, &next.lower(), false) == Some(Class::Title)
    }

    fn is_end_of_abbreviation(&self, class: Class, next: &Word<'_>, lower: &str) -> bool {
        let bare = next.bare();
        let is_small_next = next.first == First::Lower;
        let begins = words::is_starter(&bare) || words::is_common(&bare) || next.text.ends_with(':');
        let is_preposition = words::is_preposition(&bare) && is_small_next;
        // "Ext. no edema": a text with capitals begins no sentence without one behind a single word.
        let is_alone = self.here.body().1 == 1 && !self.is_small;
        match class {
            Class::Title | Class::Link => false,
            _ if next.first == First::None || (is_alone && is_small_next) => false,
            Class::NumberedWord if lower == "no" && self.is_answer(next) => true,
            Class::Numbered if next.first == First::Digit || is_number(next) || next.stem == "A" => false,
            Class::NumberedWord if next.first == First::Digit || is_number(next) => false,
            Class::NumberedWord if is_small_next => {
                let is_begun = (self.is_small && lower == "no") || feelings::is_question(self.ahead);
                lower.len() > 1 && words::is_starter(&bare) && (!is_preposition || is_begun)
            }
            Class::NumberedWord => !matches!(lower, "p" | "tel" | "ext" | "ver" | "par"),
            Class::Numbered => words::is_starter(&bare) && !is_small_next,
            Class::Name | Class::Open | Class::Day if is_small_next => {
                self.is_small && self.is_sure_starter(next)
            }
            Class::Name => begins && next.first == First::Capital,
            Class::Open if words::is_month(lower) && next.first == First::Digit => false,
            Class::Day if words::is_month(&bare) => false,
            Class::Open | Class::Day => next.first == First::Capital && (begins || !next.opens),
        }
    }

    /// A word that is in no table.
    fn is_end_of_word(&self, word: &Word<'_>, next: &Word<'_>, lower: &str) -> bool {
        if next.first != First::Lower {
            // "Cr. 1.1"
            let is_label = word.first == First::Capital && self.here.body().1 == 1 && !has_vowel(lower);
            return !(is_label && next.first == First::Digit);
        }
        if self.is_small && (word.first == First::Digit || self.is_item(word, next)) {
            return !self.is_item(word, next);
        }
        let starts = self.is_starter(next);
        let length = word.stem.chars().count();
        let is_known = words::is_short_word(lower) || lower.is_empty();
        let has_vowel = has_vowel(lower) || word.first == First::Digit;
        let goes_on = words::is_preposition(&next.bare()) && !feelings::is_question(self.ahead);
        if self.is_small {
            // "dr. wu. acme inc. fell", "hx of dm. bp 120/80"
            let is_short = length < WORD_MIN && !goes_on;
            return is_known || starts || self.is_title(next) || (length > 2 && has_vowel) || is_short;
        }
        if word.first == First::Digit {
            return length > 2 || starts;
        }
        // "Dept. of" and its like that are in no table: a short word, capitalised or without a vowel.
        if !has_vowel || (word.first == First::Capital && length < WORD_MIN && !is_known) {
            return false;
        }
        // "the prelim. report", "the veh. was towed"
        let is_of_noun = self.here.previous.is_some_and(|before| words::is_article(&before.bare()))
            && self.ahead.front().is_some_and(|word| word.first == First::Lower);
        let is_short = length <= ABBREVIATION_MAX && (goes_on || (is_of_noun && !starts));
        is_known || (!is_short && (starts || length >= WORD_MIN))
    }
}

fn has_vowel(word: &str) -> bool {
    word.contains(['a', 'e', 'i', 'o', 'u', 'y'])
}
