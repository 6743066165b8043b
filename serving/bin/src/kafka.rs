//! Usage events in a Kafka topic, in structured mode (CloudEvents Kafka protocol binding 1.0.2, section 3.3),
//! keyed by tenant, so that a tenant's events stay in order.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use router::ledger::{EventSink, SinkError, UsageEvent};

/// Media type of an event.
const EVENT: &str = "application/cloudevents+json; charset=UTF-8";

pub(crate) struct Kafka {
    producer: FutureProducer,
    topic: String,
    timeout: Duration,
}

impl Kafka {
    /// As [`serving::build::KafkaSink`].
    pub(crate) fn sink(
        brokers: &str,
        topic: String,
        timeout: Duration,
    ) -> Result<Box<dyn EventSink>, String> {
        Ok(Box::new(Self::new(brokers, topic, timeout)?))
    }

    fn new(brokers: &str, topic: String, timeout: Duration) -> Result<Self, String> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            // Neither lost nor out of order, nor twice within one delivery.
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("message.timeout.ms", timeout.as_millis().to_string())
            .create()
            .map_err(|error| error.to_string())?;
        Ok(Self { producer, topic, timeout })
    }
}

#[async_trait]
impl EventSink for Kafka {
    async fn deliver(&self, events: &[UsageEvent]) -> Result<(), SinkError> {
        let refused = |error: &dyn std::fmt::Display| SinkError::Refused {
            problem: error.to_string(),
            retry_after: None,
        };
        let sent = events.iter().map(async |event| {
            let payload = serde_json::to_vec(event).map_err(|error| refused(&error))?;
            let content_type = Header { key: "content-type", value: Some(EVENT) };
            let record = FutureRecord::to(&self.topic)
                .key(&*event.subject)
                .payload(&payload)
                .headers(OwnedHeaders::new().insert(content_type));
            let sent = self.producer.send(record, Timeout::After(self.timeout)).await;
            sent.map(|_| ()).map_err(|(error, _)| refused(&error))
        });
        try_join_all(sent).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use rdkafka::Message;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::RDKafkaRespErr;
    use router::ledger::{Flush, Followers, Journal, JournalConfig, Outcome, Pump, UsageRecord};
    use router::{KeyId, MicroDollars, WallTime};

    use super::*;

    fn record(number: u64) -> UsageRecord {
        UsageRecord {
            at: WallTime(1_795_219_200_000),
            request_id: Arc::from(format!("req_{number}")),
            tenant: Arc::from(["acme", "globex"][usize::from(number % 2 == 1)]),
            key: KeyId(Arc::from("key_1")),
            model: Arc::from("sentiment-v3"),
            version: Arc::from("3.0.0"),
            inputs: number,
            tokens: 7,
            device_us: 900,
            is_cached: false,
            outcome: Outcome::Completed,
            price: MicroDollars(50 * number),
            attempt: None,
        }
    }

    /// Every event arrives, those of a tenant in their order, also when brokers fail meanwhile.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_arrive_at_a_mock_cluster() {
        const COUNT: u64 = 300;
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("usage", 4, 3).unwrap();
        let brokers = cluster.bootstrap_servers();
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(JournalConfig {
            folder: folder.path().to_owned(),
            flush: Flush::EveryMs(1000),
            segment_bytes_max: 1 << 20,
            pending_max: 64,
            is_on: true,
        })
        .unwrap();
        for number in 0..COUNT {
            journal.append(record(number)).await.unwrap();
        }
        cluster.request_errors(
            rdkafka::types::RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3],
        );
        let kafka = Kafka::new(&brokers, "usage".to_owned(), Duration::from_secs(20)).unwrap();
        let followers = Followers::new(folder.path(), 0);
        let mut pump = Pump::new(Box::new(kafka), "kafka", "j".to_owned(), followers);
        while pump.pump(journal.written()).await.unwrap() > 0 {}
        let got = tokio::task::spawn_blocking(move || consume(&brokers, COUNT)).await.unwrap();
        for (tenant, parity) in [("acme", 0), ("globex", 1)] {
            let of_tenant: Vec<u64> =
                got.iter().filter(|(key, _)| key == tenant).map(|(_, inputs)| *inputs).collect();
            let expected: Vec<u64> = (0..COUNT).filter(|number| number % 2 == parity).collect();
            assert_eq!(of_tenant, expected, "{tenant}");
        }
    }

    #[tokio::test]
    async fn no_brokers_is_no_delivery() {
        let kafka = Kafka::new("127.0.0.1:1", "usage".to_owned(), Duration::from_millis(300)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = JournalConfig {
            folder: folder.path().to_owned(),
            flush: Flush::EveryMs(1000),
            segment_bytes_max: 1 << 20,
            pending_max: 64,
            is_on: true,
        };
        let journal = Journal::open(config).unwrap();
        journal.append(record(1)).await.unwrap();
        let mut pump = Pump::new(Box::new(kafka), "kafka", "j".to_owned(), Followers::new(folder.path(), 0));
        assert!(matches!(pump.pump(1).await, Err(SinkError::Refused { .. })));
    }

    fn consume(brokers: &str, count: u64) -> Vec<(String, u64)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "test")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&["usage"]).unwrap();
        let mut got = Vec::new();
        // While the consumer finds its coordinator and its partitions, there are errors and nothing in turns.
        for _ in 0..3000 {
            if got.len() as u64 == count {
                break;
            }
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(10)) else { continue };
            let event: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            assert_eq!(event["specversion"], "1.0");
            let key = std::str::from_utf8(message.key().unwrap()).unwrap().to_owned();
            got.push((key, event["data"]["inputs"].as_u64().unwrap()));
        }
        got
    }
}
