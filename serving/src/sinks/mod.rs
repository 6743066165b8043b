//! Where usage events go: files, webhooks, Redis streams, Kafka. Each sink is fed by a task of its own, so
//! that one that does not take anything keeps no other waiting.

mod file;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use router::Gatekeeper;
use router::ledger::{EventSink, Followers, Pump, RedisStream, SinkError};
use tokio_util::sync::CancellationToken;

use crate::build::KafkaSink;
use crate::config::{Config, Sink};
use crate::telemetry::TenancyMetrics;
use file::FileSink;
use webhook::Webhook;

/// How often new records are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Shortest and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Why a configured sink cannot be fed.
#[derive(Debug, thiserror::Error)]
pub enum SinkConfigError {
    #[error("usage.sinks.{name}: {problem}")]
    Unusable { name: String, problem: String },
}

pub(crate) struct SinkFeed {
    name: String,
    pump: Pump,
}

/// Makes all sinks of the configuration. Blocks.
///
/// # Errors
/// One that can never work, such as a webhook without a secret.
pub(crate) fn open(
    config: &Config,
    kafka: Option<KafkaSink>,
    journal: &str,
    followers: &Arc<Followers>,
) -> Result<Vec<SinkFeed>, SinkConfigError> {
    let fed = config.usage.sinks.iter().map(|(name, sink)| {
        let unusable = |problem| SinkConfigError::Unusable { name: name.clone(), problem };
        let sink = make(sink, kafka).map_err(unusable)?;
        let pump = Pump::new(sink, name, journal.to_owned(), Arc::clone(followers));
        Ok(SinkFeed { name: name.clone(), pump })
    });
    fed.collect()
}

fn make(sink: &Sink, kafka: Option<KafkaSink>) -> Result<Box<dyn EventSink>, String> {
    Ok(match sink {
        Sink::File { path } => Box::new(FileSink::new(path.clone())),
        Sink::Webhook { url, secret_file, timeout_ms } => {
            Box::new(Webhook::new(url.clone(), secret_file, Duration::from_millis(*timeout_ms))?)
        }
        Sink::RedisStream { redis, stream, length_max } => {
            let redis = redis.to_connect().map_err(|error| error.to_string())?;
            Box::new(RedisStream::new(redis, stream.clone(), *length_max))
        }
        Sink::Kafka { brokers, topic, timeout_ms } => {
            let make = kafka.ok_or("this build has no Kafka: build with --features ml-inference/kafka")?;
            make(brokers, topic.clone(), Duration::from_millis(*timeout_ms))?
        }
    })
}

impl SinkFeed {
    /// Feeds the sink until told to stop, and then until it has all there is, fails, or `patience` is over.
    pub(crate) async fn run(
        mut self,
        gatekeeper: &Gatekeeper,
        metrics: &TenancyMetrics,
        stop: &CancellationToken,
        patience: Duration,
    ) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let pause = match self.pump.pump(gatekeeper.journal().written()).await {
                Ok(0) => LOOK_EVERY,
                Ok(_) => {
                    failures = 0;
                    continue;
                }
                Err(error) => {
                    failures += 1;
                    metrics.failed(&self.name);
                    tracing::warn!(sink = self.name, failures, %error, "usage events are not delivered; they are kept");
                    pause_after(&error, failures)
                }
            };
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
        }
        let rest = async { while let Ok(1..) = self.pump.pump(gatekeeper.journal().written()).await {} };
        if tokio::time::timeout(patience, rest).await.is_err() {
            tracing::warn!(
                sink = self.name,
                "not all usage events were delivered; they will be after the next start"
            );
        }
    }
}

/// Twice as long after every failure, up to a minute, unless the sink wants more time.
fn pause_after(error: &SinkError, failures: u32) -> Duration {
    let pause = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    match error {
        SinkError::Refused { retry_after: Some(wanted), .. } => pause.max((*wanted).min(PAUSE_MAX)),
        SinkError::Refused { .. } | SinkError::Journal(_) => pause,
    }
}
