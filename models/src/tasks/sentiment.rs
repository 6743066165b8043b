//! Sentiment: one of a few exclusive labels for each text.

use models_core::tasks::{
    DecodeError, Input, InputError, LabelScore, Output, Refusals, Sentiment, SentimentParameters, TaskResult,
    Truncation,
};
use std::sync::Arc;

use super::inputs::{self, Reader, Texts};
use super::math::{argmax, softmax};
use super::reading::{Jobs, Outputs, Reading};
use super::{Context, Decode};

/// What is needed to make sentiments of outputs.
struct Decoder {
    truncation: Truncation,
    labels: Vec<Arc<str>>,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &SentimentParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let labels = context.card.labels.iter().map(|label| Arc::from(label.as_str())).collect();
    inputs::read(Decoder { truncation: parameters.truncation, labels }, context, jobs, texts).await
}

impl Reader for Decoder {
    type Input = Reading;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Reading, InputError> {
        jobs.read_input(context, index, input, self.truncation).await
    }

    fn decode(&self, reading: &Reading, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let logits = outputs.mean(reading, self.labels.len())?;
        let scores = softmax(&logits);
        let best = argmax(&scores);
        let sentiment = Sentiment {
            label: Arc::clone(&self.labels[best]),
            score: scores[best],
            scores: labelled(&self.labels, &scores, &logits),
        };
        Ok(reading.result(Output::Sentiment(sentiment)))
    }
}

/// Labels with their scores and the logits of these, in order.
pub(super) fn labelled(labels: &[Arc<str>], scores: &[f32], logits: &[f32]) -> Vec<LabelScore> {
    let scored = labels.iter().zip(scores).zip(logits);
    scored
        .map(|((label, score), logit)| LabelScore { label: Arc::clone(label), score: *score, logit: *logit })
        .collect()
}
