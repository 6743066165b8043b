//! Computing the probes, and comparing.

use batching::Executor;
use models_core::card::{Head, Task};
use models_core::{Dtype, SequenceOutput};

use super::super::{Catalog, ModelEntry};
use crate::certificate::{Answered, Difference, PROBES, partner};
use crate::executor::DeviceExecutor;
use crate::tasks::{
    ClassifyParameters, EmbedParameters, EntitiesParameters, Input, Job, Parameters, RerankParameters,
    SentimentParameters, Truncation,
};

/// Probes that are computed together: some, so that company is compared as well.
const TOGETHER: usize = 8;
/// Of float32 to the authors' float32.
const FLOAT32_TOLERANCE: f32 = 1e-4;
/// Of numbers with 8 or 11 bits, through all layers of an encoder; the cosine of vectors is then at least
/// 0.9999.
const HALF_TOLERANCE: f32 = 0.05;
const COSINE_MIN: f32 = 0.9999;

/// Compares a loaded model with what the authors' library answered.
///
/// # Errors
/// It answers something else, or cannot be asked: says which probe, and how far it is.
pub(super) fn compare(
    catalog: &Catalog,
    entry: &ModelEntry,
    executor: &mut DeviceExecutor,
    answers: &[Answered],
) -> Result<Difference, String> {
    let mut difference = Difference { worst: 0.0, compared: 0 };
    let mut waiting = Vec::new();
    for (probe, expected) in answers.iter().enumerate().take(PROBES.len()) {
        // A text that is longer than a window of the authors' has no answer.
        if !expected.rows.is_empty()
            && let Some(job) = job(catalog, entry, probe)?
        {
            if job.sequence.input_ids != expected.ids {
                let (found, expected) = (job.sequence.input_ids.len(), expected.ids.len());
                return Err(format!(
                    "probe {probe}: it reads other tokens than the authors' ({found}, not {expected})"
                ));
            }
            waiting.push((probe, job));
        }
        if waiting.len() == TOGETHER || probe + 1 == answers.len().min(PROBES.len()) {
            let sequences: Vec<_> = waiting.iter().map(|(_, job)| job.sequence.clone()).collect();
            let outputs = executor.execute(entry.id, &sequences).map_err(|error| error.source.to_string())?;
            for ((probe, _), output) in waiting.drain(..).zip(outputs) {
                let far = far(entry, &output, &answers[probe].rows);
                let far = far.map_err(|reason| format!("probe {probe}: {reason}"))?;
                difference.worst = difference.worst.max(far);
                difference.compared += 1;
            }
        }
    }
    if difference.compared == 0 {
        return Err("no probe fits into a window of it".to_owned());
    }
    Ok(difference)
}

/// What a model computes for a probe; nothing if it is longer than a window.
fn job(catalog: &Catalog, entry: &ModelEntry, probe: usize) -> Result<Option<Job>, String> {
    let text = PROBES.get(probe).copied().unwrap_or_default();
    let truncation = Truncation::Error;
    let parameters = match entry.card.task {
        Task::Classify => Parameters::Classify(ClassifyParameters { truncation, ..Default::default() }),
        Task::Sentiment => Parameters::Sentiment(SentimentParameters { truncation }),
        Task::Entities => Parameters::Entities(EntitiesParameters { truncation, ..Default::default() }),
        Task::Embed => Parameters::Embed(EmbedParameters {
            truncation,
            // As the authors' tokenizer reads it.
            normalize_text: Some(false),
            ..Default::default()
        }),
        Task::Rerank => Parameters::Rerank(RerankParameters {
            truncation,
            query: PROBES[partner(probe)].to_owned(),
            ..Default::default()
        }),
        Task::Summarize => return Err("summaries are not compared".to_owned()),
    };
    let Ok(mut prepared) = catalog.prepare(entry.id, &[Input::from(text)], &parameters) else {
        return Ok(None);
    };
    let mut jobs = prepared.take_jobs();
    let is_alone = jobs.len() == 1 && jobs.iter().all(|job: &Job| job.model == entry.id);
    Ok(jobs.pop().filter(|_| is_alone))
}

/// How far an answer is from the authors', if that is near enough.
fn far(entry: &ModelEntry, output: &SequenceOutput, expected: &[Vec<f32>]) -> Result<f32, String> {
    let columns = output.columns.max(1);
    let rows: Vec<&[f32]> = output.values.chunks(columns).collect();
    if rows.len() != expected.len() || expected.iter().any(|row| row.len() != columns) {
        let (rows, others) = (rows.len(), expected.len());
        return Err(format!(
            "{rows} x {columns} numbers, the authors' library gives {others} rows of others"
        ));
    }
    let is_vector = matches!(entry.card.head, Head::Pooling(_));
    let is_float32 = entry.card.dtype == Dtype::Float32;
    let tolerance = if is_float32 { FLOAT32_TOLERANCE } else { HALF_TOLERANCE };
    let mut worst: f32 = 0.0;
    for (row, expected) in rows.iter().zip(expected) {
        let far = match is_vector {
            true => apart(&unit(row), &unit(expected)),
            false => {
                apart(row, expected) / expected.iter().fold(1.0, |most: f32, value| most.max(value.abs()))
            }
        };
        if far.is_nan() || far > tolerance {
            return Err(format!("it is {far:e} from the authors' answer, and may be {tolerance:e}"));
        }
        let cosine: f32 = unit(row).iter().zip(unit(expected)).map(|(left, right)| left * right).sum();
        if is_vector && cosine < COSINE_MIN {
            return Err(format!(
                "its vector has a cosine of {cosine} to the authors', and may have {COSINE_MIN}"
            ));
        }
        worst = worst.max(far);
    }
    Ok(worst)
}

/// The largest difference; not a number where one of them is none.
fn apart(left: &[f32], right: &[f32]) -> f32 {
    let each = left.iter().zip(right).map(|(left, right)| (left - right).abs());
    each.fold(0.0, |most: f32, one| if one.is_nan() || one > most { one } else { most })
}

/// A vector scaled to length one.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|value| (f64::from(*value) * scale) as f32).collect()
}
