//! Usage events for other systems: each record as a CloudEvent to every sink, at least once and in order.
//!
//! An event's id is made of its record's epoch and its number in that, so that whoever gets one twice can
//! tell.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::Outcome;
use super::error::JournalError;
use super::follower::{Follower, Followers};
use super::line::Entry;
use units::WallTime;

/// Events delivered at once.
const EVENTS_MAX: usize = 500;

/// What the names of the files begin with that say how far sinks are.
pub(super) const POSITION_PREFIX: &str = "sink-";

/// A usage record as a CloudEvent (version 1.0, JSON event format, <https://github.com/cloudevents/spec>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageEvent {
    /// Version of the specification.
    pub specversion: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub source: String,
    /// Unique together with `source`.
    pub id: String,
    /// When the request ended.
    pub time: WallTime,
    pub subject: Arc<str>,
    /// Of `data`.
    pub datacontenttype: &'static str,
    pub data: UsageData,
    /// The epoch of the record: one start of the server.
    #[serde(skip)]
    pub epoch: Arc<str>,
    /// Number of the record in its epoch.
    #[serde(skip)]
    pub number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageData {
    pub request_id: Arc<str>,
    /// Name of the tenant.
    pub tenant: Arc<str>,
    /// Public name of the key.
    pub key: Arc<str>,
    /// Name of the model.
    pub model: Arc<str>,
    /// Version of the model.
    pub version: Arc<str>,
    /// Inputs in the request.
    pub inputs: u64,
    pub tokens: u64,
    /// Microseconds of a device.
    pub device_us: u64,
    /// Whether the answer was there already.
    pub is_cached: bool,
    pub outcome: Outcome,
    pub price_micro_usd: u64,
}

/// Why events were not delivered; they will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The sink did not take them.
    #[error("{problem}")]
    Refused {
        /// What it said, or why it could not be asked.
        problem: String,
        /// When it wants to be tried again, if it said so.
        retry_after: Option<Duration>,
    },
}

#[async_trait]
pub trait EventSink: Send + Sync {
    /// Delivers events, in order. Returns only once the events are durable.
    ///
    /// # Errors
    /// It did not take all of them: all will be delivered again.
    async fn deliver(&self, events: &[UsageEvent]) -> Result<(), SinkError>;
}

/// Delivers one journal's records to one sink.
pub struct Pump {
    sink: Box<dyn EventSink>,
    follower: Follower,
    /// Name of the journal and its server.
    journal: String,
    /// Read and not delivered yet.
    held: Vec<UsageEvent>,
}

impl Pump {
    /// A pump of the records of the journal, known by the name `journal`, to the sink of this name. A sink
    /// that is new begins with the oldest record there is. Blocks.
    pub fn new(sink: Box<dyn EventSink>, name: &str, journal: String, followers: Arc<Followers>) -> Self {
        let follower = Follower::new(followers, &format!("{POSITION_PREFIX}{name}"));
        Self { sink, follower, journal, held: Vec::new() }
    }

    /// Delivers records up to number `until`, at most some hundred. Returns how many: none means all.
    ///
    /// # Errors
    /// See [`SinkError`]; nothing is lost, and order is kept.
    pub async fn pump(&mut self, until: u64) -> Result<usize, SinkError> {
        if self.held.is_empty() {
            let records = self.follower.read(until, EVENTS_MAX).await?;
            self.held = records.into_iter().map(|entry| event(&self.journal, entry)).collect();
        }
        if self.held.is_empty() {
            return Ok(0);
        }
        self.sink.deliver(&self.held).await?;
        let delivered = self.held.len();
        self.held.clear();
        let next = self.follower.next();
        self.follower.keep(next, next).await.map_err(JournalError::Io)?;
        Ok(delivered)
    }
}

fn event(journal: &str, entry: Entry) -> UsageEvent {
    let Entry { number, epoch, record } = entry;
    let epoch = epoch.unwrap_or_else(|| Arc::from(journal));
    UsageEvent {
        specversion: "1.0",
        kind: "com.techcorp.ml.usage.recorded",
        source: format!("/ml-inference/{journal}"),
        id: format!("{epoch}-{number}"),
        time: record.at,
        subject: Arc::clone(&record.tenant),
        datacontenttype: "application/json",
        data: UsageData {
            request_id: record.request_id,
            tenant: record.tenant,
            key: record.key.0,
            model: record.model,
            version: record.version,
            inputs: record.inputs,
            tokens: record.tokens,
            device_us: record.device_us,
            is_cached: record.is_cached,
            outcome: record.outcome,
            price_micro_usd: record.price.0,
        },
        epoch,
        number,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;
    use crate::ledger::tests::record;
    use crate::ledger::{Flush, Journal, JournalConfig};

    /// Takes events, whose inputs are counted through, but fails every so often.
    #[derive(Default)]
    struct Shaky {
        got: Arc<Mutex<Vec<u64>>>,
        calls: Mutex<usize>,
    }

    #[async_trait]
    impl EventSink for Shaky {
        async fn deliver(&self, events: &[UsageEvent]) -> Result<(), SinkError> {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            if *calls % 3 == 1 {
                return Err(SinkError::Refused { problem: "busy".to_owned(), retry_after: None });
            }
            self.got.lock().unwrap().extend(events.iter().map(|event| event.data.inputs));
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_record_in_order_over_failures_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        for start in [0, 700, 1400] {
            let journal = Journal::open(JournalConfig {
                folder: folder.path().to_owned(),
                flush: Flush::EveryMs(1000),
                segment_bytes_max: 20_000,
                pending_max: 64,
                is_on: true,
            })
            .unwrap();
            for number in start..start + 700 {
                journal.append(record("acme", number)).await.unwrap();
            }
            let sink = Shaky { got: got.clone(), ..Shaky::default() };
            let followers = Followers::new(folder.path(), 0);
            let mut pump = Pump::new(Box::new(sink), "test", "j".to_owned(), followers);
            // The last one is left for after the restart.
            let until = journal.written() - 1;
            let mut failures = 0;
            loop {
                match pump.pump(until).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(_) => failures += 1,
                }
            }
            assert!(failures > 0);
        }
        assert_eq!(*got.lock().unwrap(), (0..2099).collect::<Vec<u64>>());
        let segments = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(segments < 8, "what everybody is done with is removed: {segments} are left");
    }

    #[tokio::test]
    async fn nothing_is_removed_that_one_follower_needs() {
        let folder = tempfile::tempdir().unwrap();
        let config = JournalConfig {
            folder: folder.path().to_owned(),
            flush: Flush::EveryMs(1000),
            segment_bytes_max: 4_000,
            pending_max: 64,
            is_on: true,
        };
        let journal = Journal::open(config).unwrap();
        for number in 0..200 {
            journal.append(record("acme", number)).await.unwrap();
        }
        let followers = Followers::new(folder.path(), 0);
        let quick = Shaky::default();
        let slow = Shaky::default();
        let got = slow.got.clone();
        let mut quick = Pump::new(Box::new(quick), "quick", "j".to_owned(), Arc::clone(&followers));
        let mut slow = Pump::new(Box::new(slow), "slow", "j".to_owned(), Arc::clone(&followers));
        while !matches!(quick.pump(200).await, Ok(0)) {}
        assert_eq!(followers.positions().into_values().collect::<Vec<_>>(), [200, 0]);
        while !matches!(slow.pump(200).await, Ok(0)) {}
        assert_eq!(*got.lock().unwrap(), (0..200).collect::<Vec<u64>>());
    }

    #[test]
    fn cloud_events() {
        let epoch = Some(Arc::from("01J"));
        let event = event("name", Entry { number: 17, epoch, record: record("acme", 6) });
        let expected = serde_json::json!({
            "specversion": "1.0", "type": "com.techcorp.ml.usage.recorded", "source": "/ml-inference/name", "id": "01J-17",
            "time": "2026-11-21T02:00:06Z", "subject": "acme", "datacontenttype": "application/json",
            "data": {
                "request_id": "req_6", "tenant": "acme", "key": "key_1", "model": "sentiment-v3", "version": "3.0.0", "inputs": 6,
                "tokens": 42, "device_us": 5400, "is_cached": false, "outcome": "completed", "price_micro_usd": 300,
            },
        });
        let mut found = serde_json::to_value(&event).unwrap();
        found["time"] = expected["time"].clone();
        assert_eq!(found, expected);
    }
}
