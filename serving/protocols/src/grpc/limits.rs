//! What a caller is told of its limits, as metadata: the same as over HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use api::{ApiError, Quota};
use axum::http::HeaderMap;
use tonic::Response;
use tonic::metadata::MetadataMap;

use crate::http::limits;

/// Tells of quotas.
pub fn show_limits(quotas: &[Quota], metadata: &mut MetadataMap) {
    let mut headers = std::mem::take(metadata).into_headers();
    limits::show(quotas, &mut headers);
    *metadata = MetadataMap::from_headers(headers);
}

/// What the last answer on a stream was told of limits. Its messages are calls, which have no metadata of
/// their own: so the stream's end has it.
#[derive(Debug, Clone, Default)]
pub struct LastLimits(Arc<Mutex<HeaderMap>>);

impl LastLimits {
    /// An answer without its metadata, of which what it was told of limits is kept; or an error, of which the
    /// limit is kept that it is over.
    ///
    /// # Errors
    /// That one.
    pub fn of<A>(&self, answer: Result<Response<A>, ApiError>) -> Result<A, ApiError> {
        let mut told = HeaderMap::new();
        let answer = match answer {
            Ok(answer) => {
                let (metadata, answer, _) = answer.into_parts();
                limits::copy(metadata.as_ref(), &mut told);
                Ok(answer)
            }
            Err(error) => {
                limits::show_reached(&error, &mut told);
                Err(error)
            }
        };
        if !told.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
        }
        answer
    }

    /// Adds them to the end of a stream, if it does not tell of limits itself.
    pub(super) fn show(&self, trailers: &mut HeaderMap) {
        if !limits::is_shown(trailers) {
            limits::copy(&self.0.lock().unwrap_or_else(PoisonError::into_inner), trailers);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use api::{Period, Unit};

    use super::*;

    #[test]
    fn the_end_of_a_stream_tells_what_was_told_last() {
        let quota = |left| Quota {
            unit: Unit::Inputs,
            period: Period::Minute,
            limit: 100,
            left,
            resets_in: Duration::from_secs(7),
        };
        let answer = |quotas: &[Quota]| {
            let mut answer = Response::new("answer");
            answer.metadata_mut().insert("x-queue-time", "1".parse().unwrap());
            show_limits(quotas, answer.metadata_mut());
            Ok(answer)
        };
        let last = LastLimits::default();
        let check = |expected: &[(&str, &str)]| {
            let mut trailers = HeaderMap::new();
            last.show(&mut trailers);
            let found = trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            let mut found: Vec<_> = found.collect();
            found.sort_unstable();
            assert_eq!(found, expected);
        };
        check(&[]);
        assert_eq!(last.of(answer(&[quota(42)])).unwrap(), "answer");
        let policy = ("ratelimit-policy", "\"minute\";q=100;qu=\"inputs\";w=60");
        check(&[("ratelimit", "\"minute\";r=42;t=7"), policy]);
        // Of some there is nothing to tell.
        assert!(last.of::<&str>(Err(ApiError::Starting)).is_err() && last.of(answer(&[])).is_ok());
        check(&[("ratelimit", "\"minute\";r=42;t=7"), policy]);
        let mut told = HeaderMap::new();
        told.insert("ratelimit", "of its own".parse().unwrap());
        last.show(&mut told);
        assert_eq!((told.len(), &told["ratelimit"]), (1, &"of its own".parse().unwrap()));
    }
}
