//! Sentiment: one of a few exclusive labels for each text.

use std::sync::Arc;

use super::math::{argmax, softmax};
use super::reading::{Jobs, Outputs, Reading};
use super::types::{DecodeError, InputError, LabelScore, Output, Sentiment, SentimentParameters, TaskResult};
use super::{Context, Decode};

/// What is needed to make sentiments of outputs.
pub(super) struct Decoder {
    readings: Vec<Reading>,
    labels: Vec<Arc<str>>,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    inputs: &[String],
    parameters: &SentimentParameters,
) -> Result<Decoder, InputError> {
    let mut readings = Vec::with_capacity(inputs.len());
    for (index, text) in inputs.iter().enumerate() {
        readings.push(jobs.read(&context, index, text, parameters.truncation).await?.1);
    }
    let labels = context.card.labels.iter().map(|label| Arc::from(label.as_str())).collect();
    Ok(Decoder { readings, labels })
}

impl Decode for Decoder {
    fn decode(self: Box<Self>, outputs: &Outputs) -> Result<Vec<TaskResult>, DecodeError> {
        let result = |reading: &Reading| {
            let scores = softmax(&outputs.mean(reading, self.labels.len())?);
            let best = argmax(&scores);
            let sentiment = Sentiment {
                label: Arc::clone(&self.labels[best]),
                score: scores[best],
                scores: labelled(&self.labels, &scores),
            };
            Ok(reading.result(Output::Sentiment(sentiment)))
        };
        self.readings.iter().map(result).collect()
    }
}

/// Labels with their scores, in order.
pub(super) fn labelled(labels: &[Arc<str>], scores: &[f32]) -> Vec<LabelScore> {
    labels
        .iter()
        .zip(scores)
        .map(|(label, score)| LabelScore { label: Arc::clone(label), score: *score })
        .collect()
}
