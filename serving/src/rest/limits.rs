//! What a caller is told of its limits: `RateLimit` and `RateLimit-Policy` (IETF draft "RateLimit header fields for HTTP",
//! draft-ietf-httpapi-ratelimit-headers-10).

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use router::WallTime;
use router::limit::Quota;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Length of a day, in seconds.
const DAY: u64 = 86_400;

/// Tells of a quota.
pub(super) fn show(quota: &Quota, headers: &mut HeaderMap) {
    let mut policy = format!("\"minute\";q={};w=60", quota.limits.minute);
    let mut left = format!("\"minute\";r={};t=60", quota.minute_left.min(quota.limits.minute));
    if let (Some(limit), Some(rest)) = (quota.limits.day, quota.day_left) {
        let until_midnight = DAY - WallTime::now().0 / 1000 % DAY;
        policy.push_str(&format!(", \"day\";q={limit};w={DAY}"));
        left.push_str(&format!(", \"day\";r={};t={until_midnight}", rest.min(limit)));
    }
    set(headers, RATE_LIMIT_POLICY, policy);
    set(headers, RATE_LIMIT, left);
}

/// Tells that a limit is reached.
pub(super) fn show_exceeded(
    window: router::limit::Window,
    limit: u64,
    seconds: u64,
    headers: &mut HeaderMap,
) {
    let (name, length) = match window {
        router::limit::Window::Minute => ("minute", 60),
        router::limit::Window::Day => ("day", DAY),
    };
    set(headers, RATE_LIMIT_POLICY, format!("\"{name}\";q={limit};w={length}"));
    set(headers, RATE_LIMIT, format!("\"{name}\";r=0;t={seconds}"));
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
