//! Every way a request can fail, and the one table of error codes.
//!
//! Inner crates know nothing of transports; [`ApiError`] wraps their errors and [`ApiError::kind`]
//! matches them exhaustively, so that a new failure does not compile until it has a row of the table,
//! [`ErrorKind`]. A snapshot test keeps the table from changing unnoticed. The message goes to the
//! client and never quotes an input; what only the operator may know goes to the log through
//! [`ApiError::log_detail`].

mod kind;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use models::tasks::InputError;
use router::idempotency::IdempotencyError;
use router::limit::LimitError;
use router::store::StoreError;
use router::{AdministrationError, AuthenticationError, CredentialError, JwtError};
use serde::Serialize;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

pub use kind::{ErrorKind, Retry, grpc_name};

/// Path of the page that explains the codes.
pub const DOCS_PATH: &str = "/docs/errors";

/// Where the codes are explained; the path alone until it is said. Of the whole process, as its log is: an error is made where
/// nothing else is known but what went wrong.
static DOCS_URL: OnceLock<String> = OnceLock::new();

/// Says where the codes are explained, for all errors from now on. The first one to say so counts.
pub fn set_docs_url(url: String) {
    // Another server of this process has said it: the page is the same.
    let _ = DOCS_URL.set(url);
}

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
    IdempotencyInProgress {
        /// When it is over: at the latest, where its server may have been killed.
        retry_after: Duration,
    },
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

/// Code and statuses of an error.
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

impl ApiError {
    /// A fault of ours: `detail` goes to the log, never to the client.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        Self::Internal { detail: detail.to_string() }
    }

    /// Code and statuses.
    pub fn row(&self) -> Row {
        self.kind().row()
    }

    /// The error's row in the table.
    pub fn kind(&self) -> ErrorKind {
        use ErrorKind as Kind;
        match self {
            Self::Authentication(AuthenticationError::Credential(e)) => match e {
                CredentialError::Missing => Kind::MissingCredentials,
                CredentialError::Scheme | CredentialError::Malformed => Kind::MalformedCredentials,
            },
            Self::Authentication(
                AuthenticationError::UnknownKey
                | AuthenticationError::RevokedKey
                | AuthenticationError::ExpiredKey
                | AuthenticationError::UnknownService
                | AuthenticationError::NotLoopback
                | AuthenticationError::NotLocalHost
                | AuthenticationError::JwtNotConfigured,
            ) => Kind::InvalidCredentials,
            Self::Authentication(AuthenticationError::TestKey) => Kind::TestKeyRefused,
            Self::Authentication(AuthenticationError::Jwt(JwtError::NoKeys)) => Kind::IssuerUnavailable,
            Self::Authentication(AuthenticationError::Jwt(_)) => Kind::InvalidToken,
            Self::Authentication(AuthenticationError::AccountsUnread) => Kind::StoreUnavailable,
            Self::Authentication(AuthenticationError::UnknownTenant) => Kind::UnknownTenant,
            Self::Authentication(AuthenticationError::Suspended) => Kind::AccountSuspended,
            Self::Limit(error) => limit_kind(error),
            Self::Administration(error) => administration_kind(error),
            Self::StoreUnavailable { .. } => Kind::StoreUnavailable,
            Self::Forbidden { .. } => Kind::Forbidden,
            Self::RouteNotFound | Self::OperationsRouteNotFound => Kind::NotFound,
            Self::MethodNotAllowed => Kind::MethodNotAllowed,
            Self::UnsupportedMediaType { .. } => Kind::UnsupportedMediaType,
            Self::UnsupportedContentEncoding => Kind::UnsupportedContentEncoding,
            Self::InvalidContentEncoding { .. } => Kind::InvalidContentEncoding,
            Self::BodyTooLarge { .. } => Kind::BodyTooLarge,
            Self::HeadersTooLarge { .. } => Kind::HeadersTooLarge,
            Self::UriTooLong { .. } => Kind::UriTooLong,
            Self::MalformedRequest => Kind::MalformedRequest,
            Self::ServiceNotFound => Kind::ServiceNotFound,
            Self::UnsupportedCompression => Kind::UnsupportedCompression,
            Self::BodyIncomplete => Kind::BodyIncomplete,
            Self::InvalidUtf8 { .. } => Kind::InvalidUtf8,
            Self::InvalidJson { .. } => Kind::InvalidJson,
            Self::InvalidRequest { .. } => Kind::InvalidRequest,
            Self::Input(error) => input_kind(error),
            Self::ModelNotFound => Kind::ModelNotFound,
            Self::ModelRequired { .. } => Kind::ModelRequired,
            Self::WrongTask { .. } => Kind::WrongTask,
            Self::ModelUnavailable { .. } => Kind::ModelUnavailable,
            Self::Overloaded { .. } => Kind::Overloaded,
            Self::AnswersUnread { .. } => Kind::AnswersUnread,
            Self::DeadlineInfeasible { .. } => Kind::DeadlineInfeasible,
            Self::IdempotencyKeyReused => Kind::IdempotencyKeyReused,
            Self::IdempotencyInProgress { .. } => Kind::IdempotencyInProgress,
            Self::IdempotencyAnswerTooLarge => Kind::IdempotencyAnswerTooLarge,
            Self::IdempotencyFull(_) => Kind::IdempotencyFull,
            Self::DeadlineExceeded => Kind::DeadlineExceeded,
            Self::Starting => Kind::Starting,
            Self::ShuttingDown => Kind::ShuttingDown,
            Self::Internal { .. } => Kind::Internal,
        }
    }

    /// When to try again, where the error knows.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after }
            | Self::AnswersUnread { retry_after }
            | Self::DeadlineInfeasible { retry_after }
            | Self::IdempotencyInProgress { retry_after } => Some(*retry_after),
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
            let subject = format!("{}/{}", unit.name(), window.name());
            details.add_quota_failure_violation(subject, error.to_string());
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
    format!("{}#{code}", DOCS_URL.get().map_or(DOCS_PATH, String::as_str))
}

fn limit_kind(error: &LimitError) -> ErrorKind {
    use ErrorKind as Kind;
    match error {
        LimitError::Exceeded { .. } => Kind::RateLimitExceeded,
        LimitError::Concurrency { .. } => Kind::ConcurrencyLimitExceeded,
        LimitError::TooMuch { .. } => Kind::OverPlanLimit,
        LimitError::Unavailable => Kind::LimitsUnavailable,
    }
}

fn administration_kind(error: &AdministrationError) -> ErrorKind {
    use ErrorKind as Kind;
    match error {
        AdministrationError::NoTenant => Kind::TenantNotFound,
        AdministrationError::NoAccount => Kind::TenantNotManaged,
        AdministrationError::TooManyKeys { .. } => Kind::TooManyKeys,
        AdministrationError::AlreadyMade(_) => Kind::SecretShownOnce,
        AdministrationError::NoKey => Kind::KeyNotFound,
        AdministrationError::AboveRole => Kind::Forbidden,
        AdministrationError::TenantExists => Kind::TenantExists,
        AdministrationError::NotActive => Kind::KeyNotActive,
        AdministrationError::Reserved
        | AdministrationError::Plan(_)
        | AdministrationError::Label
        | AdministrationError::TestKey
        | AdministrationError::Past => Kind::InvalidRequest,
        AdministrationError::Store(StoreError::Conflict) => Kind::Conflict,
        AdministrationError::Random(_)
        | AdministrationError::Store(StoreError::Unavailable(_) | StoreError::Corrupt(_)) => Kind::Internal,
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

fn input_kind(error: &InputError) -> ErrorKind {
    match error {
        InputError::None => ErrorKind::NoInputs,
        InputError::TooMany { .. } => ErrorKind::TooManyInputs,
        InputError::Empty { .. } | InputError::Invisible { .. } => ErrorKind::EmptyInput,
        InputError::Nul { .. } => ErrorKind::NulCharacter,
        InputError::TooLong { .. } => ErrorKind::InputTooLong,
        InputError::Parameter { .. } => ErrorKind::InvalidParameter,
        InputError::Tokenize { .. } => ErrorKind::UnreadableInput,
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
