//! Routes that two dialects have: which of them a request is of, its body tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::{ApiError, InferRequest, InferResponse, Operation, request_id};
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::IgnoredAny;

use std::collections::BTreeMap;

use super::dialect::{self, Answer, Shape};
use super::words::Words;
use super::{body, dialect::refuse};
use crate::Services;

/// A request of the first shape or, where its body says so, of the second.
struct Told<A, B> {
    first: A,
    second: B,
    is_second: fn(&Bytes) -> bool,
    /// What it turned out to be, for the form of a refusal.
    was_second: Arc<AtomicBool>,
}

/// How the answer of one of two shapes is written.
enum Either<A, B> {
    First(A),
    Second(B),
}

/// Answers a request of one of two shapes, in the form of that one's dialect. What is refused before the body
/// is read is refused in the first one's.
pub async fn answer<A: Shape, B: Shape>(
    services: &Services,
    (first, second): (A, B),
    is_second: fn(&Bytes) -> bool,
    request: Request,
) -> Response {
    let id = request_id(request.extensions());
    let was_second = Arc::new(AtomicBool::new(false));
    let told = Told { first, second, is_second, was_second: Arc::clone(&was_second) };
    dialect::call(services, told, request).await.unwrap_or_else(|error| {
        match was_second.load(Ordering::Acquire) {
            true => refuse::<B::Dialect>(&error, &id),
            false => refuse::<A::Dialect>(&error, &id),
        }
    })
}

/// Whether a body is a JSON object with a field of one of these names, whatever is in it.
pub fn has_field(body: &Bytes, names: &[&str]) -> bool {
    let fields = body::parse::<BTreeMap<String, IgnoredAny>>(body);
    fields.is_ok_and(|fields| names.iter().any(|name| fields.contains_key(*name)))
}

impl<A: Shape, B: Shape> Shape for Told<A, B> {
    type Dialect = A::Dialect;
    type Rendering = Either<A::Rendering, B::Rendering>;
    const IS_JSON: bool = A::IS_JSON && B::IS_JSON;

    fn operation(&self) -> Option<Operation> {
        self.first.operation().filter(|operation| self.second.operation() == Some(*operation))
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Self::Rendering), ApiError> {
        if (self.is_second)(body) {
            self.was_second.store(true, Ordering::Release);
            let (request, rendering) = self.second.read(head, body)?;
            Ok((request, Either::Second(rendering)))
        } else {
            let (request, rendering) = self.first.read(head, body)?;
            Ok((request, Either::First(rendering)))
        }
    }

    fn words(rendering: &Self::Rendering) -> Option<Words> {
        match rendering {
            Either::First(rendering) => A::words(rendering),
            Either::Second(rendering) => B::words(rendering),
        }
    }

    fn write(response: InferResponse, rendering: Self::Rendering) -> Result<Answer, ApiError> {
        match rendering {
            Either::First(rendering) => A::write(response, rendering),
            Either::Second(rendering) => B::write(response, rendering),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_bodies() {
        let check = |body: &'static str, expected: bool| {
            assert_eq!(has_field(&Bytes::from_static(body.as_bytes()), &["documents"]), expected, "{body}");
        };
        check(r#"{"query":"a","documents":["b"]}"#, true);
        check(r#"{"documents":null}"#, true);
        check(r#"{"query":"documents","texts":[{"documents":1}]}"#, false);
        check(r#"["documents"]"#, false);
        check("", false);
    }
}
