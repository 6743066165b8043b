//! Embeddings: one vector for each text, or for each of its tokens.

use models_core::tasks::{
    DecodeError, EmbedParameters, EmbedTokensParameters, Input, InputError, Output, Refusals, TaskResult,
    Truncation,
};

use super::inputs::{self, Reader, Texts};
use super::math::normalize;
use super::prompts::Prompt;
use super::reading::{Jobs, Outputs, Reading};
use super::{Context, Decode};

/// What is needed to make vectors of outputs.
struct Embed {
    truncation: Truncation,
    columns: usize,
    dimensions: usize,
    normalize: bool,
    prompt: Prompt,
}

/// The same for each token.
struct EmbedTokens {
    embed: Embed,
    vectors_max: usize,
}

/// An input of which each token has a vector.
struct TokenReading {
    reading: Reading,
    /// Tokens that are read, special tokens included.
    rows: usize,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &EmbedParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let (columns, dimensions) = (context.columns, dimensions(&context, parameters.dimensions)?);
    let prompt = Prompt::named(context.card, parameters.prompt_name.as_deref())?;
    let EmbedParameters { truncation, normalize, .. } = *parameters;
    inputs::read(Embed { truncation, columns, dimensions, normalize, prompt }, context, jobs, texts).await
}

/// The same for a vector of each token, which its runtime must give.
pub(super) async fn prepare_tokens(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &EmbedTokensParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let wrong = |name, problem: &str| Err(InputError::Parameter { name, message: problem.to_owned() });
    if !context.gives_tokens {
        return wrong("model", "gives no vectors of single tokens: its runtime or its head has none");
    }
    let (columns, dimensions) = (context.columns, dimensions(&context, parameters.dimensions)?);
    let EmbedTokensParameters { truncation, normalize, vectors_max, .. } = *parameters;
    if truncation == Truncation::Stride {
        return wrong("truncation", "cannot be stride: vectors of single tokens are of one window");
    }
    let prompt = Prompt::named(context.card, parameters.prompt_name.as_deref())?;
    let embed = Embed { truncation, columns, dimensions, normalize, prompt };
    inputs::read(EmbedTokens { embed, vectors_max }, context, jobs, texts).await
}

/// Leading dimensions that are kept.
fn dimensions(context: &Context<'_>, asked: Option<usize>) -> Result<usize, InputError> {
    let columns = context.columns;
    let dimensions = asked.unwrap_or(columns);
    if dimensions == 0 || dimensions > columns {
        let message = format!("must be between 1 and {columns}");
        return Err(InputError::Parameter { name: "dimensions", message });
    }
    Ok(dimensions)
}

impl Reader for Embed {
    type Input = Reading;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Reading, InputError> {
        self.prompt.read(context, jobs, index, input, self.truncation).await
    }

    fn decode(&self, reading: &Reading, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let vector = self.finish(outputs.mean(reading, self.columns)?);
        Ok(reading.result(Output::Embedding(vector)))
    }
}

impl Embed {
    fn finish(&self, mut vector: Vec<f32>) -> Vec<f32> {
        // The leading dimensions of an embedding, as in Matryoshka representation learning (Kusupati et al.,
        // 2022); a model not trained for it, such as MiniLM, loses accuracy gracefully.
        vector.truncate(self.dimensions);
        if self.normalize {
            normalize(&mut vector);
        }
        vector
    }
}

impl Reader for EmbedTokens {
    type Input = TokenReading;
    type Shared = ();

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<TokenReading, InputError> {
        let reading = self.embed.prompt.read(context, jobs, index, input, self.embed.truncation).await?;
        let rows = jobs.want_tokens(&reading, self.vectors_max)?;
        Ok(TokenReading { reading, rows })
    }

    fn decode(&self, input: &TokenReading, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let (TokenReading { reading, rows }, columns) = (input, self.embed.columns);
        let values = outputs.matrix(reading.jobs.start, *rows, columns)?;
        let vectors = values.chunks_exact(columns.max(1)).map(|row| self.embed.finish(row.to_vec()));
        Ok(reading.result(Output::TokenEmbeddings(vectors.collect())))
    }
}
