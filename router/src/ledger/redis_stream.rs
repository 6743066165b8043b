//! Usage events in a Redis stream.

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::sink::{EventSink, SinkError, UsageEvent};
use crate::store::{RedisConfig, RedisStore, StoreError, to_text};

/// KEYS: the stream, and how far each epoch is in it. ARGV: the epoch, the stream's length from which on old
/// entries go, then number, tenant and event of each. What is in the stream already is passed over, so every
/// event enters it once. Numbers are text: in Lua they are exact up to 2^53 alone.
const ADD: &str = r"
    local at = redis.call('HGET', KEYS[2], ARGV[1]) or ''
    for i = 3, #ARGV, 3 do
        local number = ARGV[i]
        if #number > #at or (#number == #at and number > at) then
            redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'tenant', ARGV[i + 1], 'event', ARGV[i + 2])
            at = number
        end
    end
    redis.call('HSET', KEYS[2], ARGV[1], at)
";

/// A stream, `<prefix>:events:{<stream>}:stream`, with fields `tenant` and `event` (JSON). Each event enters
/// it exactly once.
pub struct RedisStream {
    config: RedisConfig,
    /// Connected when first needed, so that nobody waits for it at the start.
    store: OnceCell<RedisStore>,
    stream: String,
    length_max: u64,
}

impl RedisStream {
    /// A stream that keeps about the newest `length_max` events.
    pub fn new(config: RedisConfig, stream: String, length_max: u64) -> Self {
        Self { config, store: OnceCell::new(), stream, length_max }
    }

    async fn add(&self, events: &[UsageEvent]) -> Result<(), StoreError> {
        let store = self.store.get_or_try_init(|| RedisStore::connect(self.config.clone())).await?;
        let key = |name| store.key("events", &self.stream, name);
        // Of one epoch there are many in a row.
        for events in events.chunk_by(|one, other| one.epoch == other.epoch) {
            let Some(first) = events.first() else { continue };
            let mut arguments = vec![format!("/ml-inference/{}", first.epoch), self.length_max.to_string()];
            for event in events {
                arguments.extend([event.number.to_string(), event.subject.to_string(), to_text(event)?]);
            }
            let () = store.run(ADD, &[key("stream"), key("positions")], &arguments).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl EventSink for RedisStream {
    async fn deliver(&self, events: &[UsageEvent]) -> Result<(), SinkError> {
        let refused =
            |error: StoreError| SinkError::Refused { problem: error.to_string(), retry_after: None };
        self.add(events).await.map_err(refused)
    }
}
