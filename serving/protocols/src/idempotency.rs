//! `Idempotency-Key`, for every protocol: a call that comes again within a day under its key has the same
//! answer.

use api::ApiError;
use axum::http::{HeaderMap, HeaderName};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before, as a header or as metadata.
pub const REPLAYED: &str = "idempotency-replayed";
/// Longest key, in bytes.
const KEY_LENGTH_MAX: usize = 255;

/// Refuses a key where no answer can be kept.
///
/// # Errors
/// There is one.
pub fn refuse_key(headers: &HeaderMap) -> Result<(), ApiError> {
    if key(headers)?.is_none() {
        return Ok(());
    }
    let problem = "a stream's answers are not kept; send each request by itself".to_owned();
    Err(ApiError::InvalidRequest { field: IDEMPOTENCY_KEY.to_string(), problem })
}

/// The key of a request: visible ASCII characters, in quotes or without.
///
/// # Errors
/// It is none, or there are several.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_good =
        (1..=KEY_LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good && values.next().is_none() {
        return Ok(Some(text));
    }
    let problem = format!("expected one key of 1 to {KEY_LENGTH_MAX} visible ASCII characters");
    Err(ApiError::InvalidRequest { field: IDEMPOTENCY_KEY.to_string(), problem })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn keys() {
        let check = |values: &[&'static str], expected: Option<Option<&str>>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
            }
            assert_eq!(key(&headers).ok(), expected, "{values:?}");
            assert_eq!(refuse_key(&headers).is_ok(), values.is_empty(), "{values:?}");
        };
        check(&[], Some(None));
        check(&["8e03978e-40d5"], Some(Some("8e03978e-40d5")));
        check(&["\"8e03978e-40d5\""], Some(Some("8e03978e-40d5")));
        check(&[""], None);
        check(&["\"\""], None);
        check(&["a b"], None);
        check(&["a", "b"], None);
    }
}
