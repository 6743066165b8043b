//! Reading texts in windows: the bookkeeping between an input and its jobs, and back.

use std::ops::Range;

use models_core::tasks::{
    DecodeError, Input, InputError, LengthUnit, Output, Remedy, TaskResult, Truncation,
};
use units::ModelId;

use super::math::normalize;
use super::{Context, Job};
use crate::batch::{Sequence, SequenceOutput};
use crate::card::Limits;
use crate::characters::{is_invisible, is_space};
use crate::pool::Pace;
use crate::tokenizer::{Encoded, EncodedText, Keep, PairCut, TextTokenizer};
use crate::windows;

/// How one input is read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// Token ranges of the windows among the tokens kept, without special tokens.
    pub(super) windows: Vec<Range<usize>>,
    /// The jobs that compute them, one each.
    pub(super) jobs: Range<usize>,
    /// Tokens of the input, special tokens included.
    pub(super) tokens: usize,
    /// Whether some were not read.
    pub(super) truncated: bool,
    /// Tokens of the input that stand for what the tokenizer does not know.
    pub(super) unknown: usize,
    /// Whether any token that was read stands for something that it knows.
    pub(super) is_recognized: bool,
}

/// Collects the jobs of a request.
pub(super) struct Jobs<'a> {
    tokenizer: TextTokenizer,
    pace: &'a Pace,
    list: Vec<Job>,
    tokens: usize,
    /// Tokens that are to have vectors of their own.
    vectors: usize,
}

/// The outputs of a request's jobs, checked as they are taken.
pub(super) struct Outputs(Vec<SequenceOutput>);

impl<'a> Jobs<'a> {
    pub(super) fn new(tokenizer: TextTokenizer, pace: &'a Pace) -> Self {
        Self { tokenizer, pace, list: Vec::new(), tokens: 0, vectors: 0 }
    }

    /// To be told of work on texts.
    pub(super) fn pace(&self) -> &'a Pace {
        self.pace
    }

    /// Jobs so far.
    pub(super) fn count_of(&self) -> usize {
        self.list.len()
    }

    /// Forgets the jobs after the first `count`: those of an input that turned out to be no input.
    pub(super) fn forget(&mut self, count: usize) {
        self.list.truncate(count);
    }

    /// Asks for a vector for each token of an input that is read in one window. Returns how many there are.
    ///
    /// # Errors
    /// The inputs so far have more than `limit` together.
    pub(super) fn want_tokens(&mut self, reading: &Reading, limit: usize) -> Result<usize, InputError> {
        let mut rows = 0;
        for job in self.list.get_mut(reading.jobs.clone()).unwrap_or_default() {
            job.sequence.wants_tokens = true;
            rows += job.sequence.len();
        }
        self.vectors += rows;
        match self.vectors {
            vectors if vectors > limit => Err(InputError::TooManyVectors { vectors, limit }),
            _ => Ok(rows),
        }
    }

    /// The jobs, and the tokens of all inputs.
    pub(super) fn finish(self) -> (Vec<Job>, usize) {
        (self.list, self.tokens)
    }

    /// Tokens without special tokens, until there are more than `limit`.
    pub(super) async fn encode(
        &self,
        index: usize,
        text: &str,
        keep: Keep,
        limit: usize,
    ) -> Result<Encoded, InputError> {
        let encoded = self.tokenizer.encode_within(text, keep, limit, self.pace).await;
        encoded.map_err(|_| InputError::Tokenize { index })
    }

    /// The tokens of a text that has more than `limit`, special tokens included, by a look at its characters:
    /// at least so many.
    pub(super) async fn look(&self, text: &str, limit: usize) -> Option<usize> {
        let special = self.tokenizer.special_tokens_count();
        let tokens = self.tokenizer.tokens_at_least(text, limit.saturating_sub(special), self.pace).await;
        (tokens + special > limit).then_some(tokens + special)
    }

    /// Refuses a text that is too long for windows by a look at its characters.
    pub(super) async fn check_length(
        &self,
        context: &Context<'_>,
        index: usize,
        text: &str,
    ) -> Result<(), InputError> {
        let limit = context.card.limits.document_tokens_max;
        let Some(length) = self.look(text, limit).await else { return Ok(()) };
        let (is_counted, unit, remedy) = (false, LengthUnit::Tokens, Remedy::Part);
        Err(InputError::TooLong { index, length, is_counted, limit, unit, remedy })
    }

    /// Tokenises one input for the context's model and adds its windows, as `truncation` says.
    pub(super) async fn read(
        &mut self,
        context: &Context<'_>,
        index: usize,
        text: &str,
        truncation: Truncation,
    ) -> Result<(EncodedText, Reading), InputError> {
        let limits = &context.card.limits;
        let special = self.tokenizer.special_tokens_count();
        let capacity = limits.tokens_max.saturating_sub(special).max(1);
        let (limit, counted, keep) = match truncation {
            // Counted further than it may be, so that the caller is told how long it is, but not for ever.
            Truncation::Error => (limits.tokens_max, limits.document_tokens_max, Keep::All),
            Truncation::Stride => (limits.document_tokens_max, limits.document_tokens_max, Keep::All),
            // What is cut off is counted, and not kept.
            Truncation::End => (usize::MAX, usize::MAX, Keep::First(capacity)),
            Truncation::Start => (usize::MAX, usize::MAX, Keep::Last(capacity)),
        };
        if counted < usize::MAX
            && let Some(length) = self.look(text, counted).await
        {
            return Err(too_long(limits, index, (length, false), limit));
        }
        let encoded = self.encode(index, text, keep, counted.saturating_sub(special)).await?;
        let (length, is_counted) = (encoded.tokens + special, encoded.is_whole);
        if length > limit {
            return Err(too_long(limits, index, (length, is_counted), limit));
        }
        let reading = self.add(context.model, limits, &encoded, truncation);
        self.tokens += reading.tokens;
        Ok((encoded.text, reading))
    }

    /// Adds the windows of one input for the context's model, as `truncation` says.
    pub(super) async fn read_input(
        &mut self,
        context: &Context<'_>,
        index: usize,
        input: &Input,
        truncation: Truncation,
    ) -> Result<Reading, InputError> {
        match input {
            Input::Text(text) => {
                self.read(context, index, text, truncation).await.map(|(_, reading)| reading)
            }
            Input::Tokens(ids) => self.read_tokens(context, index, ids, truncation).await,
        }
    }

    /// Adds the windows of one input that is ids of the context's tokenizer already, with or without the
    /// special tokens around it.
    async fn read_tokens(
        &mut self,
        context: &Context<'_>,
        index: usize,
        ids: &[u32],
        truncation: Truncation,
    ) -> Result<Reading, InputError> {
        let limits = &context.card.limits;
        let special = self.tokenizer.special_tokens_count();
        let capacity = limits.tokens_max.saturating_sub(special).max(1);
        let ids = self.own_tokens(index, ids).await?;
        let limit = match truncation {
            Truncation::Error => limits.tokens_max,
            Truncation::Stride => limits.document_tokens_max,
            Truncation::End | Truncation::Start => usize::MAX,
        };
        let length = ids.len() + special;
        if length > limit {
            return Err(too_long(limits, index, (length, true), limit));
        }
        let kept = match truncation {
            Truncation::End => &ids[..ids.len().min(capacity)],
            Truncation::Start => &ids[ids.len().saturating_sub(capacity)..],
            Truncation::Error | Truncation::Stride => ids,
        };
        let encoded = Encoded {
            text: EncodedText { ids: kept.to_vec(), ..EncodedText::default() },
            tokens: ids.len(),
            unknown: ids.iter().filter(|id| self.tokenizer.is_unknown(**id)).count(),
            dropped: 0,
            is_whole: true,
        };
        let reading = self.add(context.model, limits, &encoded, truncation);
        self.tokens += reading.tokens;
        Ok(reading)
    }

    /// Ids without the special tokens around them.
    ///
    /// # Errors
    /// There are none, or they are not ids that texts have in this tokenizer.
    async fn own_tokens<'t>(&self, index: usize, ids: &'t [u32]) -> Result<&'t [u32], InputError> {
        self.pace.spend(size_of_val(ids)).await;
        let padding = self.tokenizer.padding();
        if let Some(id) = ids.iter().find(|id| Some(**id) == padding) {
            return Err(InputError::Padding { index, id: *id });
        }
        let ids = self.tokenizer.without_special_tokens(ids);
        if ids.is_empty() {
            return Err(InputError::Empty { index });
        }
        match ids.iter().find(|id| !self.tokenizer.is_of_text(**id)) {
            Some(id) => Err(InputError::ForeignToken { index, id: *id }),
            None => Ok(ids),
        }
    }

    /// An input has more tokens than are read of any; `length`: those that were found.
    pub(super) fn too_long(&self, context: &Context<'_>, index: usize, length: usize) -> InputError {
        let limit = context.card.limits.document_tokens_max;
        let (is_counted, unit, remedy) = (false, LengthUnit::Tokens, Remedy::Inputs);
        InputError::TooLong { index, length, is_counted, limit, unit, remedy }
    }

    /// What makes text of tokens, and tokens of text.
    pub(super) fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// One text of a pair, as much of it as a window may hold, all of it counted.
    ///
    /// # Errors
    /// The tokenizer refuses it.
    pub(super) async fn encode_part(
        &self,
        limits: &Limits,
        index: usize,
        text: &str,
        cuts_start: bool,
    ) -> Result<Encoded, InputError> {
        let keep = if cuts_start { Keep::Last(limits.tokens_max) } else { Keep::First(limits.tokens_max) };
        self.encode(index, text, keep, usize::MAX).await
    }

    /// Whether a pair that is too long loses the start of its texts: as the caller says, or the tokenizer.
    pub(super) fn cuts_start(&self, truncation: Truncation) -> bool {
        match truncation {
            Truncation::Start => true,
            Truncation::End => false,
            Truncation::Stride | Truncation::Error => self.tokenizer.cuts_start_of_pairs(),
        }
    }

    /// Adds two texts as one window for the context's model. `own` is what the input itself is; the other is
    /// the call's.
    ///
    /// # Errors
    /// They are too long together and are not to be cut, or the tokenizer joins no pairs.
    pub(super) fn add_pair(
        &mut self,
        context: &Context<'_>,
        index: usize,
        (first, second): (&Encoded, &Encoded),
        own: &Encoded,
        (cut, truncation): (PairCut, Truncation),
    ) -> Result<Reading, InputError> {
        let limits = &context.card.limits;
        let unpaired = || InputError::Parameter {
            name: "model",
            message: "has a tokenizer that joins no two texts".to_owned(),
        };
        let special = self.tokenizer.pair_special_tokens().ok_or_else(unpaired)?;
        let (tokens, limit) = (first.tokens + second.tokens + special, limits.tokens_max);
        if tokens > limit && truncation == Truncation::Error {
            let (is_counted, unit, remedy) = (true, LengthUnit::Tokens, Remedy::Part);
            return Err(InputError::TooLong { index, length: tokens, is_counted, limit, unit, remedy });
        }
        let cut = (cut, self.cuts_start(truncation));
        let sequence =
            self.tokenizer.pair(&first.text.ids, &second.text.ids, cut, limit).ok_or_else(unpaired)?;
        let read = sequence.len();
        let job = self.list.len();
        self.list.push(Job { model: context.model, sequence });
        self.tokens += tokens;
        Ok(Reading {
            windows: std::iter::once(0..read).collect(),
            jobs: job..job + 1,
            tokens,
            truncated: read + first.dropped + second.dropped < tokens,
            unknown: own.unknown,
            is_recognized: self.is_recognized(own),
        })
    }

    /// Says of the first window of an input that so many of its leading tokens are not pooled.
    pub(super) fn leave_unpooled(&mut self, reading: &Reading, tokens: usize) {
        if let Some(job) = self.list.get_mut(reading.jobs.start).filter(|_| !reading.jobs.is_empty()) {
            job.sequence.unpooled = u32::try_from(tokens).unwrap_or(u32::MAX);
        }
    }

    /// Adds the windows of an encoded text, and counts no tokens for it.
    pub(super) fn add(
        &mut self,
        model: ModelId,
        limits: &Limits,
        encoded: &Encoded,
        truncation: Truncation,
    ) -> Reading {
        let special = self.tokenizer.special_tokens_count();
        let capacity = limits.tokens_max.saturating_sub(special).max(1);
        let ids = &encoded.text.ids;
        // `read` has refused what is to be refused.
        let windows =
            windows::cut(ids.len(), capacity, limits.window_overlap, truncation).unwrap_or_default();
        let first = self.list.len();
        for window in &windows {
            let input_ids = self.tokenizer.with_special_tokens(&ids[window.clone()]);
            self.list.push(Job { model, sequence: Sequence::new(input_ids) });
        }
        let read = windows.last().map_or(0, |last| last.end) - windows.first().map_or(0, |first| first.start);
        Reading {
            jobs: first..self.list.len(),
            tokens: encoded.tokens + special,
            truncated: read + encoded.dropped < encoded.tokens,
            unknown: encoded.unknown,
            is_recognized: self.is_recognized(encoded),
            windows,
        }
    }

    /// Whether of what was kept of a text anything is known.
    pub(super) fn is_recognized(&self, encoded: &Encoded) -> bool {
        encoded.text.ids.iter().any(|id| !self.tokenizer.is_unknown(*id))
    }

    /// Counts tokens that [`add`](Self::add) left uncounted.
    pub(super) fn count(&mut self, tokens: usize) {
        self.tokens += tokens;
    }
}

impl Reading {
    /// The result of this input.
    pub(super) fn result(&self, output: Output) -> TaskResult {
        TaskResult {
            output,
            tokens: self.tokens,
            truncated: self.truncated,
            windows: self.windows.len(),
            unknown_tokens: self.unknown,
            nothing_recognized: !self.is_recognized,
        }
    }
}

/// An input is longer than `limit`. `length`: tokens found, and whether these are all.
fn too_long(limits: &Limits, index: usize, (length, is_counted): (usize, bool), limit: usize) -> InputError {
    let longest = limits.document_tokens_max;
    let remedy =
        if length > longest || limit >= longest { Remedy::Part } else { Remedy::Windows { limit: longest } };
    InputError::TooLong { index, length, is_counted, limit, unit: LengthUnit::Tokens, remedy }
}

/// Refuses a text that is nothing to look at, whatever a tokenizer makes of it. Characters that one drops,
/// such as those of private use, are something.
pub(super) fn check_visible(index: usize, text: &str) -> Result<(), InputError> {
    if text.chars().all(char::is_whitespace) {
        return Err(InputError::Empty { index });
    }
    if text.chars().all(|c| is_space(c) || is_invisible(c)) {
        return Err(InputError::Invisible { index });
    }
    Ok(())
}

impl Outputs {
    pub(super) fn new(outputs: Vec<SequenceOutput>) -> Self {
        Self(outputs)
    }

    /// The matrix of one job, of this shape, all finite.
    pub(super) fn matrix(&self, job: usize, rows: usize, columns: usize) -> Result<&[f32], DecodeError> {
        let expected = (rows, columns);
        let Some(output) = self.0.get(job) else {
            return Err(DecodeError::Shape { job, found: (0, 0), expected });
        };
        let found = (output.rows(), output.columns);
        if found != expected || output.values.len() != rows * columns {
            return Err(DecodeError::Shape { job, found, expected });
        }
        if output.values.iter().all(|value| value.is_finite()) {
            Ok(&output.values)
        } else {
            Err(DecodeError::NotFinite { job })
        }
    }

    /// The vector of an input, of length one.
    pub(super) fn unit(&self, reading: &Reading, columns: usize) -> Result<Vec<f32>, DecodeError> {
        let mut vector = self.mean(reading, columns)?;
        normalize(&mut vector);
        Ok(vector)
    }

    /// One vector for an input: the mean of its windows' vectors, weighted by their tokens. For vectors that
    /// are themselves means over tokens this is the mean over all tokens read, those of overlaps counting
    /// twice.
    pub(super) fn mean(&self, reading: &Reading, columns: usize) -> Result<Vec<f32>, DecodeError> {
        // In float64: the sum of large values is beyond float32, their mean is not.
        let mut sum = vec![0.0_f64; columns];
        let mut weights = 0.0_f64;
        for (job, window) in reading.jobs.clone().zip(&reading.windows) {
            let vector = self.matrix(job, 1, columns)?;
            if reading.jobs.len() == 1 {
                return Ok(vector.to_vec());
            }
            let weight = window.len() as f64;
            weights += weight;
            for (sum, value) in sum.iter_mut().zip(vector) {
                *sum += weight * f64::from(*value);
            }
        }
        Ok(sum.into_iter().map(|value| (value / weights.max(1.0)) as f32).collect())
    }
}
