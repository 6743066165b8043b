//! Embeddings: one vector for each text.

use models_core::tasks::{
    DecodeError, EmbedParameters, Input, InputError, Output, Refusals, TaskResult, Truncation,
};

use super::inputs::{self, Reader, Texts};
use super::math::normalize;
use super::reading::{Jobs, Outputs, Reading};
use super::{Context, Decode};

/// What is needed to make vectors of outputs.
struct Embed {
    truncation: Truncation,
    columns: usize,
    dimensions: usize,
    normalize: bool,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    parameters: &EmbedParameters,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let columns = context.columns;
    let dimensions = parameters.dimensions.unwrap_or(columns);
    if dimensions == 0 || dimensions > columns {
        let message = format!("must be between 1 and {columns}");
        return Err(InputError::Parameter { name: "dimensions", message });
    }
    let EmbedParameters { truncation, normalize, .. } = *parameters;
    inputs::read(Embed { truncation, columns, dimensions, normalize }, context, jobs, texts).await
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
        jobs.read_input(context, index, input, self.truncation).await
    }

    fn decode(&self, reading: &Reading, (): &(), outputs: &Outputs) -> Result<TaskResult, DecodeError> {
        let mut vector = outputs.mean(reading, self.columns)?;
        // The leading dimensions of an embedding, as in Matryoshka representation learning (Kusupati et al.,
        // 2022); a model not trained for it, such as MiniLM, loses accuracy gracefully.
        vector.truncate(self.dimensions);
        if self.normalize {
            normalize(&mut vector);
        }
        Ok(reading.result(Output::Embedding(vector)))
    }
}
