//! Configuration of logs.

use garde::Validate;
use serde::Deserialize;

/// Logs, on standard error. Nothing waits for them: what cannot be written in time is dropped and counted.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Filter in `tracing`'s syntax, such as `info` or `serving=debug,access=info`. Of libraries no more than
    /// warnings and errors pass. `access` is the access log: a line a call.
    #[garde(skip)]
    pub filter: String,
    /// Form of a line.
    #[garde(skip)]
    pub format: LogFormat,
    /// Lines that wait to be written; more are dropped.
    #[garde(range(min = 1, max = 1 << 20))]
    pub queue_lines_max: usize,
    /// Bytes that wait to be written; more are dropped.
    #[garde(range(min = 1024, max = 1 << 30))]
    pub queue_bytes_max: usize,
    /// How long the last lines may take to be written before the process ends.
    #[garde(range(max = 60_000))]
    pub flush_timeout_ms: u64,
    /// A warning or an error that repeats is logged once in so long, with how often it was left out.
    #[garde(range(min = 1, max = 86_400_000))]
    pub repeat_interval_ms: u64,
    /// Different warnings and errors from one place in the code that are logged in that time.
    #[garde(range(min = 1, max = 10_000))]
    pub faults_max: usize,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person.
    Text,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info,hf_hub=off".to_owned(),
            format: LogFormat::Json,
            queue_lines_max: 8192,
            queue_bytes_max: 8 << 20,
            flush_timeout_ms: 1000,
            repeat_interval_ms: 60_000,
            faults_max: 60,
        }
    }
}
