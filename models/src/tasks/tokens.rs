//! Texts as the model's tokens, and back. Nothing is computed for it.

use models_core::tasks::{
    DecodeError, DetokenizeParameters, Input, InputError, Output, Refusals, TaskResult, Token,
    TokenizeParameters,
};

use super::inputs::{self, Reader, Texts};
use super::offsets::Offsets;
use super::reading::{Jobs, Outputs};
use super::{Context, Decode};
use crate::tokenizer::{EncodedText, Keep, TextTokenizer};

struct Tokenize(TokenizeParameters);

struct Detokenize {
    skip_special_tokens: bool,
}

pub(super) async fn tokenize(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &TokenizeParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    inputs::read(Tokenize(parameters.clone()), context, jobs, texts).await
}

pub(super) async fn detokenize(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &DetokenizeParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let DetokenizeParameters { skip_special_tokens } = *parameters;
    inputs::read(Detokenize { skip_special_tokens }, context, jobs, texts).await
}

impl Reader for Tokenize {
    type Input = TaskResult;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<TaskResult, InputError> {
        let text = inputs::text(index, input)?;
        jobs.check_length(context, index, text).await?;
        let limit = context.card.limits.document_tokens_max;
        let encoded = jobs.encode(index, text, Keep::All, limit).await?;
        if !encoded.is_whole {
            return Err(jobs.too_long(context, index, encoded.tokens));
        }
        let tokens = self.tokens(jobs.tokenizer(), text, &encoded.text);
        jobs.count(tokens.len());
        Ok(TaskResult {
            tokens: tokens.len(),
            output: Output::Tokens(tokens),
            truncated: false,
            windows: 0,
            unknown_tokens: encoded.unknown,
            nothing_recognized: !jobs.is_recognized(&encoded),
        })
    }

    fn decode(&self, result: &TaskResult, (): &(), _: &Outputs) -> Result<TaskResult, DecodeError> {
        Ok(result.clone())
    }
}

impl Tokenize {
    fn tokens(&self, tokenizer: &TextTokenizer, text: &str, encoded: &EncodedText) -> Vec<Token> {
        let mut offsets = Offsets::new(text, self.0.offset_unit);
        let shown = |id: u32| tokenizer.token(id).unwrap_or_default();
        let special = |id: &u32| Token { id: *id, text: shown(*id), is_special: true, span: None };
        let read = encoded.ids.iter().zip(&encoded.offsets).map(|(id, (start, end))| Token {
            id: *id,
            text: shown(*id),
            is_special: false,
            span: Some((offsets.convert(*start), offsets.convert(*end))),
        });
        let (before, after) = match self.0.add_special_tokens {
            true => tokenizer.special_tokens(),
            false => (&[][..], &[][..]),
        };
        before.iter().map(special).chain(read).chain(after.iter().map(special)).collect()
    }
}

impl Reader for Detokenize {
    type Input = TaskResult;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<TaskResult, InputError> {
        let ids = inputs::tokens(index, input)?;
        let limit = context.card.limits.document_tokens_max;
        if ids.len() > limit {
            return Err(jobs.too_long(context, index, ids.len()));
        }
        jobs.pace().spend(size_of_val(ids)).await;
        let tokenizer = jobs.tokenizer();
        if let Some(id) = ids.iter().find(|id| tokenizer.token(**id).is_none()) {
            return Err(InputError::ForeignToken { index, id: *id });
        }
        let text = tokenizer.decode(ids, self.skip_special_tokens);
        let text = text.map_err(|_| InputError::Tokenize { index })?;
        let unknown_tokens = ids.iter().filter(|id| tokenizer.is_unknown(**id)).count();
        jobs.count(ids.len());
        Ok(TaskResult {
            output: Output::Text(text),
            tokens: ids.len(),
            truncated: false,
            windows: 0,
            unknown_tokens,
            nothing_recognized: unknown_tokens == ids.len(),
        })
    }

    fn decode(&self, result: &TaskResult, (): &(), _: &Outputs) -> Result<TaskResult, DecodeError> {
        Ok(result.clone())
    }
}
