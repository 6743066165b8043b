//! `POST /`: what the server is for. The dialect's own server has one model; here the body says which of them
//! is meant where its form does: a query with texts, a sentence beside others, or else texts to embed.

use api::{ApiError, InferRequest, InferResponse, Operation, Task};
use axum::body::Bytes;
use axum::http::request::Parts;

use super::super::errors::Tei;
use super::{Embed, Predict, Rerank, Similarity, Targeted};
use crate::http::dialect::{Answer, Shape};
use crate::http::outline::Outline;
use crate::http::target::Target;
use crate::http::words::Words;

/// `POST /`.
pub struct Root(pub Target);

/// How the answer is written: as that of the route of its name.
pub enum Rooted {
    /// `/embed`
    Embed(<Embed as Shape>::Rendering),
    /// `/predict`
    Predict(<Predict as Shape>::Rendering),
    /// `/rerank`
    Rerank(<Rerank as Shape>::Rendering),
    /// `/similarity`
    Similarity(<Similarity as Shape>::Rendering),
}

impl Targeted for Root {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Shape for Root {
    type Dialect = Tei;
    type Rendering = Rooted;

    fn operation(&self) -> Option<Operation> {
        None
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rooted), ApiError> {
        let (outline, target) = (Outline::of(body)?, self.0);
        if outline.has_texts() {
            let (request, rendering) = Rerank(target).read(head, body)?;
            return Ok((request, Rooted::Rerank(rendering)));
        }
        if outline.is_comparison() {
            let (request, rendering) = Similarity(target).read(head, body)?;
            return Ok((request, Rooted::Similarity(rendering)));
        }
        let of_kind = [Task::Embed, Task::Classify, Task::Sentiment];
        match target.model(&of_kind)?.task {
            Task::Embed => {
                let (request, rendering) = Embed(target).read(head, body)?;
                Ok((request, Rooted::Embed(rendering)))
            }
            Task::Classify | Task::Sentiment | Task::Entities | Task::Summarize | Task::Rerank => {
                let (request, rendering) = Predict(target).read(head, body)?;
                Ok((request, Rooted::Predict(rendering)))
            }
        }
    }

    fn words(rendering: &Rooted) -> Option<Words> {
        match rendering {
            Rooted::Embed(rendering) => Embed::words(rendering),
            Rooted::Predict(rendering) => Predict::words(rendering),
            Rooted::Rerank(rendering) => Rerank::words(rendering),
            Rooted::Similarity(rendering) => Similarity::words(rendering),
        }
    }

    fn write(response: InferResponse, rendering: Rooted) -> Result<Answer, ApiError> {
        match rendering {
            Rooted::Embed(rendering) => Embed::write(response, rendering),
            Rooted::Predict(rendering) => Predict::write(response, rendering),
            Rooted::Rerank(rendering) => Rerank::write(response, rendering),
            Rooted::Similarity(rendering) => Similarity::write(response, rendering),
        }
    }
}
