//! Texts beside another one: documents beside a query, sentences beside a sentence. The measure is the cosine
//! of their embeddings, as bi-encoders rank (Reimers and Gurevych, "Sentence-BERT", 2019).

use models_core::tasks::{DecodeError, Input, InputError, Output, Refusals, TaskResult, Truncation};

use super::inputs::{self, Reader, Texts};
use super::math::dot;
use super::prompts::Prompting;
use super::reading::{Jobs, Outputs, Reading, check_visible};
use super::{Context, Decode};

/// What is needed to compare.
struct Compare {
    truncation: Truncation,
    columns: usize,
    /// The parameter that has the text compared with, and the text.
    parameter: &'static str,
    reference: String,
    prompts: Prompting,
    /// How it is read, once an input is.
    reading: Option<Reading>,
}

/// `reference`: the parameter that has the text compared with, and the text. `prompts`: what stands before it
/// and before the inputs.
pub(super) async fn prepare(
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    texts: Texts<'_>,
    (parameter, reference): (&'static str, &str),
    prompts: Prompting,
    truncation: Truncation,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    let wrong = |problem: &str| InputError::Parameter { name: parameter, message: problem.to_owned() };
    if reference.contains('\0') {
        return Err(wrong("contains a NUL character"));
    }
    check_visible(0, reference).map_err(|_| wrong("is empty: give the text to compare with"))?;
    let (columns, reference) = (context.columns, reference.to_owned());
    let compare = Compare { truncation, columns, parameter, reference, prompts, reading: None };
    inputs::read(compare, context, jobs, texts).await
}

impl Reader for Compare {
    type Input = Reading;
    /// The vector compared with, of length one.
    type Shared = Vec<f32>;

    async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> Result<Reading, InputError> {
        self.prompts.inputs.read(context, jobs, index, input, self.truncation).await
    }

    async fn read_shared(&mut self, context: &Context<'_>, jobs: &mut Jobs<'_>) -> Result<(), InputError> {
        let reference = Input::Text(self.reference.clone());
        let read = self.prompts.reference.read(context, jobs, 0, &reference, self.truncation).await;
        let reading = read.map_err(|error| match error {
            InputError::TooLong { length, limit, .. } => {
                let message = format!("has {length} tokens or more, the limit is {limit}");
                InputError::Parameter { name: self.parameter, message }
            }
            _ => InputError::Parameter { name: self.parameter, message: "cannot be tokenized".to_owned() },
        })?;
        self.reading = Some(reading);
        Ok(())
    }

    fn share(&self, outputs: &Outputs) -> Result<Vec<f32>, DecodeError> {
        self.reading.as_ref().map_or_else(|| Ok(Vec::new()), |reading| outputs.unit(reading, self.columns))
    }

    fn decode(
        &self,
        reading: &Reading,
        reference: &Vec<f32>,
        outputs: &Outputs,
    ) -> Result<TaskResult, DecodeError> {
        // Rounding may leave the cosine of equal vectors above one.
        let cosine = dot(&outputs.unit(reading, self.columns)?, reference).clamp(-1.0, 1.0);
        Ok(reading.result(Output::Similarity(cosine)))
    }
}
