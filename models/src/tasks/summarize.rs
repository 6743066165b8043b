//! Extractive summaries: the sentences that carry a document, in their own order.
//!
//! Each sentence is embedded. Its worth is how central it is (its mean cosine to all sentences, the degree
//! centrality of LexRank, Erkan and Radev 2004, without a threshold), how early it stands, and whether it
//! reads like a sentence at all. Sentences are then taken one by one, each time the one whose worth is
//! highest after what the summary already says is taken off (maximal marginal relevance, Carbonell and
//! Goldstein 1998), so that the summary covers the document instead of repeating its centre. What repeats a
//! sentence taken before is never taken, and what is not of the matter ([`matter`]) only if there is nothing
//! else.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use models_core::tasks::{
    DecodeError, Input, InputError, LengthUnit, OffsetUnit, Output, Refusals, Remedy, SummarizeParameters,
    Summary, SummaryMethod, SummarySentence, TaskResult, Truncation,
};
use unicode_segmentation::UnicodeSegmentation;

use super::inputs::{self, Reader, Texts};
use super::math::{dot, normalize};
use super::matter::{self, Passage, Role};
use super::offsets::Offsets;
use super::reading::{Jobs, Outputs, Reading};
use super::{Context, Decode, wording};
use crate::pool::Pace;
use crate::segment::{Plain, sentences};
use crate::tokenizer::Keep;

/// Most sentences a caller may ask for.
const SENTENCES_MAX: usize = 50;
/// Most units a document is cut into; in one with more sentences, neighbours go together.
const UNITS_MAX: usize = 4096;
/// Bytes after which counting words gives others a chance, and how many of them take as long as one that is
/// tokenised.
const WORDS_TOLD: usize = 32 << 10;
const WORDS_PER_TOKENISED: usize = 16;
/// Share of worth, against likeness to what was taken, in each choice.
const RELEVANCE: f32 = 0.6;
/// What standing first is worth, in units of centrality; it fades over the document.
const LEAD: f32 = 0.15;
/// Shortest sentence that is likely to say something, in words.
const WORDS_MIN: usize = 5;
/// Bytes of a sentence whose words are compared with those of others.
const COMPARED_BYTES_MAX: usize = 4096;
/// Sentences that differ by less than this say the same: the share of words that both have, and, if the model
/// says that they are alike, a lower one.
const SAME_WORDS: f32 = 0.9;
const SAME_WORDS_IF_ALIKE: f32 = 0.75;
/// The cosine of sentences that are alike.
const ALIKE: f32 = 0.95;

/// What is needed to make summaries of outputs.
struct Decoder {
    columns: usize,
    max_sentences: usize,
    /// Of a summary.
    max_tokens: Option<usize>,
    offset_unit: OffsetUnit,
}

pub(super) struct Document {
    text: String,
    units: Vec<Unit>,
    tokens: usize,
    /// Tokens of which the model knows nothing.
    unknown: usize,
    is_recognized: bool,
}

/// A sentence that may be taken; it was read together with its neighbours if a document has very many.
struct Unit {
    bytes: Range<usize>,
    /// What stands within it and is none of it: the header of a page.
    left_out: Vec<Range<usize>>,
    tokens: usize,
    /// Words as people count them.
    words: usize,
    /// Its words without case and marks, as hashes, to tell whether sentences are the same.
    wording: Vec<u64>,
    /// Those of them that make another statement of it: numbers, and whether it asks.
    figures: Vec<u64>,
    role: Role,
    reading: Reading,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &SummarizeParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    if parameters.method == SummaryMethod::Abstractive {
        let message = "this model offers extractive summaries only".to_owned();
        return Err(InputError::Parameter { name: "method", message });
    }
    if !(1..=SENTENCES_MAX).contains(&parameters.max_sentences) {
        let message = format!("must be between 1 and {SENTENCES_MAX}");
        return Err(InputError::Parameter { name: "max_sentences", message });
    }
    let SummarizeParameters { max_sentences, max_tokens, offset_unit, .. } = *parameters;
    let decoder = Decoder { columns: context.columns, max_sentences, max_tokens, offset_unit };
    inputs::read(decoder, context, jobs, texts).await
}

async fn read(
    context: &Context<'_>,
    jobs: &mut Jobs<'_>,
    index: usize,
    text: &str,
) -> Result<Document, InputError> {
    let limits = &context.card.limits;
    let limit = limits.document_tokens_max;
    let too_long = |length: usize, limit: usize, unit: LengthUnit| {
        let (is_counted, remedy) = (false, Remedy::Inputs);
        InputError::TooLong { index, length, is_counted, limit, unit, remedy }
    };
    if let Some(length) = jobs.look(text, limit).await {
        return Err(too_long(length, limit, LengthUnit::Tokens));
    }
    if let Some(limit) = limits.document_words_max {
        let words = words_up_to(text, limit + 1, jobs.pace()).await;
        if words > limit {
            return Err(too_long(words, limit, LengthUnit::Words));
        }
    }
    let special = context.tokenizer.special_tokens_count();
    let mut units = Vec::new();
    let mut tokens = special;
    let (mut unknown, mut is_recognized) = (0, false);
    let (plain, passages) = passages(text, jobs.pace()).await;
    let size = passages.len().div_ceil(UNITS_MAX).max(1);
    let end = passages.last().map_or(0, |last| last.bytes.end);
    for passages in passages.chunks(size) {
        let (Some(first), Some(last)) = (passages.first(), passages.last()) else { continue };
        let together = first.bytes.start..last.bytes.end;
        let left = limit.saturating_sub(tokens);
        let encoded = jobs.encode(index, &text[together.clone()], Keep::All, left).await?;
        unknown += encoded.unknown;
        // Characters that the tokenizer drops are a sentence if there is nothing else.
        if encoded.tokens == 0 && (!units.is_empty() || last.bytes.end < end) {
            continue;
        }
        tokens += encoded.tokens;
        is_recognized |= jobs.is_recognized(&encoded);
        if tokens > limit {
            return Err(too_long(tokens, limit, LengthUnit::Tokens));
        }
        // A sentence longer than a window is read in several, never cut.
        let reading = jobs.add(context.model, limits, &encoded, Truncation::Stride);
        let Passage { bytes, role, left_out } = best_of(&plain, passages);
        let inside = bytes.start - together.start..bytes.end - together.start;
        let is_inside = |(start, end): &&(usize, usize)| inside.start <= *start && *end <= inside.end;
        let words = plain[bytes.clone()].unicode_words().count();
        let (wording, figures) = wording(&plain, &bytes, &left_out);
        let tokens = encoded.text.offsets.iter().filter(is_inside).count();
        units.push(Unit { bytes, left_out, tokens, words, wording, figures, role, reading });
    }
    if units.is_empty() {
        return Err(InputError::Empty { index });
    }
    Ok(Document { text: text.to_owned(), units, tokens, unknown, is_recognized })
}

/// Words of a text; counting ends at `limit`.
async fn words_up_to(text: &str, limit: usize, pace: &Pace) -> usize {
    let (mut words, mut told) = (0, 0);
    for (at, _) in text.unicode_word_indices() {
        words += 1;
        if words >= limit {
            break;
        }
        if at - told > WORDS_TOLD {
            told = at;
            pace.spend(WORDS_TOLD / WORDS_PER_TOKENISED).await;
        }
    }
    words
}

/// A text without its markup, and its passages; the text as it is if it has nothing but markup.
async fn passages<'a>(text: &'a str, pace: &Pace) -> (Cow<'a, str>, Vec<Passage>) {
    let plain = Plain::of(text).into_paragraphs(text);
    let found = sentences(&plain, pace).await;
    if found.is_empty() {
        let found = sentences(text, pace).await;
        return (Cow::Borrowed(text), matter::passages(text, text, &found));
    }
    let passages = matter::passages(&plain, text, &found);
    (plain, passages)
}

/// The one of neighbouring passages that stands for them: of the matter, and most like a sentence; the first
/// of equals.
fn best_of(text: &str, passages: &[Passage]) -> Passage {
    let mut best = (Passage { bytes: 0..0, role: Role::Apart, left_out: Vec::new() }, f32::NEG_INFINITY);
    for passage in passages {
        let sentence = &text[passage.bytes.clone()];
        let form = form(sentence, sentence.unicode_words().take(WORDS_MIN).count());
        let Passage { bytes, role, .. } = &best.0;
        if bytes.is_empty() || passage.role < *role || (passage.role == *role && form > best.1) {
            best = (passage.clone(), form);
        }
    }
    best.0
}

/// The words of a passage as hashes, of one without words itself; and those of them that make another
/// statement of it, in order.
fn wording(text: &str, bytes: &Range<usize>, left_out: &[Range<usize>]) -> (Vec<u64>, Vec<u64>) {
    let hash = |word: &str| {
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        hasher.finish()
    };
    let passage = without(text, bytes, left_out);
    // Some characters are written out as many: of what is longer than any sentence the rest counts as one
    // word.
    let (read, rest) = passage.split_at(passage.floor_char_boundary(COMPARED_BYTES_MAX));
    let words = wording::words(read);
    let mut figures: Vec<u64> =
        words.iter().filter(|word| wording::is_figure(word)).map(|word| hash(word)).collect();
    figures.sort_unstable();
    let mut wording: Vec<u64> = words.iter().map(|word| hash(word)).collect();
    if wording.is_empty() || !rest.is_empty() {
        wording.push(hash(if wording.is_empty() { &passage } else { rest }));
    }
    (wording, figures)
}

/// A passage without what stands within it and is none of it.
fn without(text: &str, bytes: &Range<usize>, left_out: &[Range<usize>]) -> String {
    let starts = [bytes.start].into_iter().chain(left_out.iter().map(|part| part.end));
    let ends = left_out.iter().map(|part| part.start).chain([bytes.end]);
    starts.zip(ends).filter_map(|(start, end)| text.get(start..end)).collect()
}

/// The share of different words that two sentences have in common.
fn common_words(left: &[u64], right: &[u64]) -> f32 {
    let (left, right): (HashSet<&u64>, HashSet<&u64>) = (left.iter().collect(), right.iter().collect());
    let common = left.intersection(&right).count();
    common as f32 / (left.len() + right.len() - common).max(1) as f32
}

impl Reader for Decoder {
    type Input = Document;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Document, InputError> {
        let document = read(context, jobs, index, inputs::text(index, input)?).await?;
        let shortest = document.candidates().map(|unit| document.units[unit].tokens).min().unwrap_or(0);
        if self.max_tokens.is_some_and(|max| max < shortest) {
            let message = format!("the shortest sentence of inputs[{index}] has {shortest} tokens");
            return Err(InputError::Parameter { name: "max_tokens", message });
        }
        jobs.count(document.tokens);
        Ok(document)
    }

    fn decode(&self, document: &Document, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let chosen = self.choose(document, outputs)?;
        let windows = document.units.iter().map(|unit| unit.reading.windows.len()).sum();
        let output = Output::Summary(document.summary(&chosen, self.offset_unit));
        Ok(TaskResult {
            output,
            tokens: document.tokens,
            truncated: false,
            windows,
            unknown_tokens: document.unknown,
            nothing_recognized: !document.is_recognized,
        })
    }
}

impl Decoder {
    /// Indices of the units to keep, ascending.
    fn choose(&self, document: &Document, outputs: &Outputs) -> Result<Vec<usize>, DecodeError> {
        let mut vectors = Vec::with_capacity(document.units.len());
        for unit in &document.units {
            let mut vector = outputs.mean(&unit.reading, self.columns)?;
            normalize(&mut vector);
            vectors.push(vector);
        }
        let worth = worth(document, &vectors, self.columns);
        // Cosine of each unit to the most similar one taken so far.
        let mut likeness = vec![0.0f32; vectors.len()];
        let mut left = self.max_tokens.unwrap_or(usize::MAX);
        let mut chosen: Vec<usize> = Vec::new();
        for role in [Role::Matter, Role::Frame, Role::Apart] {
            if role == Role::Apart && !chosen.is_empty() {
                break;
            }
            let mut open: Vec<usize> =
                document.candidates().filter(|i| document.units[*i].role == role).collect();
            // What was taken of another role counts, too.
            while chosen.len() < self.max_sentences {
                open.retain(|i| document.units[*i].tokens <= left);
                let gain = |i: usize| RELEVANCE * worth[i] - (1.0 - RELEVANCE) * likeness[i];
                // Of equals the earlier: `max_by` would take the later.
                let Some(best) = open.iter().rev().copied().max_by(|l, r| gain(*l).total_cmp(&gain(*r)))
                else {
                    break;
                };
                open.retain(|i| *i != best);
                if chosen.iter().any(|taken| document.is_same(&vectors, *taken, best)) {
                    continue;
                }
                chosen.push(best);
                left -= document.units[best].tokens;
                for i in 0..vectors.len() {
                    likeness[i] = likeness[i].max(dot(&vectors[i], &vectors[best]));
                }
            }
        }
        chosen.sort_unstable();
        Ok(chosen)
    }
}

impl Document {
    /// Units that say something: those with words, or all if none has any.
    fn candidates(&self) -> impl Iterator<Item = usize> {
        let has_words = self.units.iter().any(|unit| unit.words > 0);
        (0..self.units.len()).filter(move |&unit| !has_words || self.units[unit].words > 0)
    }

    /// Whether two units say the same in the same words, or nearly so.
    fn is_same(&self, vectors: &[Vec<f32>], left: usize, right: usize) -> bool {
        let (one, other) = (&self.units[left].wording, &self.units[right].wording);
        if one == other {
            return true;
        }
        // Of a few words, one makes another sentence; and so does a number of many.
        let have_other_figures = self.units[left].figures != self.units[right].figures;
        if have_other_figures || one.len().min(other.len()) < WORDS_MIN {
            return false;
        }
        let common = common_words(one, other);
        let is_alike = || dot(&vectors[left], &vectors[right]) >= ALIKE;
        common >= SAME_WORDS || (common >= SAME_WORDS_IF_ALIKE && is_alike())
    }

    fn unit(&self, index: usize) -> &str {
        self.text.get(self.units[index].bytes.clone()).unwrap_or("")
    }

    fn summary(&self, chosen: &[usize], unit: OffsetUnit) -> Summary {
        let mut offsets = Offsets::new(&self.text, unit);
        let sentences: Vec<SummarySentence> = chosen
            .iter()
            .map(|index| {
                let bytes = &self.units[*index].bytes;
                let (start, end) = (offsets.convert(bytes.start), offsets.convert(bytes.end));
                SummarySentence { text: self.text[bytes.clone()].to_owned(), start, end }
            })
            .collect();
        let fold = |index: &usize| {
            let unit = &self.units[*index];
            let text = without(&self.text, &unit.bytes, &unit.left_out);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let summary = chosen.iter().map(fold).collect::<Vec<_>>().join(" ");
        Summary { summary, method: SummaryMethod::Extractive, sentences }
    }
}

/// What each unit is worth by itself: centrality scaled to at most 1, lead, and form.
fn worth(document: &Document, vectors: &[Vec<f32>], columns: usize) -> Vec<f32> {
    // Of equal sentences one counts, and what is not of the matter does not, or what repeats would be the
    // centre.
    let role = document.units.iter().map(|unit| unit.role).min().unwrap_or(Role::Matter);
    let mut seen = HashSet::new();
    let counted: Vec<bool> =
        document.units.iter().map(|unit| unit.role == role && seen.insert(unit.wording.as_slice())).collect();
    let mut centre = vec![0.0f32; columns];
    for (vector, _) in vectors.iter().zip(&counted).filter(|(_, counts)| **counts) {
        for (sum, value) in centre.iter_mut().zip(vector) {
            *sum += value;
        }
    }
    let total = counted.iter().filter(|counts| **counts).count().max(1) as f32;
    // The mean cosine to all units is the product with their mean.
    let centrality: Vec<f32> = vectors.iter().map(|v| dot(v, &centre) / total).collect();
    let highest = centrality.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let count = vectors.len() as f32;
    let one = |(i, unit): (usize, &Unit)| {
        let lead = LEAD * (-3.0 * i as f32 / count).exp();
        (centrality[i] / highest + lead) * form(document.unit(i), unit.words)
    };
    document.units.iter().enumerate().map(one).collect()
}

/// How much a unit reads like a sentence: headings and fragments do less.
fn form(text: &str, words: usize) -> f32 {
    let length = if words < WORDS_MIN { 0.4 } else { 1.0 };
    let is_ended =
        text.trim_end_matches(['"', '\'', '”', '’', ')', ']']).ends_with(['.', '!', '…', '。', '！', '．']);
    length * if is_ended { 1.0 } else { 0.8 }
}
