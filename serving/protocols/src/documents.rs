//! The OpenAPI documents of the dialects of other servers. Each describes its routes in its own folder.

use api::ApiError;
use axum::http::StatusCode;
use serde_json::Value;

use crate::http::dialect::Dialect;
use crate::openapi::{Api, ErrorForm, Security};
use crate::{Dialects, cohere, containers, huggingface, oip, ollama, openai, tei};

/// The document of a dialect.
pub struct DialectDocument {
    /// Its name, as that of its switch in `[protocols]`.
    pub name: &'static str,
    /// What it is, for a person.
    pub title: &'static str,
    /// Whether it is spoken.
    pub is_on: fn(Dialects) -> bool,
    /// Adds its routes.
    describe: fn(&mut Api),
    form: ErrorForm,
}

/// All of them.
pub const DIALECTS: &[DialectDocument] = &[
    of::<oip::Dialect>("oip", "Open Inference Protocol v2, KServe v1", |on| on.oip, oip::describe),
    of::<tei::Tei>("tei", "text-embeddings-inference", |on| on.tei, tei::describe),
    of::<openai::OpenAi>(
        "openai",
        "OpenAI, Jina, Voyage, vLLM, NIM, infinity",
        |on| on.openai,
        openai::describe,
    ),
    of::<cohere::Cohere>("cohere", "Cohere", |on| on.cohere, cohere::describe),
    of::<ollama::Ollama>("ollama", "Ollama", |on| on.ollama, ollama::describe),
    of::<huggingface::HuggingFace>(
        "huggingface",
        "Hugging Face's tasks",
        |on| on.huggingface,
        huggingface::describe,
    ),
    of::<containers::Containers>(
        "containers",
        "SageMaker and Vertex containers",
        |on| on.containers,
        containers::describe,
    ),
];

const fn of<D: Dialect>(
    name: &'static str,
    title: &'static str,
    is_on: fn(Dialects) -> bool,
    describe: fn(&mut Api),
) -> DialectDocument {
    DialectDocument { name, title, is_on, describe, form: form::<D> }
}

/// An error as a dialect answers with it.
fn form<D: Dialect>(error: &ApiError, request_id: &str) -> (StatusCode, Value) {
    let answer = D::error(error, request_id);
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

impl DialectDocument {
    /// The document.
    pub fn build(&self) -> Value {
        let description = "One of the dialects of other servers that ml-inference speaks. Fields that are not listed are \
            ignored. What is told apart how, and where answers differ: docs/dialects.md.";
        let title = format!("ml-inference: {}", self.title);
        let mut api = Api::new(&title, description, Security::BearerOrKey, self.form, false);
        (self.describe)(&mut api);
        api.finish()
    }
}
