//! The issuer of JWTs: fetches its keys, from a URL or a file, and keeps them fresh.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use router::{JwtConfig, JwtVerifier, KeySource, WallTime};
use tokio_util::sync::CancellationToken;

use crate::config::Jwt;

/// How long an answer with keys may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest key set, in bytes.
const BYTES_MAX: usize = 1 << 20;

pub(crate) struct Issuer {
    pub(crate) verifier: Arc<JwtVerifier>,
    refresh: Duration,
}

/// Where the keys are.
enum Source {
    Url { client: reqwest::Client, url: String },
    File(PathBuf),
}

impl Issuer {
    pub(crate) fn of(config: &Jwt) -> Self {
        let source = if config.keys.contains("://") {
            Source::Url { client: reqwest::Client::new(), url: config.keys.clone() }
        } else {
            Source::File(PathBuf::from(&config.keys))
        };
        let jwt = JwtConfig {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: Duration::from_secs(config.leeway_seconds),
            tenant_claim: config.tenant_claim.clone(),
            plan_claim: config.plan_claim.clone(),
            roles_claim: config.roles_claim.clone(),
            fetch_pause: Duration::from_secs(config.keys_pause_seconds),
        };
        let verifier = Arc::new(JwtVerifier::new(jwt, Arc::new(source)));
        Self { verifier, refresh: Duration::from_secs(config.keys_refresh_seconds) }
    }

    /// Fetches the keys now and again, until told to stop.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = self.verifier.refresh(WallTime::now()).await {
                tracing::warn!(error, "the issuer's keys cannot be fetched; the known ones are kept");
            }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(self.refresh) => {} }
        }
    }
}

#[async_trait]
impl KeySource for Source {
    async fn fetch(&self) -> Result<String, String> {
        match self {
            Self::File(path) => tokio::fs::read_to_string(path).await.map_err(|error| error.to_string()),
            Self::Url { client, url } => {
                let answer = client.get(url).timeout(TIMEOUT).send().await;
                let answer = answer.and_then(reqwest::Response::error_for_status);
                let text = async { answer?.text().await }.await.map_err(|error| error.to_string())?;
                if text.len() > BYTES_MAX { Err("the key set is too large".to_owned()) } else { Ok(text) }
            }
        }
    }
}
