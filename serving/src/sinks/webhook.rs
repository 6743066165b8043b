//! Usage events posted to a URL: a batch of CloudEvents (HTTP protocol binding 1.0.2, section 3.3), signed as
//! Standard Webhooks are (<https://github.com/standard-webhooks/standard-webhooks>): the HMAC-SHA256 of id,
//! time and body, so that the receiver knows from whom they are and that they are not old.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use router::WallTime;
use router::ledger::{EventSink, SinkError, UsageEvent};
use sha2::Sha256;

use crate::secrets;

/// Media type of a batch of events.
const BATCH: &str = "application/cloudevents-batch+json; charset=UTF-8";
/// What a secret begins with; the rest is base64.
const SECRET_PREFIX: &[u8] = b"whsec_";

pub(super) struct Webhook {
    client: reqwest::Client,
    url: String,
    key: Hmac<Sha256>,
}

impl Webhook {
    pub(super) fn new(url: String, secret_file: &Path, timeout: Duration) -> Result<Self, String> {
        let secret = secrets::read(secret_file).map_err(|error| format!("secret_file: {error}"))?;
        let secret = match secret.strip_prefix(SECRET_PREFIX) {
            Some(text) => STANDARD.decode(text).ok(),
            None => Some(secret),
        };
        let key =
            secret.filter(|secret| secret.len() >= 24).and_then(|secret| Hmac::new_from_slice(&secret).ok());
        let key = key.ok_or(
            "secret_file: expected at least 24 bytes, in base64 after whsec_ or base64:, or after hex:",
        )?;
        let client = reqwest::Client::builder()
            .timeout(timeout)
            // A receiver that has moved is to be told by whoever configures it: signatures go nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, url, key })
    }

    fn signature(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mut mac = self.key.clone();
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

fn refused(problem: impl std::fmt::Display, retry_after: Option<Duration>) -> SinkError {
    SinkError::Refused { problem: problem.to_string(), retry_after }
}

#[async_trait]
impl EventSink for Webhook {
    async fn deliver(&self, events: &[UsageEvent]) -> Result<(), SinkError> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let body = serde_json::to_vec(events).map_err(|error| refused(error, None))?;
        // The same for the same events, so that a receiver knows a repetition.
        let id = format!("{}-{}", first.id, last.number);
        let seconds = WallTime::now().0 / 1000;
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, BATCH)
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", self.signature(&id, seconds, &body));
        // Without the URL, which may hold a secret.
        let answer = request.body(body).send().await.map_err(|error| refused(error.without_url(), None))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let wanted = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(refused(format!("it answered {}", answer.status()), wanted.map(Duration::from_secs)))
    }
}
