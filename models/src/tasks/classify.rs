//! Document classes: the model's own, or the caller's by similarity of embeddings (zero-shot).
//!
//! Zero-shot compares the text's embedding with that of each label put into the card's template, by cosine.
//! Against each other, scores are `softmax(scale * cos)`; by themselves (`multi_label`) they are
//! `sigmoid(scale * (cos - threshold))`, where [`THRESHOLD`] is the cosine at which a label is as likely as
//! not. The model's own classes are scored by themselves as the card says, or not at all. After Yin et al.,
//! "Benchmarking Zero-shot Text Classification" (2019), the label-embedding approach. A card may have labels
//! scored by entailment instead (`entailment`).

use std::collections::HashMap;
use std::sync::Arc;

use models_core::tasks::{
    ClassifyParameters, DecodeError, Input, InputError, Refusals, TaskResult, Truncation,
};
use tokenizers::normalizers::unicode::NFKC;
use tokenizers::{NormalizedString, Normalizer};

use super::best::{Scores, best};
use super::entailment::Entailment;
use super::inputs::{self, Reader, Texts};
use super::math::dot;
use super::reading::{Jobs, Outputs, Reading};
use super::{Context, Decode};
use crate::card::{Calibration, Card, MultiLabel, ScoreFunction, ZeroShotMethod};
use crate::characters::is_invisible;
use crate::tokenizer::Keep;

/// Cosine of a text and a label that fits it about as likely as not, for sentence encoders such as MiniLM.
const THRESHOLD: f32 = 0.2;
/// Most labels a caller may bring.
const LABELS_MAX: usize = 100;
/// Longest label, in codepoints.
const LABEL_LENGTH_MAX: usize = 100;

/// The model's own classes.
struct Trained {
    truncation: Truncation,
    labels: Vec<Arc<str>>,
    top_k: usize,
    scores: Scores,
    /// What logits are put through before they are scored by themselves.
    calibration: Option<Calibration>,
}

/// The caller's classes.
struct ZeroShot {
    truncation: Truncation,
    template: String,
    /// How the labels are read, in their order, once inputs are.
    label_readings: Vec<Reading>,
    labels: Vec<Arc<str>>,
    columns: usize,
    scale: f32,
    top_k: usize,
    multi_label: bool,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &ClassifyParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let ClassifyParameters { truncation, multi_label, .. } = *parameters;
    let Some(labels) = &parameters.labels else {
        let labels: Vec<Arc<str>> =
            context.card.labels.iter().map(|label| Arc::from(label.as_str())).collect();
        let top_k = top_k(parameters.top_k, labels.len())?;
        let (scores, calibration) = scores(context.card, multi_label)?;
        let trained = Trained { truncation, labels, top_k, scores, calibration };
        return inputs::read(trained, context, jobs, texts).await;
    };
    let refuse = || wrong_labels("this model does not take labels of the caller's");
    let zero_shot = context.card.zero_shot.as_ref().ok_or_else(refuse)?;
    check_labels(labels, multi_label)?;
    let top_k = top_k(parameters.top_k, labels.len())?;
    let scale = match zero_shot.method {
        ZeroShotMethod::Similarity { scale, .. } => scale,
        ZeroShotMethod::Entailment { entailment, contradiction } => {
            check_pairs(labels.len(), texts.texts.len(), context.card.limits.inputs_max)?;
            let hypotheses = Entailment::hypotheses(&context, jobs, &zero_shot.template, labels).await?;
            let classes = context.card.labels.len();
            let labels = labels.iter().map(|label| Arc::from(label.as_str())).collect();
            let entailment = Entailment {
                truncation,
                labels,
                hypotheses,
                entailment,
                contradiction,
                classes,
                top_k,
                multi_label,
            };
            return inputs::read(entailment, context, jobs, texts).await;
        }
    };
    let (model, card, columns) = context.zero_shot.ok_or_else(refuse)?;
    let context = Context { card, model, ..context };
    let zero_shot = ZeroShot {
        truncation,
        template: zero_shot.template.clone(),
        label_readings: Vec::with_capacity(labels.len()),
        labels: labels.iter().map(|label| Arc::from(label.as_str())).collect(),
        columns,
        scale,
        top_k,
        multi_label,
    };
    inputs::read(zero_shot, context, jobs, texts).await
}

impl Reader for Trained {
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
        let logits = match &self.calibration {
            Some(Calibration { weights, biases }) => {
                weights.iter().zip(biases).map(|(row, bias)| dot(row, &logits) + bias).collect()
            }
            None => logits,
        };
        Ok(reading.result(best(&self.labels, &logits, self.scores, self.top_k)))
    }
}

/// How the model's own classes are scored: as its card says, or by themselves where the caller asks for it.
fn scores(card: &Card, multi_label: bool) -> Result<(Scores, Option<Calibration>), InputError> {
    match (card.score_function, &card.multi_label) {
        (ScoreFunction::Identity, _) => Ok((Scores::Raw, None)),
        (ScoreFunction::Sigmoid, _) => Ok((Scores::EachByItself, None)),
        (ScoreFunction::Softmax, _) if !multi_label => Ok((Scores::AgainstOthers, None)),
        (ScoreFunction::Softmax, Some(MultiLabel::Independent)) => Ok((Scores::EachByItself, None)),
        (ScoreFunction::Softmax, Some(MultiLabel::Calibrated(calibration))) => {
            Ok((Scores::EachByItself, Some(calibration.clone())))
        }
        (ScoreFunction::Softmax, None) => {
            let reason = "this model's classes exclude each other, and their scores one by one would be no probabilities";
            let instead = match card.zero_shot {
                Some(_) => "; labels of your own (parameters.labels) are scored one by one",
                None => "",
            };
            Err(InputError::Parameter { name: "multi_label", message: format!("{reason}{instead}") })
        }
    }
}

impl Reader for ZeroShot {
    type Input = Reading;
    /// The vectors of the labels.
    type Shared = Vec<Vec<f32>>;

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Reading, InputError> {
        jobs.read_input(context, index, input, self.truncation).await
    }

    async fn read_shared(&mut self, context: &Context<'_>, jobs: &mut Jobs<'_>) -> Result<(), InputError> {
        let limits = &context.card.limits;
        let mut seen = HashMap::new();
        for (place, label) in self.labels.iter().enumerate() {
            let alone = jobs.encode(0, label, Keep::First(limits.tokens_max), usize::MAX).await?;
            if !jobs.is_recognized(&alone) {
                return Err(wrong_labels(&format!("label {place} has nothing that the model knows")));
            }
            let text = self.template.replace("{label}", label);
            let encoded = jobs.encode(0, &text, Keep::First(limits.tokens_max), usize::MAX).await?;
            // The same tokens are the same vector: accents that the model does not know, or symbols of which
            // it knows none.
            if let Some(first) = seen.insert(encoded.text.ids.clone(), place) {
                let fault = "the model reads both as the same tokens";
                return Err(wrong_labels(&format!(
                    "label {place} cannot be told from label {first}: {fault}"
                )));
            }
            let reading = jobs.add(context.model, limits, &encoded, Truncation::End);
            // Each label is computed once for all inputs, and counted as often.
            jobs.count(reading.tokens);
            self.label_readings.push(reading);
        }
        Ok(())
    }

    fn share(&self, outputs: &Outputs) -> Result<Vec<Vec<f32>>, DecodeError> {
        self.label_readings.iter().map(|reading| outputs.unit(reading, self.columns)).collect()
    }

    fn decode(
        &self,
        reading: &Reading,
        labels: &Vec<Vec<f32>>,
        outputs: &Outputs,
    ) -> Result<TaskResult, DecodeError> {
        let text = outputs.unit(reading, self.columns)?;
        let cosines = labels.iter().map(|label| dot(&text, label));
        let threshold = if self.multi_label { THRESHOLD } else { 0.0 };
        let logits: Vec<f32> = cosines.map(|cosine| self.scale * (cosine - threshold)).collect();
        let scores = if self.multi_label { Scores::EachByItself } else { Scores::AgainstOthers };
        Ok(reading.result(best(&self.labels, &logits, scores, self.top_k)))
    }
}

fn top_k(asked: Option<usize>, labels: usize) -> Result<usize, InputError> {
    match asked {
        None => Ok(labels),
        Some(k) if (1..=labels).contains(&k) => Ok(k),
        Some(_) => {
            let message = format!("must be between 1 and {labels}, the number of labels");
            Err(InputError::Parameter { name: "top_k", message })
        }
    }
}

fn check_labels(labels: &[String], multi_label: bool) -> Result<(), InputError> {
    let least = if multi_label { 1 } else { 2 };
    if labels.len() < least || labels.len() > LABELS_MAX {
        return Err(wrong_labels(&format!("must be {least} to {LABELS_MAX} labels")));
    }
    let mut seen = HashMap::new();
    for (index, label) in labels.iter().enumerate() {
        let fault = if label.chars().take(LABEL_LENGTH_MAX + 1).count() > LABEL_LENGTH_MAX {
            format!("is longer than {LABEL_LENGTH_MAX} characters")
        } else if label.contains('\0') {
            "contains a NUL character".to_owned()
        } else {
            let shown = shown(label);
            if shown.is_empty() {
                "is empty".to_owned()
            } else if let Some(first) = seen.insert(shown, index) {
                format!(
                    "cannot be told from label {first}: case, white space and invisible characters do not count"
                )
            } else {
                continue;
            }
        };
        return Err(wrong_labels(&format!("label {index} {fault}")));
    }
    Ok(())
}

/// Each input is read with each label: together they are as many as a call may have inputs, and one input may
/// have as many labels as there may be.
fn check_pairs(labels: usize, inputs: usize, inputs_max: usize) -> Result<(), InputError> {
    let (pairs, limit) = (labels.saturating_mul(inputs), inputs_max.max(LABELS_MAX));
    if pairs <= limit {
        return Ok(());
    }
    Err(wrong_labels(&format!(
        "{labels} labels for {inputs} inputs are {pairs} pairs of texts, the limit of this model is {limit}: send fewer \
         inputs at once"
    )))
}

/// A label as it is told from others: compatible characters as one (NFKC), without case, white space at its
/// ends and characters that are not seen.
fn shown(label: &str) -> String {
    let mut composed = NormalizedString::from(label);
    // It fails for no text; if it did, the label would count as it is.
    let _ = NFKC.normalize(&mut composed);
    let seen: String = composed.get().chars().filter(|c| !is_invisible(*c)).collect();
    // Upper case first: "ß" is "SS".
    let folded = seen.to_uppercase().to_lowercase();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn wrong_labels(message: &str) -> InputError {
    InputError::Parameter { name: "labels", message: message.to_owned() }
}
