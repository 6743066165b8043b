//! Texts in plain characters, for models that are better read so: symbols are words of their own, compatible
//! forms of letters are letters, what takes no place is gone, and so are hyphens at the ends of lines. Every
//! place leads back to the caller's text.
//!
//! It departs from what a checkpoint's tokenizer gives, so a card says whether it is done. Forms are those of
//! Unicode's NFKC (UAX #15), but for signs that tokenizers know and whose plain form would say something
//! else, such as `10²` or `Acme™`. It goes grapheme by grapheme (UAX #29) and looks one word around, so
//! chunks ([`end_of_chunk`]) give what the whole gives.

use std::borrow::Cow;
use std::ops::Range;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::GeneralCategory as Category;
use tokenizers::Tokenizer;
use unicode_segmentation::UnicodeSegmentation;

use crate::characters::{category, enclosed, is_invisible, is_space, is_symbol};

/// Bytes of a chunk, if there is a place to end it.
const CHUNK_BYTES: usize = 16 << 10;
/// Longer graphemes, such as letters with many marks, stay as they are.
const GRAPHEME_BYTES_MAX: usize = 64;
/// Most bytes of a compatible form for each that was written.
const PLAIN_PER_WRITTEN: usize = 2;
/// Characters of a part of a word, and of the white space after it, that are looked at around a hyphen at the
/// end of a line.
const PART_MAX: usize = 40;

/// A text as it is tokenised.
pub(super) struct Normalized<'a> {
    pub(super) text: Cow<'a, str>,
    edits: Vec<Edit>,
}

/// What stands for a part of the original; between edits both texts are the same.
struct Edit {
    normalized: Span,
    original: Span,
}

/// Bytes of a chunk. Half as long as a `Range<usize>`, since a text of ligatures has many.
struct Span {
    start: u32,
    end: u32,
}

/// Makes a [`Normalized`] step by step.
pub(super) struct Normalizer<'a> {
    text: &'a str,
    at: usize,
    /// What is as it was and not written yet begins here.
    same_from: usize,
    written: String,
    edits: Vec<Edit>,
    last: Last,
    /// Knows words, to tell what a hyphen at the end of a line is.
    words: Option<&'a Tokenizer>,
}

/// What stands before.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Space,
    Word,
    Symbol,
}

/// What a grapheme is read as.
enum Form<'a> {
    Nothing,
    Space,
    /// A part of a word, or punctuation.
    Word(Cow<'a, str>),
    /// A word of its own.
    Symbol(Cow<'a, str>),
}

impl<'a> Normalizer<'a> {
    pub(super) fn new(text: &'a str, words: Option<&'a Tokenizer>) -> Self {
        Self {
            text,
            at: 0,
            same_from: 0,
            written: String::new(),
            edits: Vec::new(),
            last: Last::Space,
            words,
        }
    }

    /// Reads about so many bytes; says whether there are more.
    pub(super) fn step(&mut self, bytes: usize) -> bool {
        let end = self.text.len().min(self.at + bytes);
        while self.at < end {
            self.plain(end);
            if self.at < end {
                self.grapheme();
            }
        }
        self.at < self.text.len()
    }

    pub(super) fn finish(mut self) -> Normalized<'a> {
        while self.step(usize::MAX / 2) {}
        if self.edits.is_empty() {
            return Normalized::same(self.text);
        }
        self.written.push_str(&self.text[self.same_from..]);
        Normalized { text: Cow::Owned(self.written), edits: self.edits }
    }

    /// Passes over characters of ASCII that stay as they are and nothing is composed with.
    fn plain(&mut self, end: usize) {
        let bytes = self.text.as_bytes();
        let start = self.at;
        while let Some(byte) = bytes.get(self.at)
            && self.at < end
            && matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')
            && bytes.get(self.at + 1).is_none_or(u8::is_ascii)
            && !(*byte == b'-' && bytes.get(self.at + 1).is_some_and(u8::is_ascii_whitespace))
        {
            self.at += 1;
        }
        if self.at > start {
            let (first, last) = (bytes[start], bytes[self.at - 1]);
            if self.last == Last::Symbol && !first.is_ascii_whitespace() {
                self.edit(start..start, " ");
            }
            self.last = if last.is_ascii_whitespace() { Last::Space } else { Last::Word };
        }
    }

    fn grapheme(&mut self) {
        let Some(mut grapheme) = self.text[self.at..].graphemes(true).next() else { return };
        if let Some(first) = grapheme.chars().next()
            && is_space(first)
            && grapheme != "\r\n"
        {
            // Marks behind a space are no part of it.
            grapheme = &grapheme[..first.len_utf8()];
        }
        let place = self.at..self.at + grapheme.len();
        self.at = place.end;
        if let Some(dropped) = self.end_of_line(grapheme, &place) {
            self.at = dropped.end;
            if dropped.start == place.end {
                self.last = Last::Word;
            }
            self.edit(dropped, "");
            return;
        }
        let is_note = grapheme.chars().all(is_script)
            && self.text[self.at..].starts_with(char::is_alphabetic)
            && !self.text[..place.start].trim_end_matches(is_script).ends_with(char::is_alphanumeric);
        match form(grapheme) {
            // The number of a note before a word, which would be one with it: "¹Siemens".
            Form::Word(text) if is_note => self.write(place, &text, Last::Symbol),
            Form::Nothing => self.edit(place, ""),
            Form::Space => {
                if !matches!(grapheme, " " | "\t" | "\n" | "\r" | "\r\n") {
                    self.edit(place, " ");
                }
                self.last = Last::Space;
            }
            Form::Word(text) => self.write(place, &text, Last::Word),
            Form::Symbol(text) => self.write(place, &text, Last::Symbol),
        }
    }

    fn write(&mut self, place: Range<usize>, text: &str, kind: Last) {
        let is_apart = match self.last {
            Last::Space => false,
            Last::Word => kind == Last::Symbol,
            Last::Symbol => true,
        };
        let is_same = text == &self.text[place.clone()];
        match (is_apart && !text.starts_with(is_space), is_same) {
            (true, true) => self.edit(place.start..place.start, " "),
            (true, false) => self.edit(place, &format!(" {text}")),
            (false, true) => {}
            (false, false) => self.edit(place, text),
        }
        self.last = if text.ends_with(is_space) { Last::Space } else { kind };
    }

    /// Writes a text for a part of the original, which ascend.
    fn edit(&mut self, original: Range<usize>, text: &str) {
        self.written.push_str(&self.text[self.same_from..original.start]);
        self.same_from = original.end;
        let normalized = Span::new(self.written.len()..self.written.len() + text.len());
        self.written.push_str(text);
        let original = Span::new(original);
        match self.edits.last_mut() {
            // What is dropped together is one edit.
            Some(last)
                if text.is_empty()
                    && last.normalized.start == normalized.end
                    && last.original.end == original.start =>
            {
                last.original.end = original.end;
            }
            _ => self.edits.push(Edit { normalized, original }),
        }
    }

    /// What is dropped where a word goes on that is parted by a hyphen at the end of a line: the end of the
    /// line, and the hyphen if it is there for the line's sake: the word without it is known, or the parts
    /// are no words. Of a soft hyphen that is so in any case, and never before a capital: `Schmidt-Meier`.
    fn end_of_line(&self, hyphen: &str, place: &Range<usize>) -> Option<Range<usize>> {
        let is_soft = hyphen == "\u{ad}";
        if !is_soft && !matches!(hyphen, "-" | "\u{2010}") {
            return None;
        }
        let (before, after) = (&self.text[..place.start], &self.text[place.end..]);
        let blank: String = after.chars().take(PART_MAX).take_while(|c| " \t\r\n".contains(*c)).collect();
        let breaks = blank.replace("\r\n", "\n").matches(['\n', '\r']).count();
        let next = after[blank.len()..].chars().take(PART_MAX).take_while(|c| c.is_alphabetic());
        let next: String = next.collect();
        let letters = before.char_indices().rev().take(PART_MAX).take_while(|(_, c)| c.is_alphabetic());
        let start = letters.last().map_or(before.len(), |(at, _)| at);
        let part = &before[start..];
        if breaks != 1 || part.is_empty() || next.is_empty() {
            return None;
        }
        let end = place.end + blank.len();
        if is_soft {
            return Some(place.start..end);
        }
        if part.starts_with(char::is_uppercase) && next.starts_with(char::is_uppercase) {
            return Some(place.end..end);
        }
        let words = self.words?;
        let is_lower = part.ends_with(char::is_lowercase) && next.starts_with(char::is_lowercase);
        let is_long = |part: &str| (2..PART_MAX).contains(&part.chars().count());
        let is_alone =
            before[..start].chars().next_back().is_none_or(|c| is_space(c) || "(\"'“‘«[".contains(c));
        let is_known = |word: &str| {
            words.token_to_id(word).is_some() || words.token_to_id(&word.to_lowercase()).is_some()
        };
        let is_one = || is_known(&format!("{part}{next}")) || !(is_known(part) && is_known(&next));
        (is_lower && is_long(part) && is_long(&next) && is_alone && is_one()).then_some(place.start..end)
    }
}

fn form(grapheme: &str) -> Form<'_> {
    let Some(first) = grapheme.chars().find(|c| !is_invisible(*c)) else { return Form::Nothing };
    if is_space(first) {
        return Form::Space;
    }
    if grapheme.len() > GRAPHEME_BYTES_MAX {
        let same = Cow::Borrowed(grapheme);
        return if is_symbol(first) { Form::Symbol(same) } else { Form::Word(same) };
    }
    if is_symbol(first) {
        return symbol(grapheme, first);
    }
    // An apostrophe that is a letter to Unicode, and none to a tokenizer: "wasnʼt".
    if grapheme == "\u{2bc}" {
        return Form::Word(Cow::Borrowed("'"));
    }
    // The sign around a character says nothing of it: a digit on a key of a telephone.
    let is_enclosing = |c: char| category(c) == Category::EnclosingMark;
    let is_enclosed = grapheme.chars().any(is_enclosing);
    let is_kept = |c: char| !is_invisible(c) && !is_enclosing(c);
    let mut text = Cow::Borrowed(grapheme);
    if !grapheme.chars().all(is_kept) {
        text = Cow::Owned(grapheme.chars().filter(|c| is_kept(*c)).collect());
    }
    let is_number = category(first) == Category::OtherNumber && !is_script(first);
    if let Some(digit) = enclosed(first).filter(|_| is_number) {
        return Form::Symbol(Cow::Owned(digit.to_string()));
    }
    if has_plain_form(first) {
        text = match plain(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(plain) => Cow::Owned(plain.replace('\u{2044}', "/")),
        };
    }
    match text {
        text if text.is_empty() => Form::Nothing,
        text if is_number || (is_enclosed && !first.is_alphabetic()) => Form::Symbol(text),
        text => Form::Word(text),
    }
}

/// A symbol, or the letters that it is made of.
fn symbol(grapheme: &str, first: char) -> Form<'_> {
    let alone = || match grapheme.chars().nth(1) {
        // The two parts of a flag are one picture; of others the first says most.
        Some(_) if !matches!(first, '\u{1f1e6}'..='\u{1f1ff}') => Cow::Owned(first.to_string()),
        _ => Cow::Borrowed(grapheme),
    };
    if let Some(letter) = enclosed(first) {
        return Form::Word(Cow::Owned(letter.to_string()));
    }
    match first {
        '\u{b4}' => return Form::Word(Cow::Borrowed("'")),
        '\u{2044}' => return Form::Word(Cow::Borrowed("/")),
        '™' | '℠' => return Form::Symbol(alone()),
        _ if !has_plain_form(first) => return Form::Symbol(alone()),
        _ => {}
    }
    let alone = alone();
    let mut buffer = [0; 4];
    let plain = plain(first.encode_utf8(&mut buffer));
    let mut characters = plain.chars();
    match (characters.next(), characters.next()) {
        (Some(c), _) if c == first => Form::Symbol(alone),
        // A letter in a circle or a square; a sign in its wide form.
        (Some(c), None) if !is_symbol(c) => Form::Word(Cow::Owned(c.to_string())),
        (Some(c), None) => Form::Symbol(Cow::Owned(c.to_string())),
        _ if plain.contains(char::is_alphanumeric) => Form::Symbol(Cow::Owned(plain.into_owned())),
        _ => Form::Symbol(alone),
    }
}

/// The compatible form, unless it is a whole phrase: `ﷺ` has eighteen letters.
fn plain(text: &str) -> Cow<'_, str> {
    let plain = ComposingNormalizerBorrowed::new_nfkc().normalize(text);
    if plain.len() <= PLAIN_PER_WRITTEN * text.len() { plain } else { Cow::Borrowed(text) }
}

/// Whether a character's compatible form says the same. Tokenizers know the signs of Latin-1, and numbers
/// above and below the line, which are no numbers of the line; they know punctuation, but for wide, small and
/// double forms.
fn has_plain_form(c: char) -> bool {
    let is_form =
        matches!(c, '\u{fe10}'..='\u{fe6f}' | '\u{ff00}'..='\u{ffef}' | '‼' | '\u{2047}'..='\u{2049}');
    let is_punctuation = matches!(
        category(c),
        Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::ConnectorPunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation
    );
    is_form || c.is_ascii() || (c > '\u{ff}' && !is_script(c) && !is_punctuation)
}

/// Superscripts and subscripts.
fn is_script(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '\u{2070}'..='\u{209f}')
}

impl<'a> Normalized<'a> {
    pub(super) fn same(text: &'a str) -> Self {
        Self { text: Cow::Borrowed(text), edits: Vec::new() }
    }

    /// Where in the original bytes of the text are from: whole graphemes, where they were changed.
    pub(super) fn original(&self, start: usize, end: usize) -> (usize, usize) {
        let from = self.edit_at(start).map_or(start, |edit| {
            let (normalized, original) = (edit.normalized.range(), edit.original.range());
            if start < normalized.end { original.start } else { original.end + start - normalized.end }
        });
        let to = self.edit_at(end.saturating_sub(1)).map_or(end, |edit| {
            let (normalized, original) = (edit.normalized.range(), edit.original.range());
            if end <= normalized.end { original.end } else { original.end + end - normalized.end }
        });
        (from, to.max(from))
    }

    /// The last edit that begins before or at a byte.
    fn edit_at(&self, byte: usize) -> Option<&Edit> {
        let after = self.edits.partition_point(|edit| edit.normalized.start as usize <= byte);
        self.edits.get(after.checked_sub(1)?)
    }
}

impl Span {
    /// Texts of four gigabytes are refused long before.
    fn new(range: Range<usize>) -> Self {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: narrow(range.start), end: narrow(range.end) }
    }

    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Where a chunk that begins at `start` ends: behind white space that no hyphen is before, and before what
/// begins a word; or before a symbol, which does so by itself.
pub(super) fn end_of_chunk(text: &str, start: usize) -> usize {
    let target = start.saturating_add(CHUNK_BYTES);
    if target >= text.len() {
        return text.len();
    }
    let target = text.floor_char_boundary(target);
    let is_hyphen = |c: char| matches!(c, '-' | '\u{2010}' | '\u{ad}');
    let begins_word = |c: char| {
        c.is_ascii_graphic() || matches!(category(c), Category::LowercaseLetter | Category::UppercaseLetter)
    };
    let is_part = |c: char| matches!(c, '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f3fb}'..='\u{1f3ff}');
    // Some are read as letters, and joined to those before.
    let begins_symbol =
        |c: char| is_symbol(c) && !is_part(c) && matches!(form(c.encode_utf8(&mut [0; 4])), Form::Symbol(_));
    let (mut last, mut was_space) = (None, false);
    for (offset, c) in text[target..].char_indices() {
        if is_space(c) {
            was_space = true;
            continue;
        }
        let is_end = last.is_some_and(|last| match was_space {
            true => !is_hyphen(last) && (begins_word(c) || begins_symbol(c)),
            false => (begins_word(last) || begins_symbol(last)) && begins_symbol(c),
        });
        if is_end {
            return target + offset;
        }
        (last, was_space) = (Some(c), false);
    }
    text.len()
}

#[cfg(test)]
mod tests;
