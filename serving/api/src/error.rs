//! Every way a request can fail, and the one table of error codes.
//!
//! [`ApiError::kind`] matches exhaustively, so that a new failure does not compile until it has a row of the
//! table, [`ErrorKind`]; what inner crates refuse comes as a [`Refusal`], which names its row. A snapshot
//! test keeps the table from changing unnoticed. The message goes to the client and never quotes an input;
//! what only the operator may know goes to the log through [`ApiError::log_detail`]. What an error looks like
//! on a wire is its protocol's business.

mod grpc_code;
mod kind;

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use models_core::tasks::InputError;

pub use grpc_code::GrpcCode;
pub use kind::{ErrorKind, Retry};

use crate::quota::Exceeded;

/// Path of the page that explains the codes.
pub const DOCS_PATH: &str = "/docs/errors";

/// Where the codes are explained; the path alone until it is said. Of the whole process, as its log is: an
/// error is made where nothing else is known but what went wrong.
static DOCS_URL: OnceLock<String> = OnceLock::new();

/// Says where the codes are explained, for all errors from now on. The first one to say so counts.
pub fn set_docs_url(url: String) {
    // Another server of this process has said it: the page is the same.
    let _ = DOCS_URL.set(url);
}

/// Why a request was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// Refused by whoever looks after callers, their limits, their keys and their kept answers.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
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
        /// `Content-Encoding` of the body.
        coding: &'static str,
    },
    /// The body is over the limit.
    #[error("the request body is over the limit of {limit} bytes")]
    BodyTooLarge {
        /// `[limits] body_bytes_max`.
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
        /// `[limits] body_bytes_max`.
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
    /// The inputs cannot be run, in the words of a protocol that calls them otherwise.
    #[error("{message}")]
    Worded {
        /// Why.
        error: InputError,
        /// The field, as the caller knows it.
        field: String,
        /// What is wrong with it, as the caller can mend it.
        message: String,
    },
    /// No model of that name.
    #[error("no such model; GET /v1/ml/models lists them")]
    ModelNotFound,
    /// The call names no model, and none is stated to be the task's default.
    #[error("name a model: {task} has no default here; there are {candidates}")]
    ModelRequired {
        /// Name of the task that the model does.
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

/// Why a call was refused by what stands behind the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its row in the table.
    pub kind: ErrorKind,
    /// What is wrong, for a person.
    pub message: String,
    /// When to try again, where that is known.
    pub retry_after: Option<Duration>,
    /// The limit that was reached, if that is why.
    pub limit: Option<ReachedLimit>,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReachedLimit {
    /// As metrics name it.
    pub name: &'static str,
    /// How much of it is left, where it is counted.
    pub exceeded: Option<Exceeded>,
}

/// Code and statuses of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable, machine-readable code.
    pub code: &'static str,
    /// Status over REST.
    pub http: StatusCode,
    /// Status over gRPC.
    pub grpc: GrpcCode,
}

/// The error that a response tells, in the response's extensions.
#[derive(Debug, Clone, Copy)]
pub struct ErrorCode(pub ErrorKind);

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
            Self::Refused(refusal) => refusal.kind,
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
            Self::Input(error) | Self::Worded { error, .. } => input_kind(error),
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
            Self::Refused(refusal) => refusal.retry_after,
            Self::StoreUnavailable { .. } | Self::Starting | Self::ShuttingDown => {
                Some(Duration::from_secs(1))
            }
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

    /// The limit that was reached, as metrics name it.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => refusal.limit.as_ref().map(|limit| limit.name),
            _ => None,
        }
    }

    /// The limit that was reached, and what is left of it, where that is counted.
    pub fn exceeded(&self) -> Option<&Exceeded> {
        match self {
            Self::Refused(refusal) => refusal.limit.as_ref()?.exceeded.as_ref(),
            _ => None,
        }
    }

    /// The field of the request that is wrong, and what is wrong with it.
    pub fn field_violation(&self) -> Option<(String, String)> {
        match self {
            Self::InvalidRequest { field, problem } => Some((field.clone(), problem.clone())),
            Self::Input(e) => Some((e.field(), e.to_string())),
            Self::Worded { field, message, .. } => Some((field.clone(), message.clone())),
            _ => None,
        }
    }
}

/// Where a code is explained.
pub fn docs_url(code: &str) -> String {
    format!("{}#{code}", DOCS_URL.get().map_or(DOCS_PATH, String::as_str))
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

fn input_kind(error: &InputError) -> ErrorKind {
    match error {
        InputError::None => ErrorKind::NoInputs,
        InputError::TooMany { .. } | InputError::TooManyVectors { .. } => ErrorKind::TooManyInputs,
        InputError::Empty { .. } | InputError::Invisible { .. } => ErrorKind::EmptyInput,
        InputError::Nul { .. } => ErrorKind::NulCharacter,
        InputError::TooLong { .. } => ErrorKind::InputTooLong,
        InputError::Parameter { .. } => ErrorKind::InvalidParameter,
        InputError::Tokenize { .. } => ErrorKind::UnreadableInput,
        InputError::Form { .. } | InputError::ForeignToken { .. } | InputError::Padding { .. } => {
            ErrorKind::InvalidRequest
        }
    }
}
