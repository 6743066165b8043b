//! What every runtime looks at before and after it computes a batch.

use super::error::RuntimeError;
use crate::batch::{HostTensor, TokenBatch};
use crate::card::Card;
use crate::kinds::Unsupported;
use crate::spec::EncoderSpec;
use crate::weights::HeadWeights;

/// Refuses a batch that would read outside an encoder's embedding tables.
///
/// # Errors
/// Names the sequence or token that does not fit.
pub fn check_batch(spec: &EncoderSpec, batch: &TokenBatch) -> Result<(), RuntimeError> {
    let tokens = batch.input_ids.len();
    let is_whole = batch.cu_seqlens.first() == Some(&0)
        && batch.cu_seqlens.last().is_some_and(|&end| end as usize == tokens)
        && batch.cu_seqlens.is_sorted();
    if !is_whole || batch.position_ids.len() != tokens {
        return Err(RuntimeError::MalformedBatch("cu_seqlens and position_ids must cover the tokens"));
    }
    if !matches!(batch.token_type_ids.len(), length if length == 0 || length == tokens) {
        return Err(RuntimeError::MalformedBatch("token_type_ids must cover the tokens, or be none"));
    }
    if batch.sequences() == 0 {
        return Err(RuntimeError::MalformedBatch("no sequence"));
    }
    let limit = spec.max_position_embeddings;
    for (index, range) in batch.ranges().enumerate() {
        if range.is_empty() {
            return Err(RuntimeError::EmptySequence { index });
        }
        let position_last = batch.position_ids[range.clone()].iter().max().map_or(0, |&last| last as usize);
        let length = range.len().max(position_last + 1);
        if length > limit {
            return Err(RuntimeError::TooLong { index, length, limit });
        }
    }
    let vocabulary = spec.vocab_size;
    match batch.input_ids.iter().find(|&&id| id as usize >= vocabulary) {
        Some(&id) => Err(RuntimeError::UnknownToken { id, vocabulary }),
        None => Ok(()),
    }
}

/// Refuses a result with a value that is not a number.
///
/// # Errors
/// When there is one.
pub fn check_finite(result: &HostTensor) -> Result<(), RuntimeError> {
    if result.data.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(RuntimeError::NotFinite) }
}

/// Refuses models that a runtime without segments, with means and a hidden layer with tanh alone, cannot
/// compute.
///
/// # Errors
/// Names what it has no code for.
pub fn check_plain(card: &Card, head: &HeadWeights) -> Result<(), Unsupported> {
    head.as_plain()?;
    if card.reads_pairs() {
        return Err(Unsupported::new("task", "of pairs of texts", &["tasks of one text"]));
    }
    if card.head.pooling().is_some_and(|head| !head.includes_prompt) {
        return Err(Unsupported::new("include_prompt", false, &[true]));
    }
    Ok(())
}

/// Refuses a batch of pairs, for runtimes that read none.
///
/// # Errors
/// There is a pair.
pub fn check_unpaired(batch: &TokenBatch) -> Result<(), RuntimeError> {
    if batch.has_pairs() {
        return Err(RuntimeError::MalformedBatch("pairs of texts are not computed by this runtime"));
    }
    Ok(())
}
