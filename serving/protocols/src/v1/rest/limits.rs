//! What a caller is told of its limits: `RateLimit` and `RateLimit-Policy` (IETF draft "RateLimit header
//! fields for HTTP", draft-ietf-httpapi-ratelimit-headers-10).

use api::{Exceeded, Quota, Unit, Window};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Length of a day, in seconds.
const DAY: u64 = 86_400;

/// Tells of quotas: each limit's policy has a name of its own.
pub(super) fn show(quotas: &[Quota], headers: &mut HeaderMap) {
    let (mut policies, mut rests) = (Vec::new(), Vec::new());
    for Quota { unit, window, limit, left, resets_in } in quotas {
        let (name, length) = policy(*unit, *window);
        policies.push(format!("\"{name}\";q={limit};qu=\"{}\";w={length}", unit.name()));
        rests.push(format!("\"{name}\";r={};t={}", left.min(limit), resets_in.as_secs()));
    }
    if !policies.is_empty() {
        set(headers, RATE_LIMIT_POLICY, policies.join(", "));
        set(headers, RATE_LIMIT, rests.join(", "));
    }
}

/// Tells that less is left of a limit than is needed; in `seconds` there may be enough.
pub(super) fn show_exceeded(exceeded: &Exceeded, seconds: u64, headers: &mut HeaderMap) {
    let Exceeded { unit, window, limit, left, .. } = exceeded;
    let (name, length) = policy(*unit, *window);
    let unit = unit.name();
    set(headers, RATE_LIMIT_POLICY, format!("\"{name}\";q={limit};qu=\"{unit}\";w={length}"));
    set(headers, RATE_LIMIT, format!("\"{name}\";r={left};t={seconds}"));
}

/// Name of a limit's policy, and its length in seconds.
fn policy(unit: Unit, window: Window) -> (&'static str, u64) {
    match (unit, window) {
        (Unit::Requests, Window::Minute) => (window.name(), 60),
        (Unit::Requests, Window::Day) => (window.name(), DAY),
        (Unit::Tokens, Window::Minute) => ("tokens-minute", 60),
        (Unit::Tokens, Window::Day) => ("tokens-day", DAY),
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
