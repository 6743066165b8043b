//! The model that a request is for.

use std::convert::Infallible;
use std::sync::Arc;

use api::tasks::{
    ClassifyParameters, EmbedTokensParameters, Input, OnError, Parameters, SentimentParameters, Truncation,
};
use api::{ApiError, InferRequest, ModelDirectory, ModelInfo, Priority, PromptKind, Task};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::response::Response;

use super::dialect::{self, Shape};
use crate::{Bounds, Services};

/// The part of a path that is a model's name, `{name}`; none where the path has no such part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathModel(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for PathModel {
    type Rejection = Infallible;

    /// Names of models are of letters that no path encodes: what is encoded is the name of none.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let name = match RawPathParams::from_request_parts(parts, state).await {
            Ok(params) => params.iter().find(|(name, _)| *name == "name").map(|(_, value)| value.to_owned()),
            // It has one, which is no UTF-8.
            Err(_) => Some(String::new()),
        };
        Ok(Self(name))
    }
}

/// What a request is for: the model that its path or its body names, or the default of what is asked for.
#[derive(Clone)]
pub struct Target {
    /// The name, if there is one.
    pub name: Option<String>,
    /// Inputs of a call.
    pub inputs_max: usize,
    /// Tokens of a call that have vectors of their own.
    token_vectors_max: usize,
    models: Arc<dyn ModelDirectory>,
}

/// Answers a request whose path names no model, of the shape made for its target.
pub async fn answer<S: Shape>(
    services: &Services,
    request: Request,
    shape: impl FnOnce(Target) -> S,
) -> Response {
    dialect::answer(services, shape(Target::new(services, PathModel(None))), request).await
}

impl Target {
    /// The target of a request.
    pub fn new(services: &Services, PathModel(name): PathModel) -> Self {
        let Bounds { dialect_inputs_max: inputs_max, token_vectors_max, .. } = services.bounds;
        Self { name, inputs_max, token_vectors_max, models: Arc::clone(&services.models) }
    }

    /// The same for the model of a name, or for the default if there is none.
    pub fn named(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }

    /// A request of it for `inputs`.
    pub fn request(self, inputs: Vec<Input>, parameters: Parameters) -> InferRequest {
        InferRequest {
            model: self.name,
            inputs,
            inputs_max: Some(self.inputs_max),
            parameters,
            on_error: OnError::Fail,
            priority: Priority::Normal,
            timeout: None,
        }
    }

    /// A request for the classes of `inputs`, of documents or of moods.
    pub fn classes(&self, inputs: Vec<Input>, truncation: Truncation) -> InferRequest {
        // Of a model of another task, or of none, it is refused by who answers.
        let of_classes = self.model(&[Task::Classify, Task::Sentiment]);
        let parameters = match of_classes.is_ok_and(|model| model.task == Task::Sentiment) {
            true => Parameters::Sentiment(SentimentParameters { truncation }),
            false => Parameters::Classify(ClassifyParameters { truncation, ..ClassifyParameters::default() }),
        };
        self.clone().request(inputs, parameters)
    }

    /// A request for vectors of the single tokens of `inputs`.
    ///
    /// # Errors
    /// The model is computed by a runtime that gives none.
    pub fn token_vectors(
        &self,
        inputs: Vec<Input>,
        parameters: EmbedTokensParameters,
    ) -> Result<InferRequest, ApiError> {
        let pools = |model: &ModelInfo| model.width.is_some() && !model.gives_tokens;
        if let Some(model) = self.model(&[Task::Embed]).ok().filter(pools) {
            let (offers, asked) = (model.task.as_str(), "vectors of single tokens by its runtime");
            return Err(ApiError::WrongTask { model: model.name, offers, asked });
        }
        let vectors_max = self.token_vectors_max;
        let parameters = EmbedTokensParameters { vectors_max, ..parameters };
        Ok(self.clone().request(inputs, Parameters::EmbedTokens(parameters)))
    }

    /// The name of the prompt for what texts are, as a request calls it: the authors' own name, or one that
    /// several APIs have for queries and for documents. `None` where they have no such prompt. To be asked
    /// only by who knows the caller.
    pub fn prompt(&self, what: Option<&str>) -> Option<String> {
        let what = what?;
        let model = self.model(&[Task::Embed]).ok()?;
        if model.prompts.texts.contains_key(what) {
            return Some(what.to_owned());
        }
        let kind = match what {
            "query" | "search_query" | "retrieval.query" => PromptKind::Query,
            "document" | "passage" | "search_document" | "retrieval.passage" => PromptKind::Document,
            _ => return None,
        };
        model.prompts.name_of(kind).map(str::to_owned)
    }

    /// The model that a name stands for. To be asked only by who knows the caller.
    pub fn find(&self, name: &str) -> Option<ModelInfo> {
        self.models.model(name)
    }

    /// The model that is named, if there is one. To be asked only by who knows the caller.
    pub fn named_model(&self) -> Option<ModelInfo> {
        self.find(self.name.as_deref()?)
    }

    /// The longest text, in tokens, that the model reads at once; of the models the largest where none is
    /// named.
    pub fn window(&self) -> usize {
        let window = |model: &ModelInfo| model.limits.tokens_max;
        match self.named_model() {
            Some(model) => window(&model),
            None => self.models.models().iter().map(window).max().unwrap_or(usize::MAX),
        }
    }

    /// The first input that is token ids without the special tokens which the model of a task reads around
    /// every text. To be asked only by who knows the caller.
    pub fn bare_ids(&self, task: Task, inputs: &[Input]) -> Option<usize> {
        let model = self.model(&[task]).ok()?;
        let is_bare = |input: &Input| match input {
            Input::Tokens(ids) => self.models.is_wrapped(&model.name, ids) == Some(false),
            Input::Text(_) => false,
        };
        inputs.iter().position(is_bare)
    }

    /// The model, or of these tasks the first that has a default. To be asked only by who knows the caller.
    ///
    /// # Errors
    /// There is none of the name, or none of the tasks has a default.
    pub fn model(&self, tasks: &[Task]) -> Result<ModelInfo, ApiError> {
        let found = match &self.name {
            Some(name) => self.models.model(name),
            None => tasks.iter().find_map(|task| self.models.default_model(*task)),
        };
        found.ok_or(ApiError::ModelNotFound)
    }
}
