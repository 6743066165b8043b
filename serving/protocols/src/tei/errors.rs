//! Errors as text-embeddings-inference has them: `{"error", "error_type"}`, with statuses of its own.

use api::tasks::InputError;
use api::{ApiError, ErrorKind, GrpcCode};
use axum::http::StatusCode;
use serde::Serialize;
use tonic::Status;

use crate::grpc::status_as;
use crate::http::dialect::{Answer, Dialect};
use crate::http::words::Words;

/// The dialect.
pub struct Tei;

/// What cuts a long text off.
const CUT: &str = "`truncate` true cuts it off there";

/// The fields of inputs that are not called `inputs`.
pub(crate) const RANKED: Words = Words::of_array("texts", CUT);
pub(crate) const COMPARED: Words = Words::of_array("inputs.sentences", CUT);
pub(crate) const DECODED: Words = Words::of_array("ids", CUT);

/// The kinds of errors that its clients know; there are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Fault {
    /// The server cannot answer at present.
    Unhealthy,
    /// The model does not do what is asked, or has failed.
    Backend,
    /// There is more to do than is taken.
    Overloaded,
    /// The request is wrong.
    Validation,
    /// A text cannot be tokenised.
    Tokenizer,
    /// There is nothing to do.
    Empty,
}

/// The body of a refusal.
#[derive(Debug, Serialize)]
pub(crate) struct Refused {
    pub(crate) error: String,
    pub(crate) error_type: Fault,
}

/// An error on its wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Its kind.
    pub(crate) fault: Fault,
    /// Over REST.
    pub(crate) http: StatusCode,
    /// Over gRPC.
    pub(crate) grpc: GrpcCode,
}

impl Fault {
    /// With the statuses that the dialect gives it.
    const fn form(self) -> Form {
        let (http, grpc) = match self {
            Self::Unhealthy => (StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable),
            Self::Backend => (StatusCode::FAILED_DEPENDENCY, GrpcCode::FailedPrecondition),
            Self::Overloaded => (StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted),
            Self::Validation => (StatusCode::UNPROCESSABLE_ENTITY, GrpcCode::InvalidArgument),
            Self::Tokenizer => (StatusCode::UNPROCESSABLE_ENTITY, GrpcCode::FailedPrecondition),
            Self::Empty => (StatusCode::BAD_REQUEST, GrpcCode::InvalidArgument),
        };
        Form { fault: self, http, grpc }
    }
}

/// The form of a kind. What the dialect knows has its statuses, anything else those of its row.
pub(crate) fn form(kind: ErrorKind) -> Form {
    use ErrorKind as K;
    let by_row = |fault| Form { fault, http: kind.row().http, grpc: kind.row().grpc };
    match kind {
        K::NoInputs => Fault::Empty.form(),
        K::UnreadableInput => Fault::Tokenizer.form(),
        K::InvalidRequest
        | K::TooManyInputs
        | K::EmptyInput
        | K::NulCharacter
        | K::InputTooLong
        | K::InvalidParameter
        | K::OverPlanLimit => Fault::Validation.form(),
        K::WrongTask | K::ModelRequired | K::Internal => Fault::Backend.form(),
        K::RateLimitExceeded
        | K::ConcurrencyLimitExceeded
        | K::Overloaded
        | K::AnswersUnread
        | K::DeadlineInfeasible
        | K::IdempotencyFull => Fault::Overloaded.form(),
        K::IssuerUnavailable
        | K::LimitsUnavailable
        | K::StoreUnavailable
        | K::ModelUnavailable
        | K::Starting
        | K::ShuttingDown => Fault::Unhealthy.form(),
        K::DeadlineExceeded | K::IdempotencyInProgress | K::Conflict => by_row(Fault::Overloaded),
        K::MissingCredentials
        | K::MalformedCredentials
        | K::InvalidCredentials
        | K::TestKeyRefused
        | K::InvalidToken
        | K::UnknownTenant
        | K::AccountSuspended
        | K::Forbidden
        | K::NotFound
        | K::MethodNotAllowed
        | K::UnsupportedMediaType
        | K::UnsupportedContentEncoding
        | K::InvalidContentEncoding
        | K::UnsupportedCompression
        | K::BodyTooLarge
        | K::HeadersTooLarge
        | K::UriTooLong
        | K::MalformedRequest
        | K::ServiceNotFound
        | K::BodyIncomplete
        | K::InvalidUtf8
        | K::InvalidJson
        | K::ModelNotFound
        | K::ModelNotLoadable
        | K::ModelDoesNotFit
        | K::IdempotencyKeyReused
        | K::IdempotencyAnswerTooLarge
        | K::TenantNotFound
        | K::TenantNotManaged
        | K::TenantExists
        | K::KeyNotFound
        | K::KeyNotActive
        | K::TooManyKeys
        | K::SecretShownOnce => by_row(Fault::Validation),
    }
}

/// What is wrong, in words that the dialect's clients look for where they do.
pub(crate) fn message(error: &ApiError) -> String {
    match error {
        ApiError::Input(error) => message_of(error, &error.field(), error.to_string()),
        ApiError::Worded { error, field, message } => message_of(error, field, message.clone()),
        error => error.to_string(),
    }
}

/// What is wrong with the input of a field, otherwise said as in `message`.
fn message_of(error: &InputError, field: &str, message: String) -> String {
    let (whole, _) = field.split_once('[').unwrap_or((field, ""));
    match error {
        InputError::TooMany { inputs, limit } => {
            format!("batch size {inputs} > maximum allowed batch size {limit}")
        }
        InputError::None => format!("`{whole}` cannot be empty"),
        InputError::TooLong { length, limit, is_counted, .. } => {
            let at_least = if *is_counted { "" } else { "at least " };
            format!("`{whole}` must have at most {limit} tokens. Given: {at_least}{length}, in {field}")
        }
        InputError::Parameter { name: "reference", message } => format!("`source_sentence` {message}"),
        InputError::Parameter { name, message } => format!("`{name}` {message}"),
        _ => message,
    }
}

/// An error as a status.
pub(crate) fn status(error: &ApiError, request_id: &str) -> Status {
    status_as(error, form(error.kind()).grpc, message(error), request_id)
}

impl Dialect for Tei {
    const PROTOCOL: &'static str = "tei";

    fn error(error: &ApiError, _: &str) -> Answer {
        let Form { fault, http, .. } = form(error.kind());
        let body = Refused { error: message(error), error_type: fault };
        Answer::json(http, &body).unwrap_or_else(|_| Answer::empty(http))
    }
}

#[cfg(test)]
mod tests {
    use api::tasks::{LengthUnit, Remedy};

    use super::*;

    #[test]
    fn errors_on_the_wire() {
        let check = |error: ApiError, status: u16, body: &str| {
            let answer = Tei::error(&error, "req_1");
            assert_eq!(answer.status.as_u16(), status, "{error}");
            assert_eq!(String::from_utf8_lossy(&answer.body), body);
        };
        check(
            InputError::TooMany { inputs: 33, limit: 32 }.into(),
            422,
            r#"{"error":"batch size 33 > maximum allowed batch size 32","error_type":"Validation"}"#,
        );
        check(InputError::None.into(), 400, r#"{"error":"`inputs` cannot be empty","error_type":"Empty"}"#);
        check(
            InputError::Parameter { name: "dimensions", message: "must be between 1 and 384".to_owned() }
                .into(),
            422,
            r#"{"error":"`dimensions` must be between 1 and 384","error_type":"Validation"}"#,
        );
        check(
            InputError::Tokenize { index: 2 }.into(),
            422,
            r#"{"error":"inputs[2] could not be tokenized","error_type":"Tokenizer"}"#,
        );
        let words = Words::of_array("texts", CUT);
        check(words.of(InputError::None), 400, r#"{"error":"`texts` cannot be empty","error_type":"Empty"}"#);
        let empty = InputError::Empty { index: 1 };
        check(words.of(empty), 422, r#"{"error":"texts[1] is empty","error_type":"Validation"}"#);
        let too_long = InputError::TooLong {
            index: 3,
            length: 600,
            is_counted: true,
            limit: 512,
            unit: LengthUnit::Tokens,
            remedy: Remedy::Part,
        };
        check(
            words.of(too_long),
            422,
            r#"{"error":"`texts` must have at most 512 tokens. Given: 600, in texts[3]","error_type":"Validation"}"#,
        );
        let row = |kind: ErrorKind| (form(kind).http.as_u16(), form(kind).grpc, form(kind).fault);
        assert_eq!(row(ErrorKind::WrongTask), (424, GrpcCode::FailedPrecondition, Fault::Backend));
        assert_eq!(row(ErrorKind::Overloaded), (429, GrpcCode::ResourceExhausted, Fault::Overloaded));
        assert_eq!(row(ErrorKind::Starting), (503, GrpcCode::Unavailable, Fault::Unhealthy));
        assert_eq!(row(ErrorKind::MissingCredentials), (401, GrpcCode::Unauthenticated, Fault::Validation));
        assert_eq!(row(ErrorKind::ModelNotFound), (404, GrpcCode::NotFound, Fault::Validation));
        assert_eq!(row(ErrorKind::DeadlineExceeded), (504, GrpcCode::DeadlineExceeded, Fault::Overloaded));
    }
}
