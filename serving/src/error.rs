//! The one error table: every way a request can fail, with its HTTP status, gRPC code and error code.
//!
//! Inner crates know nothing of transports; [`ApiError`] wraps their errors and [`ApiError::row`]
//! matches them exhaustively, so that a new failure does not compile until it has a row. A snapshot
//! test keeps the table from changing unnoticed. The message goes to the client and never quotes an
//! input; what only the operator may know goes to the log through [`ApiError::log_detail`].

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use models::tasks::{InputError, LengthUnit};
use router::idempotency::IdempotencyError;
use router::limit::{LimitError, Window};
use router::store::StoreError;
use router::{AdministrationError, AuthenticationError, CredentialError, JwtError};
use serde::Serialize;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

/// Where the error codes are explained.
const DOCS_URL: &str = "https://docs.company.com/ml-inference/errors";

/// Why a request was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// No credentials, or none that name anybody.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// The plan's limits.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Tenants or keys were not changed.
    #[error("{0}")]
    Administration(Arc<AdministrationError>),
    /// The store of tenants and usage does not answer.
    #[error("tenants and usage cannot be read at present; retry later")]
    StoreUnavailable {
        /// What happened, for the log.
        detail: String,
    },
    /// The principal's role does not cover the request.
    #[error("this key may not do that: the {needed} role is needed")]
    Forbidden {
        /// The least role that may.
        needed: &'static str,
    },
    /// No such route.
    #[error("no such route; the API is under /v1/ml")]
    RouteNotFound,
    /// No such route on the operations port.
    #[error(
        "no such route: here are /metrics, /livez, /readyz, /scaling and /admin/v1; the API is on the public port"
    )]
    OperationsRouteNotFound,
    /// The route exists, the method does not.
    #[error("method not allowed on this route")]
    MethodNotAllowed,
    /// The body is not declared as what the route takes.
    #[error("unsupported content type: send `Content-Type: {expected}`, in UTF-8")]
    UnsupportedMediaType {
        /// What the route takes.
        expected: &'static str,
    },
    /// The body is in a coding that is not taken.
    #[error("unsupported Content-Encoding: send the body as it is, or with one of `gzip` and `deflate`")]
    UnsupportedContentEncoding,
    /// The body is not what its coding says.
    #[error("the request body is not valid {coding}, which its Content-Encoding says it is")]
    InvalidContentEncoding {
        /// The coding.
        coding: &'static str,
    },
    /// The body is over the limit.
    #[error("the request body is over the limit of {limit} bytes")]
    BodyTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The head is over a limit.
    #[error("the request's headers are over the limit of {bytes_max} bytes or {fields_max} fields")]
    HeadersTooLarge {
        /// Bytes allowed.
        bytes_max: usize,
        /// Fields allowed.
        fields_max: usize,
    },
    /// The target is over the limit.
    #[error("the request's path and query are over the limit of {limit} bytes")]
    UriTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// What came is no request.
    #[error("not a valid HTTP/1.1 request: the request line or a header field is malformed")]
    MalformedRequest,
    /// No such service, over gRPC's health protocol.
    #[error(
        "no such service; name ml.inference.v1.InferenceService, a model, or nothing for the whole server"
    )]
    ServiceNotFound,
    /// A gRPC message is compressed in a way that is not understood.
    #[error("the message's compression is not supported; identity, gzip and deflate are")]
    UnsupportedCompression,
    /// The body did not arrive in time, or broke off.
    #[error("the request body did not arrive completely")]
    BodyIncomplete,
    /// The body is not UTF-8.
    #[error("the request body is not valid UTF-8: first invalid byte at offset {offset}")]
    InvalidUtf8 {
        /// Bytes before the first invalid one.
        offset: usize,
    },
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {problem} at line {line} column {column}")]
    InvalidJson {
        /// What the parser met.
        problem: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// JSON or protobuf of the wrong shape: a wrong type, an unknown field, a value out of range.
    #[error("invalid request: {field}: {problem}")]
    InvalidRequest {
        /// Path of the field, such as `parameters.top_k`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The inputs cannot be run.
    #[error(transparent)]
    Input(#[from] InputError),
    /// No model of that name.
    #[error("no such model; GET /v1/ml/models lists them")]
    ModelNotFound,
    /// The call names no model, and none is stated to be the task's default.
    #[error("name a model: {task} has no default here; there are {candidates}")]
    ModelRequired {
        /// The task.
        task: &'static str,
        /// Models that do it.
        candidates: String,
    },
    /// The model exists and does something else.
    #[error("model {model} does {offers}, not {asked}")]
    WrongTask {
        /// The model asked for.
        model: String,
        /// Its task.
        offers: &'static str,
        /// The route's task.
        asked: &'static str,
    },
    /// The model is known and not loaded.
    #[error("model {model} is not loaded")]
    ModelUnavailable {
        /// The model asked for.
        model: String,
        /// Why, for the log.
        reason: String,
    },
    /// No capacity now.
    #[error("the service is at capacity; retry later")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// So many answers of the tenant's wait for its peers that no more are begun.
    #[error(
        "answers to this tenant wait to be read; read them, or close their connections, before asking for more"
    )]
    AnswersUnread {
        /// When to try again.
        retry_after: Duration,
    },
    /// The deadline cannot be met with what waits before the request.
    #[error("the deadline cannot be met at present; retry later or with a longer one")]
    DeadlineInfeasible {
        /// When to try again.
        retry_after: Duration,
    },
    /// An idempotency key came again with another request, or from somebody else of the tenant.
    #[error(
        "this Idempotency-Key was used for another request or by another API key; use a new key for each request"
    )]
    IdempotencyKeyReused,
    /// The first request of an idempotency key is not answered yet.
    #[error("a request with this Idempotency-Key is being answered; retry later")]
    IdempotencyInProgress,
    /// The answer kept under an idempotency key is no longer there.
    #[error(
        "the request with this Idempotency-Key was answered and charged, and its answer was too large to be kept"
    )]
    IdempotencyAnswerTooLarge,
    /// The tenant's answers kept under idempotency keys are at their bound.
    #[error("{0}")]
    IdempotencyFull(Arc<IdempotencyError>),
    /// The deadline passed.
    #[error("the request's deadline passed before it was answered")]
    DeadlineExceeded,
    /// Models are being loaded.
    #[error("the server is starting; retry later")]
    Starting,
    /// The server is going away.
    #[error("the server is shutting down; retry elsewhere")]
    ShuttingDown,
    /// A fault of ours.
    #[error("internal error; quote the request id when reporting it")]
    Internal {
        /// What happened, for the log.
        detail: String,
    },
}

/// One row of the error table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable, machine-readable code.
    pub code: &'static str,
    /// Status over REST.
    pub http: StatusCode,
    /// Status over gRPC.
    pub grpc: Code,
}

/// Code of the error that a response tells, in the response's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

const fn row(code: &'static str, http: StatusCode, grpc: Code) -> Row {
    Row { code, http, grpc }
}

impl ApiError {
    /// A fault of ours: `detail` goes to the log, never to the client.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        Self::Internal { detail: detail.to_string() }
    }

    /// The error's row in the table.
    pub fn row(&self) -> Row {
        use StatusCode as S;
        match self {
            Self::Authentication(AuthenticationError::Credential(e)) => match e {
                CredentialError::Missing => {
                    row("missing_credentials", S::UNAUTHORIZED, Code::Unauthenticated)
                }
                CredentialError::Scheme | CredentialError::Malformed => {
                    row("malformed_credentials", S::UNAUTHORIZED, Code::Unauthenticated)
                }
            },
            Self::Authentication(
                AuthenticationError::UnknownKey
                | AuthenticationError::RevokedKey
                | AuthenticationError::ExpiredKey
                | AuthenticationError::UnknownService
                | AuthenticationError::NotLoopback
                | AuthenticationError::NotLocalHost
                | AuthenticationError::JwtNotConfigured,
            ) => row("invalid_credentials", S::UNAUTHORIZED, Code::Unauthenticated),
            Self::Authentication(AuthenticationError::TestKey) => {
                row("test_key_refused", S::UNAUTHORIZED, Code::Unauthenticated)
            }
            Self::Authentication(AuthenticationError::Jwt(JwtError::NoKeys)) => {
                row("issuer_unavailable", S::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
            Self::Authentication(AuthenticationError::Jwt(_)) => {
                row("invalid_token", S::UNAUTHORIZED, Code::Unauthenticated)
            }
            Self::Authentication(AuthenticationError::AccountsUnread) => {
                row("store_unavailable", S::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
            Self::Authentication(AuthenticationError::UnknownTenant) => {
                row("unknown_tenant", S::FORBIDDEN, Code::PermissionDenied)
            }
            Self::Authentication(AuthenticationError::Suspended) => {
                row("account_suspended", S::FORBIDDEN, Code::PermissionDenied)
            }
            Self::Limit(error) => limit_row(error),
            Self::Administration(error) => administration_row(error),
            Self::StoreUnavailable { .. } => {
                row("store_unavailable", S::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
            Self::Forbidden { .. } => row("forbidden", S::FORBIDDEN, Code::PermissionDenied),
            Self::RouteNotFound | Self::OperationsRouteNotFound => {
                row("not_found", S::NOT_FOUND, Code::Unimplemented)
            }
            Self::MethodNotAllowed => row("method_not_allowed", S::METHOD_NOT_ALLOWED, Code::Unimplemented),
            Self::UnsupportedMediaType { .. } => {
                row("unsupported_media_type", S::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument)
            }
            Self::UnsupportedContentEncoding => {
                row("unsupported_content_encoding", S::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented)
            }
            Self::InvalidContentEncoding { .. } => {
                row("invalid_content_encoding", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::BodyTooLarge { .. } => row("body_too_large", S::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            Self::HeadersTooLarge { .. } => {
                row("headers_too_large", S::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::ResourceExhausted)
            }
            Self::UriTooLong { .. } => row("uri_too_long", S::URI_TOO_LONG, Code::InvalidArgument),
            Self::MalformedRequest => row("malformed_request", S::BAD_REQUEST, Code::InvalidArgument),
            Self::ServiceNotFound => row("service_not_found", S::NOT_FOUND, Code::NotFound),
            Self::UnsupportedCompression => {
                row("unsupported_compression", S::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented)
            }
            Self::BodyIncomplete => row("body_incomplete", S::REQUEST_TIMEOUT, Code::Cancelled),
            Self::InvalidUtf8 { .. } => row("invalid_utf8", S::BAD_REQUEST, Code::InvalidArgument),
            Self::InvalidJson { .. } => row("invalid_json", S::BAD_REQUEST, Code::InvalidArgument),
            Self::InvalidRequest { .. } => row("invalid_request", S::BAD_REQUEST, Code::InvalidArgument),
            Self::Input(e) => row(input_code(e), S::BAD_REQUEST, Code::InvalidArgument),
            Self::ModelNotFound => row("model_not_found", S::NOT_FOUND, Code::NotFound),
            Self::ModelRequired { .. } => row("model_required", S::BAD_REQUEST, Code::InvalidArgument),
            Self::WrongTask { .. } => row("wrong_task", S::BAD_REQUEST, Code::InvalidArgument),
            Self::ModelUnavailable { .. } => {
                row("model_unavailable", S::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
            Self::Overloaded { .. } => row("overloaded", S::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::AnswersUnread { .. } => {
                row("answers_unread", S::TOO_MANY_REQUESTS, Code::ResourceExhausted)
            }
            Self::DeadlineInfeasible { .. } => {
                row("deadline_infeasible", S::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
            Self::IdempotencyKeyReused => {
                row("idempotency_key_reused", S::UNPROCESSABLE_ENTITY, Code::FailedPrecondition)
            }
            Self::IdempotencyInProgress => row("idempotency_in_progress", S::CONFLICT, Code::Aborted),
            Self::IdempotencyAnswerTooLarge => {
                row("idempotency_answer_too_large", S::UNPROCESSABLE_ENTITY, Code::FailedPrecondition)
            }
            Self::IdempotencyFull(_) => {
                row("idempotency_full", S::TOO_MANY_REQUESTS, Code::ResourceExhausted)
            }
            Self::DeadlineExceeded => row("deadline_exceeded", S::GATEWAY_TIMEOUT, Code::DeadlineExceeded),
            Self::Starting => row("starting", S::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::ShuttingDown => row("shutting_down", S::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::Internal { .. } => row("internal", S::INTERNAL_SERVER_ERROR, Code::Internal),
        }
    }

    /// When to try again, where the error knows.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after }
            | Self::AnswersUnread { retry_after }
            | Self::DeadlineInfeasible { retry_after } => Some(*retry_after),
            Self::IdempotencyInProgress => Some(Duration::from_secs(1)),
            // Answers are forgotten by the hour.
            Self::IdempotencyFull(_) => Some(Duration::from_secs(3600)),
            Self::Limit(LimitError::Exceeded { retry_after, .. }) => Some(*retry_after),
            Self::Limit(LimitError::Concurrency { .. } | LimitError::Unavailable)
            | Self::Authentication(AuthenticationError::AccountsUnread)
            | Self::StoreUnavailable { .. }
            | Self::Starting
            | Self::ShuttingDown => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What the log may know and the client may not.
    pub fn log_detail(&self) -> Option<&str> {
        match self {
            // Why a model does not answer is logged once, at the start.
            Self::Internal { detail } | Self::StoreUnavailable { detail } => Some(detail),
            _ => None,
        }
    }

    /// The error as the REST API's envelope.
    pub fn envelope<'a>(&self, request_id: &'a str) -> Envelope<'a> {
        let code = self.row().code;
        Envelope {
            error: EnvelopeError {
                code,
                message: self.to_string(),
                request_id: Some(request_id),
                docs_url: docs_url(code),
            },
        }
    }

    /// The error of one input, in the place of its result.
    pub fn of_input(error: &InputError) -> EnvelopeError<'static> {
        let error = Self::Input(error.clone());
        let code = error.row().code;
        EnvelopeError { code, message: error.to_string(), request_id: None, docs_url: docs_url(code) }
    }

    /// The error as a gRPC status with `google.rpc` details.
    pub fn to_status(&self, request_id: &str) -> tonic::Status {
        let Row { code, grpc, .. } = self.row();
        let mut details = ErrorDetails::new();
        details.set_error_info(code, "ml.inference.v1", std::collections::HashMap::new());
        details.set_request_info(request_id, "");
        details.add_help_link("error codes", docs_url(code));
        if let Some(retry_after) = self.retry_after() {
            details.set_retry_info(Some(retry_after));
        }
        if let Self::Limit(error @ LimitError::Exceeded { unit, window, .. }) = self {
            let window = match window {
                Window::Minute => "minute",
                Window::Day => "day",
            };
            details.add_quota_failure_violation(format!("{}/{window}", unit.name()), error.to_string());
        }
        if let Some((field, problem)) = self.field_violation() {
            details.add_bad_request_violation(field, problem);
        }
        tonic::Status::with_error_details(grpc, self.to_string(), details)
    }

    fn field_violation(&self) -> Option<(String, String)> {
        match self {
            Self::InvalidRequest { field, problem } => Some((field.clone(), problem.clone())),
            Self::Input(e) => Some((e.field(), e.to_string())),
            _ => None,
        }
    }
}

fn docs_url(code: &str) -> String {
    format!("{DOCS_URL}#{code}")
}

fn limit_row(error: &LimitError) -> Row {
    use StatusCode as S;
    match error {
        LimitError::Exceeded { .. } => {
            row("rate_limit_exceeded", S::TOO_MANY_REQUESTS, Code::ResourceExhausted)
        }
        LimitError::Concurrency { .. } => {
            row("concurrency_limit_exceeded", S::TOO_MANY_REQUESTS, Code::ResourceExhausted)
        }
        LimitError::TooMuch { .. } => row("over_plan_limit", S::BAD_REQUEST, Code::FailedPrecondition),
        LimitError::Unavailable => row("limits_unavailable", S::SERVICE_UNAVAILABLE, Code::Unavailable),
    }
}

fn administration_row(error: &AdministrationError) -> Row {
    use StatusCode as S;
    match error {
        AdministrationError::NoTenant => row("tenant_not_found", S::NOT_FOUND, Code::NotFound),
        AdministrationError::NoAccount => row("tenant_not_managed", S::CONFLICT, Code::FailedPrecondition),
        AdministrationError::TooManyKeys { .. } => row("too_many_keys", S::CONFLICT, Code::ResourceExhausted),
        AdministrationError::AlreadyMade(_) => row("secret_shown_once", S::CONFLICT, Code::AlreadyExists),
        AdministrationError::NoKey => row("key_not_found", S::NOT_FOUND, Code::NotFound),
        AdministrationError::AboveRole => row("forbidden", S::FORBIDDEN, Code::PermissionDenied),
        AdministrationError::TenantExists => row("tenant_exists", S::CONFLICT, Code::AlreadyExists),
        AdministrationError::NotActive => row("key_not_active", S::CONFLICT, Code::FailedPrecondition),
        AdministrationError::Reserved
        | AdministrationError::Plan(_)
        | AdministrationError::Label
        | AdministrationError::TestKey
        | AdministrationError::Past => row("invalid_request", S::BAD_REQUEST, Code::InvalidArgument),
        AdministrationError::Store(StoreError::Conflict) => row("conflict", S::CONFLICT, Code::Aborted),
        AdministrationError::Random(_)
        | AdministrationError::Store(StoreError::Unavailable(_) | StoreError::Corrupt(_)) => {
            row("internal", S::INTERNAL_SERVER_ERROR, Code::Internal)
        }
    }
}

impl From<AdministrationError> for ApiError {
    fn from(error: AdministrationError) -> Self {
        match error {
            AdministrationError::Random(_) | AdministrationError::Store(StoreError::Corrupt(_)) => {
                Self::internal(error)
            }
            AdministrationError::Store(StoreError::Unavailable(detail)) => Self::StoreUnavailable { detail },
            _ => Self::Administration(Arc::new(error)),
        }
    }
}

impl From<IdempotencyError> for ApiError {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Store(StoreError::Unavailable(detail)) => Self::StoreUnavailable { detail },
            IdempotencyError::Full(_) => Self::IdempotencyFull(Arc::new(error)),
            IdempotencyError::Store(_)
            | IdempotencyError::Random(_)
            | IdempotencyError::Lost
            | IdempotencyError::Seal => Self::internal(error),
        }
    }
}

fn input_code(error: &InputError) -> &'static str {
    match error {
        InputError::None => "no_inputs",
        InputError::TooMany { .. } => "too_many_inputs",
        InputError::Empty { .. } | InputError::Invisible { .. } => "empty_input",
        InputError::Nul { .. } => "nul_character",
        InputError::TooLong { unit: LengthUnit::Tokens | LengthUnit::Words, .. } => "input_too_long",
        InputError::Parameter { .. } => "invalid_parameter",
        InputError::Tokenize { .. } => "unreadable_input",
    }
}

/// Error body of the platform's REST APIs.
#[derive(Debug, Serialize)]
pub struct Envelope<'a> {
    /// The error.
    pub error: EnvelopeError<'a>,
}

/// The inside of an [`Envelope`].
#[derive(Debug, Serialize)]
pub struct EnvelopeError<'a> {
    /// Stable, machine-readable code.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
    /// The call's id; none in the error of one input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// Where the code is explained.
    pub docs_url: String,
}
