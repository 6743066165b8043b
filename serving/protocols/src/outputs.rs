//! What was found, for dialects whose answers are made of the same: vectors, classes, scores and ranks.

use api::tasks::{InputError, LabelScore, Output, TaskResult};
use api::{ApiError, InferResponse};

/// The outputs of a response, which are all of one kind.
///
/// # Errors
/// One is of another kind.
pub(crate) fn outputs<T>(
    response: InferResponse,
    of: impl Fn(Output) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let one = |result: Result<TaskResult, InputError>| {
        of(result?.output).ok_or_else(|| ApiError::internal("an output of another task"))
    };
    response.answer.results.into_iter().map(one).collect()
}

/// Vectors.
///
/// # Errors
/// There are others.
pub(crate) fn vectors(response: InferResponse) -> Result<Vec<Vec<f32>>, ApiError> {
    outputs(response, |output| match output {
        Output::Embedding(vector) => Some(vector),
        _ => None,
    })
}

/// Vectors of each token.
///
/// # Errors
/// There are others.
pub(crate) fn token_vectors(response: InferResponse) -> Result<Vec<Vec<Vec<f32>>>, ApiError> {
    outputs(response, |output| match output {
        Output::TokenEmbeddings(vectors) => Some(vectors),
        _ => None,
    })
}

/// Classes, best first; the score is the logit where it `is_raw`.
///
/// # Errors
/// There are others.
pub(crate) fn classes(response: InferResponse, is_raw: bool) -> Result<Vec<Vec<LabelScore>>, ApiError> {
    let mut texts = outputs(response, |output| match output {
        Output::Labels(labels) => Some(labels),
        Output::Sentiment(sentiment) => Some(sentiment.scores),
        _ => None,
    })?;
    for labels in &mut texts {
        if is_raw {
            labels.iter_mut().for_each(|label| label.score = label.logit);
        }
        labels.sort_by(|left, right| right.score.total_cmp(&left.score));
    }
    Ok(texts)
}

/// Numbers.
///
/// # Errors
/// There are others.
pub(crate) fn scores(response: InferResponse) -> Result<Vec<f32>, ApiError> {
    outputs(response, |output| match output {
        Output::Similarity(score) => Some(score),
        _ => None,
    })
}

/// Numbers with what they are of, best first; equals in order.
///
/// # Errors
/// There are others.
pub(crate) fn ranks(response: InferResponse) -> Result<Vec<(usize, f32)>, ApiError> {
    let mut ranks: Vec<_> = scores(response)?.into_iter().enumerate().collect();
    ranks.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    Ok(ranks)
}
