//! The error table: every code that a caller can see, with what it means and what to do about it. The page of
//! errors that the server serves, `docs/errors.md` and the statuses of both protocols are made from it.

use http::StatusCode;

use super::{GrpcCode, Row};

/// Whether it helps to send the same call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call fails again until its cause is mended.
    Never,
    /// After the time that the error names: `Retry-After`, or `RetryInfo` over gRPC.
    Hinted,
    /// After a while that doubles from call to call.
    Backoff,
}

impl Retry {
    /// For a person.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Never => "no",
            Self::Hinted => "after `Retry-After`",
            Self::Backoff => "with backoff",
        }
    }
}

macro_rules! error_kinds {
    ($($(#[doc = $meaning:literal])+ $name:ident = $code:literal, $http:ident, $grpc:ident, $retry:ident: $remedy:literal;)+) => {
        /// One row of the error table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorKind {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl ErrorKind {
            /// Every row.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Code and statuses.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row { code: $code, http: StatusCode::$http, grpc: GrpcCode::$grpc },)+
                }
            }

            /// What happened, for a person; names in backticks.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($meaning),+).trim_start(),)+
                }
            }

            /// What the caller can do; names in backticks.
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$name => $remedy,)+
                }
            }

            /// Whether it helps to send the same call again.
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)+
                }
            }
        }
    };
}

error_kinds! {
    // Who calls.
    /// The call has no credentials.
    MissingCredentials = "missing_credentials", UNAUTHORIZED, Unauthenticated, Never:
        "Send the header `Authorization: Bearer <API key or JWT>`; over gRPC the metadata entry `authorization`.";
    /// The `Authorization` header is not `Bearer` followed by an API key or a JWT.
    MalformedCredentials = "malformed_credentials", UNAUTHORIZED, Unauthenticated, Never:
        "Send `Authorization: Bearer tc_live_…`, or a JWT of three parts with dots between.";
    /// The API key, the operator's token or the client certificate is unknown, revoked or expired, or is not
    /// accepted from where the call comes.
    InvalidCredentials = "invalid_credentials", UNAUTHORIZED, Unauthenticated, Never:
        "The message says which. Ask whoever manages your tenant's keys for another one. The development key works from the \
         same machine only.";
    /// A test key (`tc_test_…`) on a server that is not a sandbox.
    TestKeyRefused = "test_key_refused", UNAUTHORIZED, Unauthenticated, Never:
        "Use a `tc_live_…` key here, or send the call to the sandbox.";
    /// The JWT is malformed, expired, not yet valid, or not of the issuer and audience that are accepted.
    InvalidToken = "invalid_token", UNAUTHORIZED, Unauthenticated, Never:
        "The message names the claim or check that failed. Fetch a new token from the issuer.";
    /// The issuer's public keys could not be fetched yet, so no JWT can be checked.
    IssuerUnavailable = "issuer_unavailable", SERVICE_UNAVAILABLE, Unavailable, Backoff:
        "Retry. API keys work meanwhile.";
    /// The tenant named by the JWT is not known here, and the token names no plan.
    UnknownTenant = "unknown_tenant", FORBIDDEN, PermissionDenied, Never:
        "Ask the operator to create the tenant, or have the issuer put a plan into the token.";
    /// The tenant is suspended.
    AccountSuspended = "account_suspended", FORBIDDEN, PermissionDenied, Never:
        "Ask the operator why.";
    /// The role of these credentials does not cover the call.
    Forbidden = "forbidden", FORBIDDEN, PermissionDenied, Never:
        "The message names the role that is needed: `viewer` reads, `editor` calls models, `admin` manages keys, `owner` sees \
         costs.";

    // How much.
    /// The plan's limit of inputs or tokens, in any 60 s or in the UTC day, is used up.
    RateLimitExceeded = "rate_limit_exceeded", TOO_MANY_REQUESTS, ResourceExhausted, Hinted:
        "Wait for `Retry-After`; the headers `RateLimit` and `RateLimit-Policy` say what is left. Over gRPC the details hold \
         `RetryInfo` and `QuotaFailure`.";
    /// As many calls of the tenant are being answered as its plan allows at once.
    ConcurrencyLimitExceeded = "concurrency_limit_exceeded", TOO_MANY_REQUESTS, ResourceExhausted, Hinted:
        "Keep fewer calls in flight, or put more inputs into each.";
    /// The call alone is larger than the plan's limit, so it could never be admitted.
    OverPlanLimit = "over_plan_limit", BAD_REQUEST, FailedPrecondition, Never:
        "Split the call, or ask for a larger plan.";
    /// Limits cannot be checked because the shared store does not answer, and this server is configured to
    /// refuse then.
    LimitsUnavailable = "limits_unavailable", SERVICE_UNAVAILABLE, Unavailable, Hinted:
        "Retry after `Retry-After`.";

    // The request's form.
    /// There is no such route.
    NotFound = "not_found", NOT_FOUND, Unimplemented, Never:
        "The routes of the API are under `/v1/ml`. Metrics, health and administration are on the operations port.";
    /// The route exists and does not take this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Unimplemented, Never:
        "The header `Allow` lists the methods that it takes.";
    /// The body is not declared as what the route takes, or not as UTF-8.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, InvalidArgument, Never:
        "Send `Content-Type: application/json`; over gRPC `application/grpc`.";
    /// The body is in a content coding that is not supported.
    UnsupportedContentEncoding = "unsupported_content_encoding", UNSUPPORTED_MEDIA_TYPE, Unimplemented, Never:
        "Send the body as it is, or with one of `gzip` and `deflate`.";
    /// The body cannot be decoded by the coding that `Content-Encoding` names.
    InvalidContentEncoding = "invalid_content_encoding", BAD_REQUEST, InvalidArgument, Never:
        "Check what compresses the body, or send it as it is.";
    /// A gRPC message is compressed in a way that is not supported.
    UnsupportedCompression = "unsupported_compression", UNSUPPORTED_MEDIA_TYPE, Unimplemented, Never:
        "Use identity, `gzip` or `deflate`.";
    /// The body, or what it decompresses to, is over the limit. The limit is in the message.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, ResourceExhausted, Never:
        "Send fewer or shorter inputs in one call.";
    /// The headers are over a limit, of bytes or of fields. Both are in the message.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, ResourceExhausted, Never:
        "Send fewer or shorter headers.";
    /// The path and query are over the limit. The limit is in the message.
    UriTooLong = "uri_too_long", URI_TOO_LONG, InvalidArgument, Never:
        "Put what is long into the body.";
    /// What came is not a request of HTTP/1.1: its first line or a header is malformed.
    MalformedRequest = "malformed_request", BAD_REQUEST, InvalidArgument, Never:
        "Use an HTTP client rather than a socket, and check what proxies add.";
    /// gRPC's health protocol: there is no service of that name.
    ServiceNotFound = "service_not_found", NOT_FOUND, NotFound, Never:
        "Ask for `ml.inference.v1.InferenceService`, a model, or nothing for the whole server.";
    /// The body did not arrive in time, or the connection broke while it did.
    BodyIncomplete = "body_incomplete", REQUEST_TIMEOUT, Cancelled, Backoff:
        "Send the whole body; check the connection.";
    /// The body is not UTF-8. The message has the offset of the first invalid byte.
    InvalidUtf8 = "invalid_utf8", BAD_REQUEST, InvalidArgument, Never:
        "Encode the body as UTF-8.";
    /// The body is not JSON. The message has line and column.
    InvalidJson = "invalid_json", BAD_REQUEST, InvalidArgument, Never:
        "Send one JSON object. Lone surrogates such as `\\ud83d` are no text.";
    /// A field is missing, unknown, of the wrong type or out of range. The message names it.
    InvalidRequest = "invalid_request", BAD_REQUEST, InvalidArgument, Never:
        "Correct the field that the message names. Over gRPC the details hold `BadRequest`.";

    // The inputs.
    /// `inputs` is empty.
    NoInputs = "no_inputs", BAD_REQUEST, InvalidArgument, Never:
        "Send at least one text.";
    /// There are more inputs than the model takes in one call. The limit is in the message.
    TooManyInputs = "too_many_inputs", BAD_REQUEST, InvalidArgument, Never:
        "Split the call. `GET /v1/ml/models` shows `limits.inputs_max`.";
    /// An input is empty, or has nothing but white space and invisible characters.
    EmptyInput = "empty_input", BAD_REQUEST, InvalidArgument, Never:
        "Leave it out, or send `\"on_error\": \"partial\"` to have the other inputs answered.";
    /// An input contains the character NUL (U+0000).
    NulCharacter = "nul_character", BAD_REQUEST, InvalidArgument, Never:
        "Remove it; the message has its position.";
    /// An input is longer than the model reads. The message has its length, the limit and what would help.
    InputTooLong = "input_too_long", BAD_REQUEST, InvalidArgument, Never:
        "Shorten it, or choose a `truncation` that reads it in windows (`stride`) or cuts it (`end`, `start`).";
    /// A parameter does not go with the model, or is out of its range.
    InvalidParameter = "invalid_parameter", BAD_REQUEST, InvalidArgument, Never:
        "Correct the parameter that the message names.";
    /// An input could not be tokenised.
    UnreadableInput = "unreadable_input", BAD_REQUEST, InvalidArgument, Never:
        "Leave it out, and report the request id.";

    // The model.
    /// There is no model of that name.
    ModelNotFound = "model_not_found", NOT_FOUND, NotFound, Never:
        "`GET /v1/ml/models` lists the models.";
    /// The call names no model, and none is the default of its task here.
    ModelRequired = "model_required", BAD_REQUEST, InvalidArgument, Never:
        "Send `model`; the message lists the models that do the task.";
    /// The model does another task than the route is for.
    WrongTask = "wrong_task", BAD_REQUEST, InvalidArgument, Never:
        "Use the route of the model's task, or another model.";
    /// The model is known and not loaded.
    ModelUnavailable = "model_unavailable", SERVICE_UNAVAILABLE, Unavailable, Backoff:
        "`GET /v1/ml/models` says why. The operator has to mend it.";

    /// The model cannot be loaded, or not in the place of the one that answers; that one goes on answering.
    ModelNotLoadable = "model_not_loadable", UNPROCESSABLE_ENTITY, FailedPrecondition, Never:
        "The message says what is wrong with the model's card or files.";
    /// There is no room for the model beside those that are loaded.
    ModelDoesNotFit = "model_does_not_fit", INSUFFICIENT_STORAGE, ResourceExhausted, Never:
        "Unload a model that is not needed; the message says how much room there is.";

    // Capacity and time.
    /// The server has no capacity for the call now.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Unavailable, Hinted:
        "Wait for `Retry-After`, or ask another server.";
    /// Answers to the tenant that its peers do not read fill its share of the memory for answers.
    AnswersUnread = "answers_unread", TOO_MANY_REQUESTS, ResourceExhausted, Hinted:
        "Read the answers that wait, or close their connections; then wait for `Retry-After`.";
    /// The deadline that the caller set cannot be met with what waits before the call.
    DeadlineInfeasible = "deadline_infeasible", SERVICE_UNAVAILABLE, Unavailable, Hinted:
        "Wait for `Retry-After`, ask another server, or allow more time.";
    /// The deadline passed before there was an answer.
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, DeadlineExceeded, Backoff:
        "Allow more time (`X-Request-Timeout`, `timeout_ms`, the gRPC deadline), or send less in one call.";
    /// The server is loading its models.
    Starting = "starting", SERVICE_UNAVAILABLE, Unavailable, Hinted:
        "Retry after `Retry-After`; `/readyz` on the operations port says when it is ready.";
    /// The server is shutting down and takes no new calls.
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE, Unavailable, Hinted:
        "Open a new connection, which a load balancer leads to another server.";

    // Idempotency keys.
    /// The `Idempotency-Key` was used before for another request, or with other credentials of the tenant.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, FailedPrecondition, Never:
        "Make a new key for every request; send the same one only with the same body and credentials.";
    /// The first request with this `Idempotency-Key` is not answered yet.
    IdempotencyInProgress = "idempotency_in_progress", CONFLICT, Aborted, Hinted:
        "Retry after `Retry-After`.";
    /// The first request with this `Idempotency-Key` was answered and charged, and its answer was too large
    /// to be kept.
    IdempotencyAnswerTooLarge = "idempotency_answer_too_large", UNPROCESSABLE_ENTITY, FailedPrecondition, Never:
        "Send smaller calls under idempotency keys.";
    /// The tenant's kept answers have reached their bound.
    IdempotencyFull = "idempotency_full", TOO_MANY_REQUESTS, ResourceExhausted, Hinted:
        "Answers are dropped after a day. Meanwhile calls without an `Idempotency-Key` are answered.";

    // Tenants and keys.
    /// There is no such tenant.
    TenantNotFound = "tenant_not_found", NOT_FOUND, NotFound, Never:
        "`ml-inference tenants list` shows them.";
    /// The tenant is known by its JWTs alone and has no keys here.
    TenantNotManaged = "tenant_not_managed", CONFLICT, FailedPrecondition, Never:
        "Have the operator create the tenant (`ml-inference tenants create`); then it can have keys.";
    /// There is a tenant of that name already.
    TenantExists = "tenant_exists", CONFLICT, AlreadyExists, Never:
        "Change it instead (`ml-inference tenants plan`).";
    /// The tenant has no such key.
    KeyNotFound = "key_not_found", NOT_FOUND, NotFound, Never:
        "`GET /v1/ml/keys` lists the keys with their ids.";
    /// The key is revoked, expired or was rotated before, so it cannot be rotated.
    KeyNotActive = "key_not_active", CONFLICT, FailedPrecondition, Never:
        "Create a new key.";
    /// The tenant has as many keys as it may have.
    TooManyKeys = "too_many_keys", CONFLICT, ResourceExhausted, Never:
        "Revoke some. Keys that were revoked or have expired count for 30 days more.";
    /// The request was sent before and made a key then, which is shown once. The repeated request is answered
    /// with status 200, the key's record, and this code in its field `code`.
    SecretShownOnce = "secret_shown_once", CONFLICT, AlreadyExists, Never:
        "If the key is lost, revoke it and create another under a new `Idempotency-Key`.";
    /// Somebody else changed tenants or keys at the same time.
    Conflict = "conflict", CONFLICT, Aborted, Backoff:
        "Send the change again.";

    // Ours.
    /// The store of tenants and usage does not answer.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE, Unavailable, Hinted:
        "Retry after `Retry-After`.";
    /// A fault of the server.
    Internal = "internal", INTERNAL_SERVER_ERROR, Internal, Backoff:
        "Retry; if it stays, report the `request_id`.";
}

impl ErrorKind {
    /// The row of a code.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.row().code == code)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_whole_and_codes_are_unique() {
        let codes: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.row().code).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len(), "two rows have one code");
        for kind in ErrorKind::ALL {
            for text in [kind.meaning(), kind.remedy()] {
                assert!(
                    text.ends_with('.') && text.matches('`').count().is_multiple_of(2),
                    "{kind:?}: {text}"
                );
            }
            let hints = kind.remedy().contains("Retry-After");
            assert!(!hints || kind.retry() == Retry::Hinted, "{kind:?} names a hint that it does not give");
        }
    }
}
