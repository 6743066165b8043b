//! The issuer of JWTs: fetches its keys, from a URL or a file, and keeps them fresh.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use router::{Aside, FileFaults, JwtConfig, JwtVerifier, KeySource, WallTime};
use tokio_util::sync::CancellationToken;

use crate::config::Jwt;
use crate::regular_file;

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
    File { path: PathBuf, reading: tokio::sync::Mutex<Aside<std::io::Result<Vec<u8>>>> },
}

impl Issuer {
    /// # Errors
    /// Keys cannot be fetched over HTTP, for the system's certificates cannot be read.
    pub(crate) fn of(config: &Jwt, faults: FileFaults) -> Result<Self, reqwest::Error> {
        let source = if config.keys.contains("://") {
            Source::Url { client: client()?, url: config.keys.clone() }
        } else {
            let reading = tokio::sync::Mutex::new(Aside::new("tenancy.jwt.keys", faults));
            Source::File { path: PathBuf::from(&config.keys), reading }
        };
        let jwt = JwtConfig {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: Duration::from_secs(config.leeway_seconds),
            lifetime_max: Duration::from_secs(config.lifetime_max_seconds),
            tenant_claim: config.tenant_claim.clone(),
            plan_claim: config.plan_claim.clone(),
            roles_claim: config.roles_claim.clone(),
            fetch_pause: Duration::from_secs(config.keys_pause_seconds),
        };
        let verifier = Arc::new(JwtVerifier::new(jwt, Arc::new(source)));
        Ok(Self { verifier, refresh: Duration::from_secs(config.keys_refresh_seconds) })
    }

    /// Fetches the keys now and again, until told to stop.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        loop {
            let refreshed = async {
                self.verifier.refresh(WallTime::now()).await;
                tokio::time::sleep(self.refresh).await;
            };
            tokio::select! { () = stop.cancelled() => return, () = refreshed => {} }
        }
    }
}

/// Follows no redirect: whose keys are trusted is told by the configuration, not by whoever answers.
fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT).build()
}

#[async_trait]
impl KeySource for Source {
    async fn fetch(&self) -> Result<String, String> {
        match self {
            Self::File { path, reading } => {
                let path = path.clone();
                let read = move || regular_file::read(&path, BYTES_MAX as u64).map(|(bytes, _)| bytes);
                let read = reading.lock().await.run(read).await;
                let bytes =
                    read.ok_or("its file system does not answer")?.map_err(|error| error.to_string())?;
                if bytes.len() > BYTES_MAX { Err(too_large()) } else { to_text(bytes) }
            }
            Self::Url { client, url } => {
                let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
                if answer.status() != StatusCode::OK {
                    return Err(format!("{url} answered {}; redirects are not followed", answer.status()));
                }
                read_bounded(answer).await
            }
        }
    }
}

/// The text of an answer, of which no more is read than is allowed.
async fn read_bounded(mut answer: reqwest::Response) -> Result<String, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    to_text(body)
}

fn to_text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "the key set is not UTF-8".to_owned())
}

fn too_large() -> String {
    format!("the key set has more than {BYTES_MAX} bytes")
}
