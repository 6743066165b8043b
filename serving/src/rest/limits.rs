//! What a caller is told of its limits: `RateLimit` and `RateLimit-Policy` (IETF draft "RateLimit header fields for HTTP",
//! draft-ietf-httpapi-ratelimit-headers-10).

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use router::WallTime;
use router::limit::{Quota, Unit, Window};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Length of a day, in seconds.
const DAY: u64 = 86_400;

/// Tells of a quota, which is counted in inputs.
pub(super) fn show(quota: &Quota, headers: &mut HeaderMap) {
    let unit = Unit::Requests.name();
    let mut policy = format!("\"minute\";q={};qu=\"{unit}\";w=60", quota.limits.minute);
    let mut left = format!("\"minute\";r={};t=60", quota.minute_left.min(quota.limits.minute));
    if let (Some(limit), Some(rest)) = (quota.limits.day, quota.day_left) {
        let until_midnight = DAY - WallTime::now().0 / 1000 % DAY;
        policy.push_str(&format!(", \"day\";q={limit};qu=\"{unit}\";w={DAY}"));
        left.push_str(&format!(", \"day\";r={};t={until_midnight}", rest.min(limit)));
    }
    set(headers, RATE_LIMIT_POLICY, policy);
    set(headers, RATE_LIMIT, left);
}

/// Tells that less is left of a limit than is needed; in `seconds` there may be enough.
pub(super) fn show_exceeded(
    (unit, window): (Unit, Window),
    limit: u64,
    left: u64,
    seconds: u64,
    headers: &mut HeaderMap,
) {
    let (name, length) = match window {
        Window::Minute => ("minute", 60),
        Window::Day => ("day", DAY),
    };
    let unit = unit.name();
    set(headers, RATE_LIMIT_POLICY, format!("\"{name}\";q={limit};qu=\"{unit}\";w={length}"));
    set(headers, RATE_LIMIT, format!("\"{name}\";r={left};t={seconds}"));
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
