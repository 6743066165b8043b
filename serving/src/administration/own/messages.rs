//! Translation between the messages of `administration.proto` and what they stand for.

use prost_types::Timestamp;
use proto::v1;
use router::accounts::{KeyState, KeyView};
use router::{Day, Mode, Role, WallTime};

use crate::administration::page::{Cut, LIMIT, Page};
use crate::administration::{CreateKey, RotateKey};
use crate::error::ApiError;
use crate::usage_report::{By, Numbers, Report, ReportQuery, Row};

fn invalid(field: &str, problem: impl Into<String>) -> ApiError {
    ApiError::InvalidRequest { field: field.to_owned(), problem: problem.into() }
}

/// proto3 enums are open: any number may arrive.
fn known<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E, ApiError> {
    E::try_from(value).map_err(|_| invalid(field, format!("{value} is not a value of this enum")))
}

pub(super) fn page(message: v1::ListKeysRequest) -> Result<Page, ApiError> {
    let v1::ListKeysRequest { limit, after } = message;
    let (limit, after) = (limit.map(|limit| limit as usize), (!after.is_empty()).then_some(after));
    Page::new(limit, after).ok_or_else(|| invalid("limit", format!("must be 1 to {LIMIT}")))
}

pub(super) fn create(message: v1::CreateKeyRequest) -> Result<CreateKey, ApiError> {
    let v1::CreateKeyRequest { label, mode, role, expires_at } = message;
    let mode = match known(mode, "mode")? {
        v1::KeyMode::Unspecified | v1::KeyMode::Live => Mode::Live,
        v1::KeyMode::Test => Mode::Test,
    };
    let role = match known(role, "role")? {
        v1::Role::Unspecified => Role::default(),
        v1::Role::Viewer => Role::Viewer,
        v1::Role::Editor => Role::Editor,
        v1::Role::Admin => Role::Admin,
        v1::Role::Owner => Role::Owner,
    };
    let expires_at = expires_at.map(|at| moment(at, "expires_at")).transpose()?;
    Ok(CreateKey { label, mode, role, expires_at })
}

pub(super) fn rotate(message: v1::RotateKeyRequest) -> Result<(String, RotateKey), ApiError> {
    let v1::RotateKeyRequest { id, overlap_seconds } = message;
    let rotate =
        overlap_seconds.map_or_else(RotateKey::default, |overlap_seconds| RotateKey { overlap_seconds });
    Ok((id, rotate))
}

pub(super) fn query(message: v1::GetUsageRequest, now: WallTime) -> Result<ReportQuery, ApiError> {
    let day = |text: &str, field| match text {
        "" => Ok(None),
        text => text.parse::<Day>().map(Some).map_err(|problem| invalid(field, problem.to_string())),
    };
    let (from, to) = (day(&message.from, "from")?, day(&message.to, "to")?);
    let mut by = By { day: message.by.is_empty(), model: message.by.is_empty(), ..By::default() };
    for dimension in message.by {
        match known(dimension, "by")? {
            v1::UsageDimension::Tenant => by.tenant = true,
            v1::UsageDimension::Day => by.day = true,
            v1::UsageDimension::Hour => by.hour = true,
            v1::UsageDimension::Model => by.model = true,
            v1::UsageDimension::Unspecified => return Err(invalid("by", "it is unspecified")),
        }
    }
    ReportQuery::new(from, to, by, now)
}

/// A moment as it is written elsewhere: in milliseconds, from 1970 to 9999.
fn moment(at: Timestamp, field: &str) -> Result<WallTime, ApiError> {
    let nanoseconds = u32::try_from(at.nanos).ok().filter(|nanoseconds| *nanoseconds < 1_000_000_000);
    let seconds = u64::try_from(at.seconds).ok();
    let milliseconds = seconds.zip(nanoseconds).and_then(|(seconds, nanoseconds)| {
        seconds.checked_mul(1000)?.checked_add(u64::from(nanoseconds / 1_000_000))
    });
    let moment = milliseconds.map(WallTime).filter(|moment| *moment <= WallTime::LATEST);
    moment.ok_or_else(|| invalid(field, "expected a moment from 1970 to 9999"))
}

fn timestamp(at: WallTime) -> Timestamp {
    // Both fit: a moment after `LATEST` is written as that one elsewhere, too.
    let milliseconds = at.0.min(WallTime::LATEST.0);
    Timestamp { seconds: (milliseconds / 1000) as i64, nanos: (milliseconds % 1000) as i32 * 1_000_000 }
}

pub(super) fn keys(page: Cut<KeyView>) -> v1::ListKeysResponse {
    let Cut { entries, next } = page;
    v1::ListKeysResponse { keys: entries.iter().map(key).collect(), next: next.unwrap_or_default() }
}

pub(super) fn key(view: &KeyView) -> v1::Key {
    let mode = match view.mode {
        Mode::Live => v1::KeyMode::Live,
        Mode::Test => v1::KeyMode::Test,
    };
    let role = match view.role {
        Role::Viewer => v1::Role::Viewer,
        Role::Editor => v1::Role::Editor,
        Role::Admin => v1::Role::Admin,
        Role::Owner => v1::Role::Owner,
    };
    let state = match view.state {
        KeyState::Active => v1::KeyState::Active,
        KeyState::Expired => v1::KeyState::Expired,
        KeyState::Revoked => v1::KeyState::Revoked,
    };
    v1::Key {
        id: view.id.clone(),
        tenant: view.tenant.as_str().to_owned(),
        label: view.label.clone(),
        mode: mode.into(),
        role: role.into(),
        ending: view.ending.clone(),
        state: state.into(),
        created_at: Some(timestamp(view.created_at)),
        expires_at: view.expires_at.map(timestamp),
        revoked_at: view.revoked_at.map(timestamp),
        replaced_by: view.replaced_by.clone().unwrap_or_default(),
        is_rotation_due: view.is_rotation_due,
    }
}

pub(super) fn report(report: Report) -> v1::GetUsageResponse {
    let row = |row: Row| {
        let Row { tenant, day, hour, model, numbers } = row;
        let (day, hour) = (day.map(|day| day.to_string()), hour.map(u32::from));
        v1::UsageRow { tenant, day, hour, model, numbers: Some(self::numbers(numbers)) }
    };
    v1::GetUsageResponse {
        from: report.from.to_string(),
        to: report.to.to_string(),
        rows: report.rows.into_iter().map(row).collect(),
        total: Some(numbers(report.total)),
        tenant: report.tenant.unwrap_or_default(),
    }
}

fn numbers(numbers: Numbers) -> v1::UsageNumbers {
    let Numbers { inputs, tokens, completed, cached, refused, failed, cancelled, device_ms, cost_micro_usd } =
        numbers;
    v1::UsageNumbers {
        inputs,
        tokens,
        completed,
        cached,
        refused,
        failed,
        cancelled,
        device_ms,
        cost_micro_usd,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments() {
        let check = |seconds: i64, nanos: i32, expected: Option<u64>| {
            let found = moment(Timestamp { seconds, nanos }, "expires_at").ok();
            assert_eq!(found, expected.map(WallTime), "{seconds} {nanos}");
            if let Some(found) = found {
                assert_eq!(timestamp(found), Timestamp { seconds, nanos: nanos / 1_000_000 * 1_000_000 });
            }
        };
        check(0, 0, Some(0));
        check(1, 999_999_999, Some(1999));
        check(253_402_300_799, 999_999_999, Some(253_402_300_799_999));
        check(253_402_300_800, 0, None);
        check(-1, 0, None);
        check(i64::MAX, 0, None);
        check(1, -1, None);
        check(1, 1_000_000_000, None);
    }

    #[test]
    fn requests_that_are_not_good() {
        let check = |found: Result<(), ApiError>, field: &str| {
            assert_eq!(found.unwrap_err().field_violation().unwrap().0, field);
        };
        let usage = |message| query(message, Day(20_000).start()).map(drop);
        check(page(v1::ListKeysRequest { limit: Some(0), ..Default::default() }).map(drop), "limit");
        check(page(v1::ListKeysRequest { limit: Some(101), ..Default::default() }).map(drop), "limit");
        check(create(v1::CreateKeyRequest { role: 9, ..Default::default() }).map(drop), "role");
        check(create(v1::CreateKeyRequest { mode: -1, ..Default::default() }).map(drop), "mode");
        check(usage(v1::GetUsageRequest { by: vec![0], ..Default::default() }), "by");
        check(usage(v1::GetUsageRequest { by: vec![5], ..Default::default() }), "by");
        check(usage(v1::GetUsageRequest { to: "yesterday".to_owned(), ..Default::default() }), "to");
        check(usage(v1::GetUsageRequest { from: "2030-01-01".to_owned(), ..Default::default() }), "from");
    }
}
