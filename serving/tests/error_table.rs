//! The error table, held by a snapshot: codes and statuses are part of the API.

use std::fmt::Write;
use std::time::Duration;

use models::tasks::{InputError, LengthUnit, Remedy};
use router::idempotency::{IdempotencyError, Room};
use router::limit::{LimitError, Unit, Window};
use router::store::StoreError;
use router::{AdministrationError, AuthenticationError, CredentialError, JwtError};
use serving::error::ApiError;

/// One of each; a variant left out here shows in the table's length.
fn every_error() -> Vec<ApiError> {
    let field = || "parameters.top_k".to_owned();
    vec![
        ApiError::Authentication(CredentialError::Missing.into()),
        ApiError::Authentication(CredentialError::Scheme.into()),
        ApiError::Authentication(CredentialError::Malformed.into()),
        ApiError::Authentication(AuthenticationError::UnknownKey),
        ApiError::Authentication(AuthenticationError::UnknownService),
        ApiError::Authentication(AuthenticationError::NotLoopback),
        ApiError::Authentication(AuthenticationError::NotLocalHost),
        ApiError::Authentication(AuthenticationError::TestKey),
        ApiError::Authentication(AuthenticationError::JwtNotConfigured),
        ApiError::Authentication(AuthenticationError::RevokedKey),
        ApiError::Authentication(AuthenticationError::ExpiredKey),
        ApiError::Authentication(AuthenticationError::Suspended),
        ApiError::Authentication(AuthenticationError::UnknownTenant),
        ApiError::Authentication(AuthenticationError::AccountsUnread),
        ApiError::Authentication(JwtError::Malformed.into()),
        ApiError::Authentication(JwtError::Algorithm.into()),
        ApiError::Authentication(JwtError::Header("crit").into()),
        ApiError::Authentication(JwtError::UnknownKey.into()),
        ApiError::Authentication(JwtError::Signature.into()),
        ApiError::Authentication(JwtError::Claim("aud").into()),
        ApiError::Authentication(JwtError::Lifetime.into()),
        ApiError::Authentication(JwtError::Expired.into()),
        ApiError::Authentication(JwtError::NotYetValid.into()),
        ApiError::Authentication(JwtError::NoKeys.into()),
        ApiError::Limit(LimitError::Exceeded {
            unit: Unit::Requests,
            window: Window::Minute,
            limit: 100,
            left: 16,
            retry_after: Duration::from_secs(7),
        }),
        ApiError::Limit(LimitError::Exceeded {
            unit: Unit::Tokens,
            window: Window::Day,
            limit: 5000,
            left: 0,
            retry_after: Duration::from_secs(3600),
        }),
        ApiError::Limit(LimitError::TooMuch {
            unit: Unit::Requests,
            window: Window::Minute,
            limit: 100,
            amount: 128,
        }),
        ApiError::Limit(LimitError::Concurrency { limit: 16 }),
        ApiError::Limit(LimitError::Unavailable),
        AdministrationError::NoTenant.into(),
        AdministrationError::NoKey.into(),
        AdministrationError::NoAccount.into(),
        AdministrationError::TooManyKeys { limit: 1000 }.into(),
        AdministrationError::TestKey.into(),
        AdministrationError::AboveRole.into(),
        AdministrationError::TenantExists.into(),
        AdministrationError::Reserved.into(),
        AdministrationError::Label.into(),
        AdministrationError::Past.into(),
        AdministrationError::NotActive.into(),
        AdministrationError::Store(StoreError::Conflict).into(),
        AdministrationError::Store(StoreError::Unavailable("for the log".to_owned())).into(),
        AdministrationError::Store(StoreError::Corrupt("for the log".to_owned())).into(),
        ApiError::Forbidden { needed: "editor" },
        ApiError::RouteNotFound,
        ApiError::OperationsRouteNotFound,
        ApiError::MethodNotAllowed,
        ApiError::UnsupportedMediaType { expected: "application/json" },
        ApiError::UnsupportedContentEncoding,
        ApiError::InvalidContentEncoding { coding: "gzip" },
        ApiError::BodyTooLarge { limit: 8_388_608 },
        ApiError::HeadersTooLarge { bytes_max: 65_536, fields_max: 100 },
        ApiError::UriTooLong { limit: 16_384 },
        ApiError::MalformedRequest,
        ApiError::ServiceNotFound,
        ApiError::UnsupportedCompression,
        ApiError::BodyIncomplete,
        ApiError::InvalidUtf8 { offset: 12 },
        ApiError::InvalidJson { problem: "expected value".to_owned(), line: 1, column: 2 },
        ApiError::InvalidRequest { field: field(), problem: "expected u32, got string".to_owned() },
        ApiError::Input(InputError::None),
        ApiError::Input(InputError::TooMany { inputs: 200, limit: 128 }),
        ApiError::Input(InputError::Empty { index: 3 }),
        ApiError::Input(InputError::Invisible { index: 3 }),
        ApiError::Input(InputError::Nul { index: 3, offset: 17 }),
        ApiError::Input(InputError::TooLong {
            index: 0,
            length: 600,
            is_counted: true,
            limit: 512,
            unit: LengthUnit::Tokens,
            remedy: Remedy::Windows { limit: 20_000 },
        }),
        ApiError::Input(InputError::TooLong {
            index: 0,
            length: 20_001,
            is_counted: false,
            limit: 20_000,
            unit: LengthUnit::Tokens,
            remedy: Remedy::Part,
        }),
        ApiError::Input(InputError::TooLong {
            index: 0,
            length: 20_001,
            is_counted: false,
            limit: 20_000,
            unit: LengthUnit::Words,
            remedy: Remedy::Inputs,
        }),
        ApiError::Input(InputError::Parameter {
            name: "top_k",
            message: "must be between 1 and 11".to_owned(),
        }),
        ApiError::ModelNotFound,
        ApiError::ModelRequired { task: "embeddings", candidates: "one, two".to_owned() },
        ApiError::WrongTask { model: "ner-v2".to_owned(), offers: "entities", asked: "sentiment" },
        ApiError::ModelUnavailable { model: "ner-v2".to_owned(), reason: "for the log".to_owned() },
        ApiError::Overloaded { retry_after: Duration::from_millis(1500) },
        ApiError::AnswersUnread { retry_after: Duration::from_secs(1) },
        ApiError::DeadlineInfeasible { retry_after: Duration::from_millis(40) },
        ApiError::IdempotencyKeyReused,
        ApiError::IdempotencyInProgress,
        ApiError::IdempotencyAnswerTooLarge,
        IdempotencyError::Full(Room { answers: 1000, bytes: 1 << 20 }).into(),
        ApiError::DeadlineExceeded,
        ApiError::Starting,
        ApiError::ShuttingDown,
        ApiError::internal("for the log"),
    ]
}

#[test]
fn the_table() {
    let mut table = String::new();
    for error in every_error() {
        let row = error.row();
        let retry = error.retry_after().map_or(String::new(), |after| format!(" retry after {after:?}"));
        let _ = writeln!(table, "{} {} {:?}{retry}: {error}", row.http.as_u16(), row.code, row.grpc);
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_log_knows_more_than_the_client() {
    for error in every_error() {
        let shown = format!("{}{:?}", error, error.to_status("req_1").message());
        if let Some(detail) = error.log_detail() {
            assert!(!shown.contains(detail), "{shown}");
        }
    }
}
