//! Embeddings: one vector for each text.

use super::math::normalize;
use super::reading::{Jobs, Outputs, Reading};
use super::types::{DecodeError, EmbedParameters, InputError, Output, TaskResult};
use super::{Context, Decode};

/// What is needed to make vectors of outputs.
pub(super) struct Embed {
    readings: Vec<Reading>,
    columns: usize,
    dimensions: usize,
    normalize: bool,
}

pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    inputs: &[String],
    parameters: &EmbedParameters,
) -> Result<Embed, InputError> {
    let columns = context.columns;
    let dimensions = parameters.dimensions.unwrap_or(columns);
    if dimensions == 0 || dimensions > columns {
        let message = format!("must be between 1 and {columns}");
        return Err(InputError::Parameter { name: "dimensions", message });
    }
    let mut readings = Vec::with_capacity(inputs.len());
    for (index, text) in inputs.iter().enumerate() {
        readings.push(jobs.read(&context, index, text, parameters.truncation).await?.1);
    }
    Ok(Embed { readings, columns, dimensions, normalize: parameters.normalize })
}

impl Decode for Embed {
    fn decode(self: Box<Self>, outputs: &Outputs) -> Result<Vec<TaskResult>, DecodeError> {
        let result = |reading: &Reading| {
            let mut vector = outputs.mean(reading, self.columns)?;
            // The leading dimensions of an embedding, as in Matryoshka representation learning (Kusupati et al., 2022); a
            // model not trained for it, such as MiniLM, loses accuracy gracefully.
            vector.truncate(self.dimensions);
            if self.normalize {
                normalize(&mut vector);
            }
            Ok(reading.result(Output::Embedding(vector)))
        };
        self.readings.iter().map(result).collect()
    }
}
