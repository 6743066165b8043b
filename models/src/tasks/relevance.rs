//! Documents scored by a cross-encoder, which reads each together with the query (Nogueira and Cho, "Passage
//! Re-ranking with BERT", 2019). Pairs are joined and cut as the model's tokenizer does it, and a score is
//! what sentence-transformers' `CrossEncoder.predict` gives: the card's function of the one logit.

use models_core::card::ScoreFunction;
use models_core::tasks::{
    DecodeError, Input, InputError, Output, Refusals, RerankParameters, TaskResult, Truncation,
};

use super::inputs::{self, Reader, Texts};
use super::math::sigmoid;
use super::reading::{Jobs, Outputs, Reading, check_visible};
use super::{Context, Decode};
use crate::tokenizer::{Encoded, PairCut};

/// What is needed to score documents.
struct Relevance {
    truncation: Truncation,
    function: ScoreFunction,
    query: Encoded,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &RerankParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let RerankParameters { query, raw_scores, truncation } = parameters;
    let wrong = |problem: &str| InputError::Parameter { name: "query", message: problem.to_owned() };
    if query.contains('\0') {
        return Err(wrong("contains a NUL character"));
    }
    check_visible(0, query).map_err(|_| wrong("is empty: give the text that documents are to answer"))?;
    let cuts_start = jobs.cuts_start(*truncation);
    let query = jobs.encode_part(&context.card.limits, 0, query, cuts_start).await;
    let query = query.map_err(|_| wrong("cannot be tokenized"))?;
    let function = match raw_scores {
        None => context.card.score_function,
        Some(true) => ScoreFunction::Identity,
        Some(false) => ScoreFunction::Sigmoid,
    };
    inputs::read(Relevance { truncation: *truncation, function, query }, context, jobs, texts).await
}

impl Reader for Relevance {
    type Input = Reading;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Reading, InputError> {
        let text = inputs::text(index, input)?;
        let cuts_start = jobs.cuts_start(self.truncation);
        let document = jobs.encode_part(&context.card.limits, index, text, cuts_start).await?;
        let how = (PairCut::Longest, self.truncation);
        jobs.add_pair(context, index, (&self.query, &document), &document, how)
    }

    fn decode(&self, reading: &Reading, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let logit = outputs.matrix(reading.jobs.start, 1, 1)?[0];
        let score = match self.function {
            ScoreFunction::Identity => logit,
            ScoreFunction::Sigmoid | ScoreFunction::Softmax => sigmoid(logit),
        };
        Ok(reading.result(Output::Similarity(score)))
    }
}
