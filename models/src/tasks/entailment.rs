//! Labels that a caller brings, scored by a model of natural-language inference: by whether a text entails
//! that the label fits it (Yin et al., "Benchmarking Zero-shot Text Classification", 2019). As the pipeline
//! `zero-shot-classification` of transformers does it: against each other by the softmax of the labels'
//! logits of entailment, one by one by that of entailment and contradiction.

use std::sync::Arc;

use models_core::tasks::{DecodeError, Input, InputError, TaskResult, Truncation};

use super::Context;
use super::best::{Scores, best};
use super::inputs::{self, Reader};
use super::reading::{Jobs, Outputs, Reading};
use crate::tokenizer::{Encoded, PairCut};

/// What is needed to score labels.
pub(super) struct Entailment {
    pub(super) truncation: Truncation,
    pub(super) labels: Vec<Arc<str>>,
    /// What is asked of each text, one for each label.
    pub(super) hypotheses: Vec<Encoded>,
    /// Places of the two classes among the model's own, of which there are `classes`.
    pub(super) entailment: usize,
    pub(super) contradiction: usize,
    pub(super) classes: usize,
    pub(super) top_k: usize,
    pub(super) multi_label: bool,
}

/// A text with each hypothesis.
pub(super) struct Readings(Vec<Reading>);

impl Entailment {
    /// What is asked of each text: the template with each label.
    ///
    /// # Errors
    /// A label cannot be tokenised.
    pub(super) async fn hypotheses(
        context: &Context<'_>,
        jobs: &Jobs<'_>,
        template: &str,
        labels: &[String],
    ) -> Result<Vec<Encoded>, InputError> {
        let mut hypotheses = Vec::with_capacity(labels.len());
        for label in labels {
            let text = template.replace("{label}", label);
            hypotheses.push(jobs.encode_part(&context.card.limits, 0, &text, false).await?);
        }
        Ok(hypotheses)
    }
}

impl Reader for Entailment {
    type Input = Readings;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Readings, InputError> {
        let text = inputs::text(index, input)?;
        let cuts_start = jobs.cuts_start(self.truncation);
        let text = jobs.encode_part(&context.card.limits, index, text, cuts_start).await?;
        let mut readings = Vec::with_capacity(self.hypotheses.len());
        for hypothesis in &self.hypotheses {
            let how = (PairCut::First, self.truncation);
            readings.push(jobs.add_pair(context, index, (&text, hypothesis), &text, how)?);
        }
        Ok(Readings(readings))
    }

    fn decode(&self, input: &Readings, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let mut logits = Vec::with_capacity(input.0.len());
        for reading in &input.0 {
            let classes = outputs.matrix(reading.jobs.start, 1, self.classes)?;
            let entailed = classes[self.entailment];
            // Of two classes the softmax is the sigmoid of their difference.
            logits.push(if self.multi_label { entailed - classes[self.contradiction] } else { entailed });
        }
        let scores = if self.multi_label { Scores::EachByItself } else { Scores::AgainstOthers };
        let output = best(&self.labels, &logits, scores, self.top_k);
        let tokens = input.0.iter().map(|reading| reading.tokens).sum();
        let truncated = input.0.iter().any(|reading| reading.truncated);
        let first = input.0.first().map(|reading| reading.result(output.clone()));
        let windows = input.0.len();
        // There are labels: `check_labels` has seen to it.
        let result = first.ok_or(DecodeError::Count { found: 0, expected: 1 })?;
        Ok(TaskResult { tokens, truncated, windows, ..result })
    }
}
