//! Extractive summaries: the sentences that carry a document, in their own order.
//!
//! Each sentence is embedded. Its worth is how central it is (its mean cosine to all sentences, the degree centrality of
//! LexRank, Erkan and Radev 2004, without a threshold), how early it stands, and whether it reads like a sentence at all.
//! Sentences are then taken one by one, each time the one whose worth is highest after what the summary already says
//! is taken off (maximal marginal relevance, Carbonell and Goldstein 1998), so that the summary covers the document
//! instead of repeating its centre.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::math::{dot, normalize};
use super::offsets::Offsets;
use super::reading::{Jobs, Outputs, Reading};
use super::types::{
    DecodeError, InputError, LengthUnit, OffsetUnit, Output, SummarizeParameters, Summary, SummaryMethod,
    SummarySentence, TaskResult,
};
use super::{Context, Decode};
use crate::pool::Pace;
use crate::segment::sentences;
use crate::tokenizer::Keep;
use crate::windows::Truncation;

/// Most sentences a caller may ask for.
const SENTENCES_MAX: usize = 50;
/// Most units a document is cut into; in one with more sentences, neighbours go together.
const UNITS_MAX: usize = 4096;
/// Bytes after which counting words gives others a chance, and how many of them take as long as one that is tokenised.
const WORDS_TOLD: usize = 32 << 10;
const WORDS_PER_TOKENISED: usize = 16;
/// Share of worth, against likeness to what was taken, in each choice.
const RELEVANCE: f32 = 0.6;
/// What standing first is worth, in units of centrality; it fades over the document.
const LEAD: f32 = 0.15;
/// Shortest sentence that is likely to say something, in words.
const WORDS_MIN: usize = 5;
/// What a sentence that only goes along with a message keeps of its worth.
const BOILERPLATE: f32 = 0.2;
/// How such sentences are recognised, in lower case.
const BOILERPLATE_PHRASES: &[&str] = &[
    "any attachments are confidential",
    "attachments may contain confidential",
    "confidential and intended solely",
    "confidentiality notice",
    "do not reply to this",
    "if you are not the intended recipient",
    "if you have received this",
    "intended only for the",
    "privileged and confidential",
    "sent from my ",
    "this e-mail and any",
    "this email and any",
    "this message is confidential",
    "to stop receiving",
    "unsubscribe",
    "view this email in your browser",
    "you are receiving this",
];
/// The line before a signature (RFC 3676, section 4.3).
const SIGNATURE: &str = "--";

/// What is needed to make summaries of outputs.
pub(super) struct Decoder {
    documents: Vec<Document>,
    columns: usize,
    max_sentences: usize,
    max_tokens: usize,
}

struct Document {
    text: String,
    units: Vec<Unit>,
    tokens: usize,
}

/// A sentence, or several short ones.
struct Unit {
    bytes: Range<usize>,
    tokens: usize,
    words: usize,
    reading: Reading,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    inputs: &[String],
    parameters: &SummarizeParameters,
) -> Result<Decoder, InputError> {
    if parameters.method == SummaryMethod::Abstractive {
        let message = "this model offers extractive summaries only".to_owned();
        return Err(InputError::Parameter { name: "method", message });
    }
    if !(1..=SENTENCES_MAX).contains(&parameters.max_sentences) {
        let message = format!("must be between 1 and {SENTENCES_MAX}");
        return Err(InputError::Parameter { name: "max_sentences", message });
    }
    let mut documents = Vec::with_capacity(inputs.len());
    for (index, text) in inputs.iter().enumerate() {
        let document = read(context, jobs, index, text).await?;
        let shortest = document.candidates().map(|unit| document.units[unit].tokens).min().unwrap_or(0);
        if parameters.max_tokens.is_some_and(|max| max < shortest) {
            let message = format!("the shortest sentence of inputs[{index}] has {shortest} tokens");
            return Err(InputError::Parameter { name: "max_tokens", message });
        }
        documents.push(document);
    }
    Ok(Decoder {
        documents,
        columns: context.columns,
        max_sentences: parameters.max_sentences,
        max_tokens: parameters.max_tokens.unwrap_or(usize::MAX),
    })
}

async fn read(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    index: usize,
    text: &str,
) -> Result<Document, InputError> {
    let limits = &context.card.limits;
    let limit = limits.document_tokens_max;
    jobs.look(index, text, limit).await?;
    if let Some(limit) = limits.document_words_max {
        let words = words_up_to(text, limit + 1, jobs.pace()).await;
        if words > limit {
            let unit = LengthUnit::Words;
            return Err(InputError::TooLong { index, length: words, is_counted: false, limit, unit });
        }
    }
    let special = context.tokenizer.special_tokens_count();
    let mut units = Vec::new();
    let mut tokens = special;
    for bytes in together(&sentences(text, jobs.pace()).await) {
        let left = limit.saturating_sub(tokens);
        let encoded = jobs.encode(index, &text[bytes.clone()], Keep::All, left).await?;
        if encoded.tokens == 0 {
            continue;
        }
        tokens += encoded.tokens;
        if tokens > limit {
            let (is_counted, unit) = (false, LengthUnit::Tokens);
            return Err(InputError::TooLong { index, length: tokens, is_counted, limit, unit });
        }
        // A sentence longer than a window is read in several, never cut.
        let reading = jobs.add(context.model, limits, &encoded, Truncation::Stride);
        let words = text[bytes.clone()].unicode_words().count();
        units.push(Unit { bytes, tokens: encoded.tokens, words, reading });
    }
    if units.is_empty() {
        return Err(InputError::Empty { index });
    }
    jobs.count(tokens);
    Ok(Document { text: text.to_owned(), units, tokens })
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

/// Neighbouring sentences put together until there are at most [`UNITS_MAX`].
fn together(sentences: &[Range<usize>]) -> Vec<Range<usize>> {
    let size = sentences.len().div_ceil(UNITS_MAX).max(1);
    sentences.chunks(size).map(|chunk| chunk[0].start..chunk[chunk.len() - 1].end).collect()
}

impl Decode for Decoder {
    fn decode(self: Box<Self>, outputs: &Outputs) -> Result<Vec<TaskResult>, DecodeError> {
        let result = |document: &Document| {
            let chosen = self.choose(document, outputs)?;
            let windows = document.units.iter().map(|unit| unit.reading.windows.len()).sum();
            let output = Output::Summary(document.summary(&chosen));
            Ok(TaskResult { output, tokens: document.tokens, truncated: false, windows })
        };
        self.documents.iter().map(result).collect()
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
        let mut open: Vec<usize> = document.candidates().collect();
        let mut left = self.max_tokens;
        let mut chosen = Vec::new();
        while chosen.len() < self.max_sentences {
            open.retain(|i| document.units[*i].tokens <= left);
            let gain = |i: usize| RELEVANCE * worth[i] - (1.0 - RELEVANCE) * likeness[i];
            // Of equals the earlier: `max_by` would take the later.
            let Some(best) = open.iter().rev().copied().max_by(|l, r| gain(*l).total_cmp(&gain(*r))) else {
                break;
            };
            chosen.push(best);
            left -= document.units[best].tokens;
            open.retain(|i| *i != best);
            for i in &open {
                likeness[*i] = likeness[*i].max(dot(&vectors[*i], &vectors[best]));
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

    fn unit(&self, index: usize) -> &str {
        self.text.get(self.units[index].bytes.clone()).unwrap_or("")
    }

    fn summary(&self, chosen: &[usize]) -> Summary {
        let mut offsets = Offsets::new(&self.text, OffsetUnit::Codepoint);
        let sentences: Vec<SummarySentence> = chosen
            .iter()
            .map(|index| {
                let bytes = &self.units[*index].bytes;
                let (start, end) = (offsets.convert(bytes.start), offsets.convert(bytes.end));
                SummarySentence { text: self.text[bytes.clone()].to_owned(), start, end }
            })
            .collect();
        let fold =
            |sentence: &SummarySentence| sentence.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let summary = sentences.iter().map(fold).collect::<Vec<_>>().join(" ");
        Summary { summary, method: SummaryMethod::Extractive, sentences }
    }
}

/// What each unit is worth by itself: centrality scaled to at most 1, lead, and form.
fn worth(document: &Document, vectors: &[Vec<f32>], columns: usize) -> Vec<f32> {
    let mut centre = vec![0.0f32; columns];
    for vector in vectors {
        for (sum, value) in centre.iter_mut().zip(vector) {
            *sum += value;
        }
    }
    // The mean cosine to all units is the product with their mean.
    let centrality: Vec<f32> = vectors.iter().map(|v| dot(v, &centre) / vectors.len() as f32).collect();
    let highest = centrality.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let count = vectors.len() as f32;
    let signature = (0..document.units.len()).rfind(|&i| document.unit(i) == SIGNATURE);
    let one = |(i, unit): (usize, &Unit)| {
        let lead = LEAD * (-3.0 * i as f32 / count).exp();
        let is_signature = signature.is_some_and(|signature| i > signature);
        let part = if is_signature { BOILERPLATE } else { 1.0 };
        (centrality[i] / highest + lead) * part * form(document.unit(i), unit.words)
    };
    document.units.iter().enumerate().map(one).collect()
}

/// How much a unit reads like a sentence of the matter: headings, greetings, fragments and boilerplate do less.
fn form(text: &str, words: usize) -> f32 {
    let length = if words < WORDS_MIN { 0.4 } else { 1.0 };
    let is_ended =
        text.trim_end_matches(['"', '\'', '”', '’', ')', ']']).ends_with(['.', '!', '…', '。', '！', '．']);
    let lower = text.to_lowercase();
    let is_boilerplate = BOILERPLATE_PHRASES.iter().any(|phrase| lower.contains(phrase));
    length * if is_ended { 1.0 } else { 0.8 } * if is_boilerplate { BOILERPLATE } else { 1.0 }
}
