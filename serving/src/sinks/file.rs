//! Usage events in a file, a line each (NDJSON). The file is opened anew for every delivery, so it may be
//! moved away at any time.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use router::ledger::{EventSink, SinkError, UsageEvent};

pub(super) struct FileSink(PathBuf);

impl FileSink {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

#[async_trait]
impl EventSink for FileSink {
    async fn deliver(&self, events: &[UsageEvent]) -> Result<(), SinkError> {
        let refused = |error: std::io::Error| SinkError::Refused {
            problem: format!("{}: {error}", self.0.display()),
            retry_after: None,
        };
        let mut text = Vec::new();
        for event in events {
            serde_json::to_writer(&mut text, event).map_err(|error| refused(error.into()))?;
            text.push(b'\n');
        }
        let path = self.0.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(&text)?;
            file.sync_data()
        });
        written.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(refused)
    }
}
