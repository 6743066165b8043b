//! Vectors of texts, from a running server.

use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AnyError;

/// Texts of one call: enough that a server has full batches, and few enough for its limit of any card.
const TEXTS: usize = 64;
/// Times that a call is sent which the server has no room for.
const TRIES_MAX: u32 = 60;
/// Longest wait before it is sent again, and the one where the server says none.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(1);
/// Longest wait for an answer: live calls go first.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Vectors one after the other.
pub(super) struct Vectors {
    pub(super) values: Vec<f32>,
    /// Values of one.
    pub(super) columns: usize,
}

/// A server that makes vectors.
pub(super) struct Embedder<'a> {
    client: Client,
    url: Url,
    key: &'a str,
    model: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f32>,
}

impl<'a> Embedder<'a> {
    /// The server at this address.
    ///
    /// # Errors
    /// It is no address of a server.
    pub(super) fn new(server: &Url, key: &'a str, model: &'a str) -> Result<Self, AnyError> {
        let url = server.join("/v1/ml/embeddings").map_err(|error| format!("--server {server}: {error}"))?;
        // The key goes to this server alone.
        let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build()?;
        Ok(Self { client, url, key, model })
    }

    /// Means of the hidden states of texts, not scaled; `after_call` is told how many texts are done.
    ///
    /// # Errors
    /// What the server says, with the rows of the table it is about.
    pub(super) fn embed(&self, texts: &[&str], after_call: impl Fn(usize)) -> Result<Vectors, AnyError> {
        let mut vectors = Vectors { values: Vec::new(), columns: 0 };
        for (call, part) in texts.chunks(TEXTS).enumerate() {
            let first = call * TEXTS;
            let answer = self.call(part).map_err(|error| {
                format!("texts {} to {} of the table: {error}", first + 1, first + part.len())
            })?;
            let columns = answer.results.first().map_or(0, |one| one.embedding.len());
            let is_whole = answer.results.len() == part.len()
                && columns > 0
                && (vectors.columns == 0 || columns == vectors.columns)
                && answer.results.iter().all(|one| one.embedding.len() == columns);
            if !is_whole {
                return Err("the server has answered with other vectors than were asked for".into());
            }
            vectors.columns = columns;
            vectors.values.extend(answer.results.into_iter().flat_map(|one| one.embedding));
            after_call(first + part.len());
        }
        Ok(vectors)
    }

    fn call(&self, texts: &[&str]) -> Result<Answer, AnyError> {
        let body = json!({
            "model": self.model,
            "inputs": texts,
            "parameters": { "normalize": false, "truncation": "stride", "priority": "low" },
        })
        .to_string();
        let mut tries = 1;
        loop {
            let request = self.client.post(self.url.clone()).bearer_auth(self.key);
            let request = request.header("content-type", "application/json").body(body.clone());
            // Without its address, which may have a password.
            let answer = request.send().map_err(reqwest::Error::without_url)?;
            let status = answer.status();
            if status.is_success() {
                return Ok(serde_json::from_slice(&answer.bytes()?)?);
            }
            let has_no_room =
                [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
            if has_no_room && tries < TRIES_MAX {
                let told =
                    answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                std::thread::sleep(told.map_or(WAIT, Duration::from_secs).min(WAIT_MAX));
                tries += 1;
                continue;
            }
            let text = answer.text()?;
            let value: Option<Value> = serde_json::from_str(&text).ok();
            let message = value.as_ref().and_then(|value| value["error"]["message"].as_str());
            return Err(message.unwrap_or("the server has refused them").to_owned().into());
        }
    }
}
