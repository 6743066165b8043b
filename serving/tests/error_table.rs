//! The error table, held by a snapshot: codes and statuses are part of the API.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use batching::{ConfigError, ModelChangeError};
use models::catalog::{OutOfNumbers, UnavailableError};
use models::tasks::{InputError, LengthUnit, Remedy};
use models::{ChangeError, LoadError};
use protocols::grpc::status;
use router::accounts::{KeyState, KeyView};
use router::idempotency::{IdempotencyError, Room};
use router::limit::LimitError;
use router::store::StoreError;
use router::{
    AdministrationError, AuthenticationError, CredentialError, JwtError, Mode, Plan, Role, Terms, WallTime,
};
use serving::error::{ApiError, ErrorKind, Retry, TableError};
use serving::lifecycle::NotLoaded;
use units::{ModelId, Period, Unit};

/// Errors by the pattern that each of them matches. The patterns together are a `match` without a wildcard,
/// so a variant that is not here does not compile, here as in the table itself.
macro_rules! one_of_each {
    ($type:ty { $($pattern:pat => [$($example:expr),* $(,)?],)+ }) => {{
        fn all_are_here(error: &$type) {
            match error { $($pattern => (),)+ }
        }
        let mut examples: Vec<$type> = Vec::new();
        $($(
            let example = $example;
            assert!(matches!(&example, $pattern), "{example:?} is not what its row is for");
            all_are_here(&example);
            examples.push(example);
        )*)+
        examples
    }};
}

fn detail() -> String {
    "for the log".to_owned()
}

fn too_long(length: usize, unit: LengthUnit, remedy: Remedy) -> ApiError {
    let (is_counted, limit) = if length == 600 { (true, 512) } else { (false, 20_000) };
    ApiError::Input(InputError::TooLong { index: 0, length, is_counted, limit, unit, remedy })
}

fn every_authentication_error() -> Vec<AuthenticationError> {
    use AuthenticationError as E;
    one_of_each!(AuthenticationError {
        E::Credential(CredentialError::Missing) => [CredentialError::Missing.into()],
        E::Credential(CredentialError::Scheme) => [CredentialError::Scheme.into()],
        E::Credential(CredentialError::Malformed) => [CredentialError::Malformed.into()],
        E::UnknownKey => [E::UnknownKey],
        E::UnknownService => [E::UnknownService],
        E::NotLoopback => [E::NotLoopback],
        E::NotLocalHost => [E::NotLocalHost],
        E::TestKey => [E::TestKey],
        E::JwtNotConfigured => [E::JwtNotConfigured],
        E::RevokedKey => [E::RevokedKey],
        E::ExpiredKey => [E::ExpiredKey],
        E::Suspended => [E::Suspended],
        E::UnknownTenant => [E::UnknownTenant],
        E::AccountsUnread => [E::AccountsUnread],
        E::Jwt(JwtError::Malformed) => [JwtError::Malformed.into()],
        E::Jwt(JwtError::Algorithm) => [JwtError::Algorithm.into()],
        E::Jwt(JwtError::Header(_)) => [JwtError::Header("crit").into()],
        E::Jwt(JwtError::UnknownKey) => [JwtError::UnknownKey.into()],
        E::Jwt(JwtError::Signature) => [JwtError::Signature.into()],
        E::Jwt(JwtError::Claim(_)) => [JwtError::Claim("aud").into()],
        E::Jwt(JwtError::Lifetime) => [JwtError::Lifetime.into()],
        E::Jwt(JwtError::Expired) => [JwtError::Expired.into()],
        E::Jwt(JwtError::NotYetValid) => [JwtError::NotYetValid.into()],
        E::Jwt(JwtError::NoKeys) => [JwtError::NoKeys.into()],
    })
}

fn every_limit_error() -> Vec<LimitError> {
    use LimitError as E;
    let exceeded = |unit, period, limit, left, seconds| E::Exceeded {
        unit,
        period,
        limit,
        left,
        retry_after: Duration::from_secs(seconds),
    };
    let (unit, period) = (Unit::Inputs, Period::Minute);
    one_of_each!(LimitError {
        E::Exceeded { .. } => [
            exceeded(unit, period, 100, 16, 7),
            exceeded(Unit::Tokens, Period::Day, 5000, 0, 3600),
        ],
        E::TooMuch { .. } => [
            E::TooMuch { unit, period, limit: 100, amount: 128 },
        ],
        E::Concurrency { .. } => [E::Concurrency { limit: 16 }],
        E::Unavailable => [E::Unavailable],
    })
}

fn every_api_error() -> Vec<ApiError> {
    use ApiError as E;
    let field = || "parameters.top_k".to_owned();
    one_of_each!(ApiError {
        // What the functions above and below list.
        E::Refused(_) => [],
        E::StoreUnavailable { .. } => [E::StoreUnavailable { detail: detail() }],
        E::Forbidden { .. } => [E::Forbidden { needed: "editor" }],
        E::RouteNotFound => [E::RouteNotFound],
        E::OperationsRouteNotFound => [E::OperationsRouteNotFound],
        E::MethodNotAllowed => [E::MethodNotAllowed],
        E::UnsupportedMediaType { .. } => [E::UnsupportedMediaType { expected: "application/json" }],
        E::UnsupportedContentEncoding => [E::UnsupportedContentEncoding],
        E::InvalidContentEncoding { .. } => [E::InvalidContentEncoding { coding: "gzip" }],
        E::BodyTooLarge { .. } => [E::BodyTooLarge { limit: 8_388_608 }],
        E::HeadersTooLarge { .. } => [E::HeadersTooLarge { bytes_max: 65_536, fields_max: 100 }],
        E::UriTooLong { .. } => [E::UriTooLong { limit: 16_384 }],
        E::MalformedRequest => [E::MalformedRequest],
        E::ServiceNotFound => [E::ServiceNotFound],
        E::UnsupportedCompression => [E::UnsupportedCompression],
        E::BodyIncomplete => [E::BodyIncomplete],
        E::InvalidUtf8 { .. } => [E::InvalidUtf8 { offset: 12 }],
        E::InvalidJson { .. } => [E::InvalidJson { problem: "expected value".to_owned(), line: 1, column: 2 }],
        E::InvalidRequest { .. } => [
            E::InvalidRequest { field: field(), problem: "expected a number, got string".to_owned() },
        ],
        E::Input(InputError::None) => [E::Input(InputError::None)],
        E::Input(InputError::TooMany { .. }) => [E::Input(InputError::TooMany { inputs: 200, limit: 128 })],
        E::Input(InputError::TooManyVectors { .. }) => [
            E::Input(InputError::TooManyVectors { vectors: 20_000, limit: 8192 }),
        ],
        E::Input(InputError::Empty { .. }) => [E::Input(InputError::Empty { index: 3 })],
        E::Input(InputError::Invisible { .. }) => [E::Input(InputError::Invisible { index: 3 })],
        E::Input(InputError::Nul { .. }) => [E::Input(InputError::Nul { index: 3, offset: 17 })],
        E::Input(InputError::TooLong { .. }) => [
            too_long(600, LengthUnit::Tokens, Remedy::Windows { limit: 20_000 }),
            too_long(20_001, LengthUnit::Tokens, Remedy::Part),
            too_long(20_001, LengthUnit::Words, Remedy::Inputs),
        ],
        E::Input(InputError::Parameter { .. }) => [
            E::Input(InputError::Parameter { name: "top_k", message: "must be between 1 and 11".to_owned() }),
        ],
        E::Input(InputError::Tokenize { .. }) => [E::Input(InputError::Tokenize { index: 3 })],
        E::Input(InputError::Form { .. }) => [
            E::Input(InputError::Form { index: 3, found: "token ids", needed: "a text" }),
        ],
        E::Input(InputError::ForeignToken { .. }) => [E::Input(InputError::ForeignToken { index: 3, id: 279 })],
        E::Input(InputError::Padding { .. }) => [E::Input(InputError::Padding { index: 3, id: 0 })],
        E::Worded { .. } => [E::Worded {
            error: InputError::Empty { index: 3 },
            field: "documents[3]".to_owned(),
            message: "documents[3] is empty".to_owned(),
        }],
        E::ModelNotFound => [E::ModelNotFound],
        E::ModelRequired { .. } => [E::ModelRequired { task: "embeddings", candidates: "one, two".to_owned() }],
        E::WrongTask { .. } => [
            E::WrongTask { model: "ner-v2".to_owned(), offers: "entities", asked: "sentiment" },
        ],
        E::ModelUnavailable { .. } => [E::ModelUnavailable { model: "ner-v2".to_owned(), reason: detail() }],
        E::Overloaded { .. } => [E::Overloaded { retry_after: Duration::from_millis(1500) }],
        E::AnswersUnread { .. } => [E::AnswersUnread { retry_after: Duration::from_secs(1) }],
        E::DeadlineInfeasible { .. } => [E::DeadlineInfeasible { retry_after: Duration::from_millis(40) }],
        E::IdempotencyKeyReused => [E::IdempotencyKeyReused],
        E::IdempotencyInProgress { .. } => [E::IdempotencyInProgress { retry_after: Duration::from_secs(36) }],
        E::IdempotencyAnswerTooLarge => [E::IdempotencyAnswerTooLarge],
        E::DeadlineExceeded => [E::DeadlineExceeded],
        E::Starting => [E::Starting],
        E::ShuttingDown => [E::ShuttingDown],
        E::Internal { .. } => [E::internal(detail())],
    })
}

fn every_administration_error() -> Vec<AdministrationError> {
    use AdministrationError as E;
    let key = KeyView {
        id: "key_1".to_owned(),
        tenant: "acme".parse().unwrap(),
        label: String::new(),
        mode: Mode::Live,
        role: Role::Editor,
        ending: "x7Qz".to_owned(),
        state: KeyState::Active,
        created_at: WallTime(0),
        expires_at: None,
        revoked_at: None,
        replaced_by: None,
        is_rotation_due: false,
    };
    let none_a_minute = Plan::Custom(Terms { requests_per_minute: 0, ..Plan::Free.terms() });
    one_of_each!(AdministrationError {
        E::NoTenant => [E::NoTenant],
        E::NoKey => [E::NoKey],
        E::NoAccount => [E::NoAccount],
        E::TooManyKeys { .. } => [E::TooManyKeys { limit: 1000 }],
        E::TestKey => [E::TestKey],
        E::AlreadyMade(_) => [E::AlreadyMade(Box::new(key.clone()))],
        E::AboveRole => [E::AboveRole],
        E::TenantExists => [E::TenantExists],
        E::Reserved => [E::Reserved],
        E::Plan(_) => [E::Plan(none_a_minute.check().unwrap_err())],
        E::Label => [E::Label],
        E::Past => [E::Past],
        E::NotActive => [E::NotActive],
        E::Store(StoreError::Conflict) => [E::Store(StoreError::Conflict)],
        E::Store(StoreError::Unavailable(_)) => [E::Store(StoreError::Unavailable(detail()))],
        E::Store(StoreError::Corrupt(_)) => [E::Store(StoreError::Corrupt(detail()))],
        // Only the system can make one.
        E::Random(_) => [],
    })
}

fn every_idempotency_error() -> Vec<IdempotencyError> {
    use IdempotencyError as E;
    one_of_each!(IdempotencyError {
        E::Store(StoreError::Conflict) => [E::Store(StoreError::Conflict)],
        E::Store(StoreError::Unavailable(_)) => [E::Store(StoreError::Unavailable(detail()))],
        E::Store(StoreError::Corrupt(_)) => [E::Store(StoreError::Corrupt(detail()))],
        E::Lost => [E::Lost],
        E::Full(_) => [E::Full(Room { answers: 1000, bytes: 1 << 20 })],
        E::Seal => [E::Seal],
        // Only the system can make one.
        E::Random(_) => [],
    })
}

fn every_load_error() -> Vec<NotLoaded> {
    use ChangeError as C;
    use NotLoaded as E;
    let unavailable = || UnavailableError::Panicked;
    let model = || "ner-v2".to_owned();
    one_of_each!(NotLoaded {
        E::Change(C::Unknown(_)) => [C::Unknown(model()).into()],
        E::Change(C::Taken(_)) => [C::Taken(model()).into()],
        E::Change(C::Card(_)) => [C::Card("ner-v2/README.md: no front matter".to_owned()).into()],
        E::Change(C::Dependent { .. }) => [C::Dependent { model: model(), source: unavailable() }.into()],
        E::Change(C::Cards(_)) => [
            C::Cards(LoadError::NoCards { folder: "model-cards".to_owned() }).into(),
        ],
        E::Change(C::Unavailable(_)) => [C::Unavailable(unavailable()).into()],
        E::Change(C::Numbers(_)) => [C::Numbers(OutOfNumbers).into()],
        E::Room(_) => [E::Room("the models do not fit the GPU".to_owned())],
        E::Device(_) => [E::Device("out of memory".to_owned())],
        E::Compute(_) => [E::Compute("not a number".to_owned())],
        E::Engine(ModelChangeError::Busy) => [E::Engine(ModelChangeError::Busy)],
        E::Engine(ModelChangeError::ShutDown) => [E::Engine(ModelChangeError::ShutDown)],
        E::Engine(ModelChangeError::Config(_)) => [
            E::Engine(ModelChangeError::Config(ConfigError::ModelNumber(ModelId(7)))),
        ],
    })
}

fn every_error() -> Vec<ApiError> {
    fn refused<E: TableError>(errors: Vec<E>) -> impl Iterator<Item = ApiError> {
        errors.into_iter().map(E::refused)
    }
    refused(every_authentication_error())
        .chain(refused(every_limit_error()))
        .chain(every_api_error())
        .chain(refused(every_administration_error()))
        .chain(refused(every_idempotency_error()))
        .chain(refused(every_load_error()))
        .collect()
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
fn no_row_is_of_no_error() {
    let found: BTreeSet<_> = every_error().iter().map(ApiError::kind).collect();
    assert_eq!(found, ErrorKind::ALL.iter().copied().collect());
}

#[test]
fn hints_are_given_where_the_table_says() {
    for error in every_error() {
        let is_hinted = error.kind().retry() == Retry::Hinted;
        assert_eq!(error.retry_after().is_some(), is_hinted, "{error:?}");
    }
}

#[test]
fn the_log_knows_more_than_the_client() {
    for error in every_error() {
        let shown = format!("{}{:?}", error, status(&error, "req_1").message());
        if let Some(detail) = error.log_detail() {
            assert!(!shown.contains(detail), "{shown}");
        }
    }
}
