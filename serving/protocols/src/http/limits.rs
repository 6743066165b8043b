//! What a caller is told of its limits: `RateLimit` and `RateLimit-Policy` (IETF draft "RateLimit header
//! fields for HTTP", draft-ietf-httpapi-ratelimit-headers-10).

use std::time::Duration;

use api::{ApiError, Exceeded, Period, Quota, Unit};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Length of a day, in seconds.
const DAY: u64 = 86_400;

/// Tells of quotas: each limit's policy has a name of its own.
pub fn show(quotas: &[Quota], headers: &mut HeaderMap) {
    let (mut policies, mut rests) = (Vec::new(), Vec::new());
    for Quota { unit, period, limit, left, resets_in } in quotas {
        let (name, length) = policy(*unit, *period);
        policies.push(format!("\"{name}\";q={limit};qu=\"{}\";w={length}", unit.name()));
        rests.push(format!("\"{name}\";r={};t={}", left.min(limit), resets_in.as_secs()));
    }
    if !policies.is_empty() {
        set(headers, RATE_LIMIT_POLICY, policies.join(", "));
        set(headers, RATE_LIMIT, rests.join(", "));
    }
}

/// Tells when a call that was refused may come again, and of the limit that it is over, if that is why.
pub fn show_refused(error: &ApiError, headers: &mut HeaderMap) {
    if let Some(retry_after) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds(retry_after)));
    }
    show_reached(error, headers);
}

/// Tells of the limit that a call is over that was refused, if that is why.
pub fn show_reached(error: &ApiError, headers: &mut HeaderMap) {
    if let Some(exceeded) = error.exceeded() {
        show_exceeded(exceeded, seconds(exceeded.retry_after), headers);
    }
}

/// Whether headers tell of limits.
pub fn is_shown(headers: &HeaderMap) -> bool {
    headers.contains_key(RATE_LIMIT)
}

/// Copies what headers tell of limits.
pub fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [RATE_LIMIT_POLICY, RATE_LIMIT] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

/// Whole seconds, rounded up: a client that obeys never comes too early (RFC 9110, section 10.2.3).
fn seconds(after: Duration) -> u64 {
    after.as_millis().div_ceil(1000).max(1) as u64
}

/// Tells that less is left of a limit than is needed; in `seconds` there may be enough.
fn show_exceeded(exceeded: &Exceeded, seconds: u64, headers: &mut HeaderMap) {
    let Exceeded { unit, period, limit, left, .. } = exceeded;
    let (name, length) = policy(*unit, *period);
    let unit = unit.name();
    set(headers, RATE_LIMIT_POLICY, format!("\"{name}\";q={limit};qu=\"{unit}\";w={length}"));
    set(headers, RATE_LIMIT, format!("\"{name}\";r={left};t={seconds}"));
}

/// Name of a limit's policy, and its length in seconds.
fn policy(unit: Unit, period: Period) -> (&'static str, u64) {
    match (unit, period) {
        (Unit::Inputs, Period::Minute) => (period.name(), 60),
        (Unit::Inputs, Period::Day) => (period.name(), DAY),
        (Unit::Tokens, Period::Minute) => ("tokens-minute", 60),
        (Unit::Tokens, Period::Day) => ("tokens-day", DAY),
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
