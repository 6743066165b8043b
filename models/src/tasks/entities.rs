//! Named entities: from the probabilities of tokens to names with their place in the text.
//!
//! Labels are tags of whichever scheme a model was trained with ([`tags`](super::tags)). Aggregations carry
//! the names and meanings of Hugging Face's token-classification pipeline, with one difference: words are the
//! tokenizer's own, and a name that the tokenizer splits at punctuation (`O'Brien`, `Coca-Cola`) is put
//! together again, because parts of one type with nothing between them are one name. Whatever the tags say, a
//! name ends with its line, item or cell ([`Cells`]), and the model reads commas there, no markup, and no `®`
//! and `™`; it ends at emoji, too, and has no symbols at its ends ([`names`](super::names)). Tokens by
//! themselves (`none`) are read and labelled as they are. A word through which a text was cut is no name.
//!
//! All this is for names, which the heads of this repository are trained to find. A checkpoint's own head may
//! find anything: it reads texts as they are, and what it finds is put together as that pipeline does it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use models_core::tasks::{
    Aggregation, DecodeError, EntitiesParameters, Entity, Input, InputError, OffsetUnit, Output, Refusals,
    TaskResult, Truncation,
};
use unicode_segmentation::UnicodeSegmentation;

use super::inputs::{self, Reader, Texts};
use super::math::{argmax, softmax};
use super::names::{Bounds, Part, is_glue, is_picture, touches};
use super::offsets::Offsets;
use super::reading::{Jobs, Outputs, Reading};
use super::tags::{Tag, tags};
use super::{Context, Decode};
use crate::segment::{Cells, Plain};
use crate::tokenizer::EncodedText;
use crate::windows;

/// Tokens that a word may have at an end where a text is cut; of a longer one a part is given.
const CUT_MAX: usize = 64;

/// What is needed to make entities of outputs.
struct Decoder {
    truncation: Truncation,
    tags: Vec<Tag>,
    special_before: usize,
    special: usize,
    aggregation: Aggregation,
    offset_unit: OffsetUnit,
    /// Whether what is found are names.
    is_of_names: bool,
    /// Whether words end at white space alone, since the tokenizer's own are parts of words.
    has_spaced_words: bool,
}

pub(super) struct Text {
    text: String,
    /// Without markup, in as many bytes, if there is any.
    plain: Option<String>,
    bounds: Bounds,
    encoded: EncodedText,
    reading: Reading,
}

/// A piece of the text with the tag it was given.
#[derive(Debug, Clone)]
struct Piece<'a> {
    bytes: Range<usize>,
    tag: &'a Tag,
    score: f32,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &EntitiesParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let decoder = Decoder {
        truncation: parameters.truncation,
        tags: tags(&context.card.labels),
        special_before: context.tokenizer.special_tokens_before(),
        special: context.tokenizer.special_tokens_count(),
        aggregation: parameters.aggregation,
        offset_unit: parameters.offset_unit,
        is_of_names: !context.card.head.is_of_checkpoint(),
        has_spaced_words: context.card.head.is_of_checkpoint() && !context.tokenizer.marks_parts_of_words(),
    };
    inputs::read(decoder, context, jobs, texts).await
}

impl Reader for Decoder {
    type Input = Text;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Text, InputError> {
        let text = inputs::text(index, input)?;
        if self.aggregation == Aggregation::None || !self.is_of_names {
            let (encoded, reading) = jobs.read(context, index, text, self.truncation).await?;
            let bounds = Bounds::default();
            return Ok(Text { text: text.to_owned(), plain: None, bounds, encoded, reading });
        }
        let plain = Plain::of(text);
        if self.truncation == Truncation::Stride {
            // A text that is too long is not looked through for lines; markup takes no place.
            jobs.check_length(context, index, &plain.text).await?;
        }
        let Cells { ends, plain, references, read } = Cells::of(text, plain, jobs.pace()).await;
        let read = unmarked(read.map_or(Cow::Borrowed(text), Cow::Owned));
        let (encoded, reading) = jobs.read(context, index, &read, self.truncation).await?;
        let mut bounds = Bounds { ends, references };
        if !text.is_ascii() {
            bounds.ends.extend(pictures(text));
            bounds.ends.extend(behind_marks(text));
            bounds.ends.sort_unstable();
        }
        Ok(Text { text: text.to_owned(), plain, bounds, encoded, reading })
    }

    fn decode(&self, text: &Text, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let probabilities = self.probabilities(text, outputs)?;
        let pieces = self.pieces(text, &probabilities);
        let entities = self.to_entities(&text.text, &pieces);
        Ok(text.reading.result(Output::Entities(entities)))
    }
}

impl Decoder {
    /// Probabilities of every token that was read, by its index in the text: from the window in which it has
    /// most context.
    fn probabilities(&self, text: &Text, outputs: &Outputs) -> Result<Vec<(usize, Vec<f32>)>, DecodeError> {
        let Reading { windows, jobs, .. } = &text.reading;
        let columns = self.tags.len();
        let mut probabilities = Vec::with_capacity(text.encoded.ids.len());
        for ((job, window), owned) in jobs.clone().zip(windows).zip(windows::owners(windows)) {
            let logits = outputs.matrix(job, window.len() + self.special, columns)?;
            for token in owned {
                let row = token - window.start + self.special_before;
                probabilities.push((token, softmax(&logits[row * columns..(row + 1) * columns])));
            }
        }
        Ok(probabilities)
    }

    fn pieces(&self, text: &Text, probabilities: &[(usize, Vec<f32>)]) -> Vec<Piece<'_>> {
        let whole = text.whole_words(probabilities);
        let probabilities = &probabilities[whole];
        let tokens =
            || probabilities.iter().map(|(token, p)| self.piece(text, *token..*token + 1, argmax(p), p));
        match self.aggregation {
            Aggregation::None => tokens().filter(|piece| piece.tag.kind.is_some()).collect(),
            Aggregation::Simple if self.is_of_names => merge(text, tokens().collect(), false),
            Aggregation::Simple => group(tokens().collect()),
            _ if !self.is_of_names => group(self.words(text, probabilities)),
            Aggregation::First | Aggregation::Average | Aggregation::Max => {
                let words = self.words(text, probabilities);
                let words = self.whole_abbreviations(text.plain(), words);
                merge(text, join_split_names(text.plain(), words), true)
            }
        }
    }

    /// One piece for each word of the tokenizer, labelled as the aggregation says.
    fn words(&self, text: &Text, probabilities: &[(usize, Vec<f32>)]) -> Vec<Piece<'_>> {
        let word = |entry: &(usize, Vec<f32>)| text.encoded.words.get(entry.0).copied().flatten();
        let start =
            |entry: &(usize, Vec<f32>)| text.encoded.offsets.get(entry.0).map_or(0, |offsets| offsets.0);
        let is_spaced = |entry: &(usize, Vec<f32>)| {
            let at = text.text.floor_char_boundary(start(entry));
            let (before, after) = text.text.split_at(at);
            before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace)
        };
        // A token of no word is a word by itself.
        let chunks = probabilities.chunk_by(|left, right| match self.has_spaced_words {
            true => !is_spaced(right),
            false => word(left).is_some() && word(left) == word(right),
        });
        let piece = |chunk: &[(usize, Vec<f32>)]| {
            let tokens = chunk[0].0..chunk[chunk.len() - 1].0 + 1;
            let probabilities = match self.aggregation {
                Aggregation::Average => mean(chunk),
                Aggregation::Max => most_certain(chunk).to_vec(),
                _ => chunk[0].1.clone(),
            };
            let mut piece = self.piece(text, tokens, argmax(&probabilities), &probabilities);
            // A word begins a name if its first token does, whatever the mean says of it.
            if self.is_of_names
                && let Some(first) = self.same_kind(piece.tag, self.tags[argmax(&chunk[0].1)].begins)
            {
                piece.tag = first;
            }
            piece
        };
        chunks.map(piece).collect()
    }

    fn piece(&self, text: &Text, tokens: Range<usize>, tag: usize, probabilities: &[f32]) -> Piece<'_> {
        let offsets = &text.encoded.offsets;
        let plain = text.plain();
        let start = plain.floor_char_boundary(offsets.get(tokens.start).map_or(0, |o| o.0));
        let end = plain.ceil_char_boundary(offsets.get(tokens.end - 1).map_or(start, |o| o.1)).max(start);
        // Some tokenizers count the white space before a word to it.
        let blank =
            if self.is_of_names { 0 } else { plain[start..end].len() - plain[start..end].trim_start().len() };
        Piece { bytes: start + blank..end, tag: &self.tags[tag], score: probabilities[tag] }
    }

    fn to_entities(&self, text: &str, pieces: &[Piece<'_>]) -> Vec<Entity> {
        let mut offsets = Offsets::new(text, self.offset_unit);
        let entity = |piece: &Piece<'_>| {
            let kind = piece.tag.kind.clone()?;
            // Tokens by themselves keep the B- and I- of their labels, as in the pipeline whose names the
            // aggregations bear.
            let label =
                if self.aggregation == Aggregation::None { Arc::clone(&piece.tag.label) } else { kind };
            let (start, end) = (offsets.convert(piece.bytes.start), offsets.convert(piece.bytes.end));
            Some(Entity { text: text[piece.bytes.clone()].to_owned(), label, start, end, score: piece.score })
        };
        pieces.iter().filter_map(entity).collect()
    }

    /// Gives the letters and dots of an abbreviation the kind of the first of them: a model may take `U.K.`
    /// apart.
    fn whole_abbreviations<'a>(&'a self, text: &str, mut words: Vec<Piece<'a>>) -> Vec<Piece<'a>> {
        let mut start = 0;
        while start < words.len() {
            let letters = abbreviation(text, &words[start..]);
            if letters > 1
                && words[start].tag.kind.is_some()
                && let Some(tag) = self.same_kind(words[start].tag, false)
            {
                words[start + 1..start + letters].iter_mut().for_each(|word| word.tag = tag);
            }
            start += letters.max(1);
        }
        words
    }

    /// The tag of the same kind that begins a name, or goes on with one.
    fn same_kind(&self, tag: &Tag, begins: bool) -> Option<&Tag> {
        self.tags.iter().find(|other| other.kind == tag.kind && other.begins == begins)
    }
}

impl Text {
    /// What names are looked for in.
    fn plain(&self) -> &str {
        self.plain.as_deref().unwrap_or(&self.text)
    }

    /// Those of the tokens read, by their place in the list, that belong to words which were read whole: a
    /// part of a word is no name.
    fn whole_words(&self, read: &[(usize, Vec<f32>)]) -> Range<usize> {
        let offsets = |place: usize| {
            read.get(place)
                .and_then(|(token, _)| self.encoded.offsets.get(*token))
                .copied()
                .unwrap_or_default()
        };
        let mut start = 0;
        while start < read.len().min(CUT_MAX) && is_within_word(self.plain(), offsets(start).0) {
            start += 1;
        }
        let mut end = read.len();
        while end > start && read.len() - end < CUT_MAX && is_within_word(self.plain(), offsets(end - 1).1) {
            end -= 1;
        }
        start..end
    }
}

/// Whether a place in a text is inside a word, which may hold punctuation: `O'Brien`, but not the dot of a
/// sentence.
fn is_within_word(text: &str, at: usize) -> bool {
    let (Some(before), Some(after)) = (text.get(..at), text.get(at..)) else { return false };
    // Tokenizers read each character of Chinese as a word.
    let is_letter =
        |c: char| c.is_alphanumeric() && !matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{2fa1f}');
    let goes_on = |characters: &mut dyn Iterator<Item = char>| match characters.next() {
        Some(c) if is_glue(c) => characters.next().is_some_and(is_letter),
        next => next.is_some_and(is_letter),
    };
    goes_on(&mut before.chars().rev()) && goes_on(&mut after.chars())
}

fn mean(chunk: &[(usize, Vec<f32>)]) -> Vec<f32> {
    let mut sum = vec![0.0; chunk[0].1.len()];
    for (_, probabilities) in chunk {
        for (sum, probability) in sum.iter_mut().zip(probabilities) {
            *sum += probability;
        }
    }
    sum.into_iter().map(|sum: f32| sum / chunk.len() as f32).collect()
}

fn most_certain(chunk: &[(usize, Vec<f32>)]) -> &[f32] {
    let certainty = |probabilities: &[f32]| probabilities.iter().copied().fold(0.0, f32::max);
    let mut best = &chunk[0].1;
    for (_, probabilities) in chunk {
        if certainty(probabilities) > certainty(best) {
            best = probabilities;
        }
    }
    best
}

/// How many words make up an abbreviation of letters with a dot behind each, if the first does: `U.S.`
fn abbreviation(text: &str, words: &[Piece<'_>]) -> usize {
    let mut count = 0;
    while let Some(word) = words.get(count) {
        let is_whole = match count {
            0 => !text[..word.bytes.start].ends_with(char::is_alphanumeric),
            _ => words[count - 1].bytes.end == word.bytes.start,
        };
        let mut characters = text[word.bytes.clone()].chars();
        let first = characters.next().filter(|_| characters.next().is_none());
        let is_next = first.is_some_and(|c| if count % 2 == 0 { c.is_alphabetic() } else { c == '.' });
        if !is_whole || !is_next {
            break;
        }
        count += 1;
    }
    // Of one letter it is an initial; behind another letter comes a dot, or it is of the next word.
    if count < 4 { 0 } else { count - count % 2 }
}

/// Gives punctuation between two parts of one kind, with no space on either side, that kind: the apostrophe
/// of `O'Brien`.
fn join_split_names<'a>(text: &str, mut words: Vec<Piece<'a>>) -> Vec<Piece<'a>> {
    let is_glue = |bytes: &Range<usize>| text[bytes.clone()].chars().all(is_glue);
    for i in 1..words.len().saturating_sub(1) {
        let (before, here, after) = (&words[i - 1], &words[i], &words[i + 1]);
        let touches = touches(text, &before.bytes, &here.bytes) && touches(text, &here.bytes, &after.bytes);
        if touches && before.tag.kind.is_some() && before.tag.kind == after.tag.kind && is_glue(&here.bytes) {
            words[i] = Piece { tag: after.tag, score: before.score.min(after.score), ..here.clone() };
        }
    }
    words
}

/// Puts neighbours of one kind together, each of which goes on with the one before it.
fn group(pieces: Vec<Piece<'_>>) -> Vec<Piece<'_>> {
    let mut grouped: Vec<(Piece<'_>, usize)> = Vec::new();
    let mut was_inside = false;
    for piece in pieces {
        let is_inside = piece.tag.kind.is_some();
        match grouped.last_mut() {
            Some((last, parts)) if was_inside && piece.tag.goes_on_with(last.tag) => {
                last.bytes.end = piece.bytes.end.max(last.bytes.end);
                last.score += (piece.score - last.score) / (*parts as f32 + 1.0);
                last.tag = piece.tag;
                *parts += 1;
            }
            _ if is_inside => grouped.push((piece, 1)),
            _ => {}
        }
        was_inside = is_inside;
    }
    grouped.into_iter().map(|(piece, _)| piece).collect()
}

/// Merges neighbours of one kind that no end of names is between. A piece that begins a name starts another,
/// unless it is glued to the one before.
fn merge<'a>(text: &Text, pieces: Vec<Piece<'a>>, glue: bool) -> Vec<Piece<'a>> {
    let (plain, bounds) = (text.plain(), &text.bounds);
    let mut merged: Vec<(Piece<'a>, usize, bool)> = Vec::new();
    let mut was_inside = false;
    for piece in pieces {
        let is_inside = piece.tag.kind.is_some();
        let mut is_rest = false;
        match merged.last_mut() {
            Some((last, parts, _))
                if was_inside && is_inside && last.tag.kind == piece.tag.kind && {
                    let touches = || touches(plain, &last.bytes, &piece.bytes);
                    is_rest = !piece.tag.begins || (glue && touches());
                    is_rest && !bounds.are_apart(last.bytes.end, piece.bytes.start)
                } =>
            {
                last.bytes.end = piece.bytes.end.max(last.bytes.end);
                last.score += (piece.score - last.score) / (*parts as f32 + 1.0);
                *parts += 1;
            }
            _ if is_inside => merged.push((piece, 1, is_rest)),
            _ => {}
        }
        was_inside = is_inside;
    }
    let is_person = |piece: &Piece<'_>| piece.tag.kind.as_deref().is_some_and(|kind| kind.starts_with("PER"));
    let parts = merged.iter().enumerate().flat_map(|(index, (piece, _, is_rest))| {
        let bytes = piece.bytes.clone();
        let people = if is_person(piece) { Bounds::people(plain, bytes) } else { vec![bytes] };
        people.into_iter().enumerate().map(move |(part, bytes)| Part {
            bytes,
            source: index,
            is_rest: part > 0 || *is_rest,
        })
    });
    let names = bounds.whole_names(plain, parts.collect());
    names.into_iter().map(|part| Piece { bytes: part.bytes, ..merged[part.source].0.clone() }).collect()
}

/// The text with blanks for the marks of trade marks, of which models that were trained on prose make names
/// of their own. It has as many bytes.
fn unmarked(mut text: Cow<'_, str>) -> Cow<'_, str> {
    let is_name = text.contains(char::is_alphanumeric);
    for mark in ["®", "™", "℠"] {
        if is_name && text.contains(mark) {
            text = Cow::Owned(text.replace(mark, &" ".repeat(mark.len())));
        }
    }
    text
}

/// Where a name ends since a mark of a trade mark ends another: before the `&` of `Bosch™ & Volvo`.
fn behind_marks(text: &str) -> impl Iterator<Item = usize> + '_ {
    let marks = text.match_indices(['®', '™', '℠']);
    marks.filter_map(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let blank = rest.bytes().take_while(|b| *b == b' ').count();
        (blank > 0 && rest[blank..].starts_with("& ")).then_some(at + mark.len() + blank)
    })
}

/// Where a name ends since a picture stands there: before each, and behind it.
fn pictures(text: &str) -> impl Iterator<Item = usize> + '_ {
    let pictures = text.grapheme_indices(true).filter(|(_, grapheme)| is_picture(grapheme));
    pictures.flat_map(|(at, grapheme)| [at, at + grapheme.len()])
}
