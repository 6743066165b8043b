//! CloudEvents 1.0 around a request of KServe v1 and its answer: told in headers beside the data (binary), or
//! in the body around them (structured). An event is answered by an event in the same form.

use std::sync::Arc;

use api::{ApiError, InferResponse, WallTime};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::error::invalid;
use super::event_headers::{ID, SOURCE, SPEC_VERSION, TYPE};
use crate::http::dialect::Answer;

/// The version of CloudEvents that is spoken.
const VERSION: &str = "1.0";
/// What answers are, as KServe calls them.
const ANSWER_TYPE: &str = "io.kserve.inference.response";
/// The type of a structured event.
const STRUCTURED: &str = "application/cloudevents+json";

/// How a request came as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In headers.
    Binary,
    /// In the body.
    Structured,
}

/// The attributes that every event has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a> {
    pub(super) specversion: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    pub(super) source: Option<&'a str>,
    pub(super) r#type: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// Of a binary event; none where the headers are those of no event.
    pub(super) fn of_headers(headers: &'a HeaderMap) -> Option<Self> {
        let value = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        headers.get(SPEC_VERSION)?;
        Some(Self {
            specversion: value(SPEC_VERSION),
            id: value(ID),
            source: value(SOURCE),
            r#type: value(TYPE),
        })
    }

    /// Refuses an event of another version, or one that lacks an attribute; `prefix` stands before the names
    /// of attributes.
    pub(super) fn check(self, prefix: &str) -> Result<(), ApiError> {
        if self.specversion != Some(VERSION) {
            return Err(invalid(format!("{prefix}specversion"), format!("expected {VERSION}")));
        }
        for (name, value) in [("id", self.id), ("source", self.source), ("type", self.r#type)] {
            if value.is_none_or(str::is_empty) {
                return Err(invalid(format!("{prefix}{name}"), "every CloudEvent has this attribute"));
            }
        }
        Ok(())
    }
}

/// What an answer is sent in.
#[derive(Debug)]
pub(super) struct Envelope {
    form: Form,
    id: Arc<str>,
    source: String,
    time: WallTime,
}

#[derive(Serialize)]
struct Event<'a, T> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'static str,
    time: WallTime,
    datacontenttype: &'static str,
    data: &'a T,
}

impl Envelope {
    /// For the answer of a model to the call of an id.
    pub(super) fn new(form: Form, id: Arc<str>, response: &InferResponse) -> Self {
        let source = format!("io.kserve.inference.{}", response.model);
        Self { form, id, source, time: response.timings.answered_at }
    }

    /// An answer in it.
    pub(super) fn answer(self, data: &impl Serialize) -> Result<Answer, ApiError> {
        let Self { form, id, source, time } = self;
        match form {
            Form::Binary => {
                let mut answer = Answer::json(StatusCode::OK, data)?;
                let text = |text: &str| HeaderValue::from_str(text).map_err(ApiError::internal);
                answer.headers.insert(SPEC_VERSION, HeaderValue::from_static(VERSION));
                answer.headers.insert(TYPE, HeaderValue::from_static(ANSWER_TYPE));
                answer.headers.insert(ID, text(&id)?);
                answer.headers.insert(SOURCE, text(&source)?);
                answer.headers.insert("ce-time", text(&time.to_string())?);
                Ok(answer)
            }
            Form::Structured => {
                let event = Event {
                    specversion: VERSION,
                    id: &id,
                    source: &source,
                    r#type: ANSWER_TYPE,
                    time,
                    datacontenttype: "application/json",
                    data,
                };
                let mut answer = Answer::json(StatusCode::OK, &event)?;
                answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
                Ok(answer)
            }
        }
    }
}
