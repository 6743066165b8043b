//! `POST /invocations`: what the model is for, in the form of the servers that are deployed so.

use api::{ApiError, InferRequest, InferResponse, Operation, Task};
use axum::body::Bytes;
use axum::http::request::Parts;

use super::Containers;
use crate::http::dialect::{Answer, Shape};
use crate::http::outline::Outline;
use crate::http::target::Target;
use crate::http::words::Words;
use crate::huggingface::{Pipeline, PipelineTask};
use crate::tei::rest::Root;

/// `POST /invocations`.
pub(super) struct Invocation(pub(super) Target);

/// How the answer is written.
pub(super) enum Rendering {
    /// As text-embeddings-inference does.
    Tei(<Root as Shape>::Rendering),
    /// As Hugging Face's containers do, of tasks that the other does not have.
    HuggingFace(<Pipeline as Shape>::Rendering),
}

impl Shape for Invocation {
    type Dialect = Containers;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        None
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self(target) = self;
        if Outline::of(body)?.has_labels() {
            let task = Some(PipelineTask::ZeroShotClassification);
            let (request, rendering) = Pipeline { target, task }.read(head, body)?;
            return Ok((request, Rendering::HuggingFace(rendering)));
        }
        let task = match &target.name {
            Some(_) => Some(target.model(&[])?.task),
            None => None,
        };
        if matches!(task, Some(Task::Entities | Task::Summarize)) {
            let (request, rendering) = Pipeline { target, task: None }.read(head, body)?;
            return Ok((request, Rendering::HuggingFace(rendering)));
        }
        let (request, rendering) = Root(target).read(head, body)?;
        Ok((request, Rendering::Tei(rendering)))
    }

    fn words(rendering: &Rendering) -> Option<Words> {
        match rendering {
            Rendering::Tei(rendering) => Root::words(rendering),
            Rendering::HuggingFace(rendering) => Pipeline::words(rendering),
        }
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        match rendering {
            Rendering::Tei(rendering) => Root::write(response, rendering),
            Rendering::HuggingFace(rendering) => Pipeline::write(response, rendering),
        }
    }
}
