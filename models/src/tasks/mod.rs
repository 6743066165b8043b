//! The tasks: from texts to jobs for the scheduler, and from tensors to answers.
//!
//! [`prepare`] checks a request's inputs, tokenises them and cuts them into windows, each one [`Job`]. The
//! jobs run wherever the scheduler puts them; [`Prepared::decode`] takes their outputs back, in the same
//! order, and merges windows into one result for each input. Each task is a file with those two halves.

mod best;
mod classify;
mod code;
mod compare;
mod embed;
mod entailment;
mod entities;
mod inputs;
mod lines;
mod math;
mod matter;
mod names;
mod offsets;
mod prompts;
mod reading;
mod relevance;
mod sentiment;
mod summarize;
mod tags;
mod tokens;
mod wording;

pub use models_core::tasks::{
    Aggregation, Answer, ClassifyParameters, DecodeError, DetokenizeParameters, EmbedParameters,
    EmbedTokensParameters, EntitiesParameters, Entity, Input, InputError, LabelScore, LengthUnit, OffsetUnit,
    OnError, Operation, Output, Parameters, Refusals, Remedy, RerankParameters, Sentiment,
    SentimentParameters, SimilarityParameters, SummarizeParameters, Summary, SummaryMethod, SummarySentence,
    TaskRequest, TaskResult, Token, TokenizeParameters, Truncation,
};

use units::ModelId;

use crate::batch::{Sequence, SequenceOutput};
use crate::card::{Card, Task};
use crate::pool::Pace;
use crate::tokenizer::TextTokenizer;
use inputs::Texts;
use prompts::Prompting;
use reading::{Jobs, Outputs};

/// What [`prepare`] needs to know of the model.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The model's card.
    pub card: &'a Card,
    pub model: ModelId,
    pub tokenizer: &'a TextTokenizer,
    /// Columns of its output: hidden size or number of classes.
    pub columns: usize,
    /// Whether its runtime gives vectors of single tokens.
    pub gives_tokens: bool,
    /// The embedding model that scores labels the caller brings, with the same tokenizer, and its output's
    /// columns.
    pub zero_shot: Option<(ModelId, &'a Card, usize)>,
}

/// One sequence to compute, with the model that is to compute it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The model; not always the one asked for: zero-shot classes are found by an embedding model.
    pub model: ModelId,
    /// The window, special tokens included.
    pub sequence: Sequence,
}

/// A request between tokenising and decoding.
pub struct Prepared {
    jobs: Vec<Job>,
    expected: usize,
    inputs: usize,
    refusals: Refusals,
    tokens: usize,
    task: Box<dyn Decode>,
}

/// The second half of a task: holds whatever of the request it needs to make the answer.
trait Decode: Send {
    /// One result for each input, in order, or why there is none.
    fn decode(self: Box<Self>, outputs: &Outputs)
    -> Result<Vec<Result<TaskResult, InputError>>, DecodeError>;
}

/// Checks the inputs of a request and cuts them into jobs, in turns as `pace` says.
///
/// # Errors
/// See [`InputError`]; the message names the input by index and never quotes it. With [`OnError::Partial`]
/// what is wrong with one input is no error, but that input's result.
pub async fn prepare(
    context: Context<'_>,
    request: &TaskRequest,
    pace: &Pace,
) -> Result<Prepared, InputError> {
    let TaskRequest { inputs, parameters, on_error, inputs_max } = request;
    check(inputs, inputs_max.unwrap_or(context.card.limits.inputs_max))?;
    let asked = match parameters {
        Parameters::Embed(parameters) => parameters.normalize_text,
        _ => None,
    };
    // Labels that a caller brings are read by another model, in the way of this one.
    let is_normalizing = asked.unwrap_or(context.card.normalize_text);
    let mut jobs = Jobs::new(context.tokenizer.normalizing(is_normalizing), pace);
    let texts = Texts { texts: inputs, on_error: *on_error };
    let (task, refusals) = match parameters {
        Parameters::Classify(p) => classify::prepare(context, &mut jobs, texts, p).await?,
        Parameters::Sentiment(p) => sentiment::prepare(context, &mut jobs, texts, p).await?,
        Parameters::Entities(p) => entities::prepare(context, &mut jobs, texts, p).await?,
        Parameters::Summarize(p) => summarize::prepare(context, &mut jobs, texts, p).await?,
        Parameters::Embed(p) => embed::prepare(context, &mut jobs, texts, p).await?,
        Parameters::EmbedTokens(p) => embed::prepare_tokens(context, &mut jobs, texts, p).await?,
        Parameters::Rerank(p) if context.card.task == Task::Rerank => {
            relevance::prepare(context, &mut jobs, texts, p).await?
        }
        Parameters::Rerank(p) => {
            let prompts = Prompting::of_search(context.card);
            compare::prepare(context, &mut jobs, texts, ("query", &p.query), prompts, p.truncation).await?
        }
        Parameters::Similarity(p) => {
            let prompts = Prompting::of_likeness(context.card);
            let reference = ("reference", p.reference.as_str());
            compare::prepare(context, &mut jobs, texts, reference, prompts, p.truncation).await?
        }
        Parameters::Tokenize(p) => tokens::tokenize(context, &mut jobs, texts, p).await?,
        Parameters::Detokenize(p) => tokens::detokenize(context, &mut jobs, texts, p).await?,
    };
    let (jobs, tokens) = jobs.finish();
    let inputs = inputs.len() - refusals.count();
    Ok(Prepared { expected: jobs.len(), jobs, inputs, refusals, tokens, task })
}

impl Prepared {
    /// Takes the jobs out, to be run in any order.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// Tokens of the inputs to compute, special tokens included, each counted once however many windows
    /// overlap.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Inputs to compute.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Inputs that have an error in the place of a result.
    pub fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// Sequences that the texts were made into, whether they were taken out or not.
    pub fn sequences(&self) -> usize {
        self.expected
    }

    /// Makes the answer of the outputs, one for each job, in the order of the jobs.
    ///
    /// # Errors
    /// Outputs that are not what the model's head should give.
    pub fn decode(self, outputs: Vec<SequenceOutput>) -> Result<Answer, DecodeError> {
        if outputs.len() != self.expected {
            return Err(DecodeError::Count { found: outputs.len(), expected: self.expected });
        }
        let results = self.task.decode(&Outputs::new(outputs))?;
        Ok(Answer { results })
    }
}

fn check(inputs: &[Input], limit: usize) -> Result<(), InputError> {
    if inputs.is_empty() {
        return Err(InputError::None);
    }
    if inputs.len() > limit {
        return Err(InputError::TooMany { inputs: inputs.len(), limit });
    }
    Ok(())
}
