//! What other crates may log. Nobody promises that their lines hold no input text (a tokenizer traces what it reads, character by
//! character), so whatever the filter says, only their errors and warnings pass; and each of these once a minute, for peers can
//! cause them without showing any credentials (an HTTP/2 library warns of every flood that it fends off).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use batching::{Clock, MonotonicClock, Timestamp};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// First segments of the targets of our own lines.
const OURS: [&str; 6] = ["access", "batching", "ml_inference", "models", "router", "serving"];
/// How often the same line of another crate passes.
const ONCE_EVERY: Duration = Duration::from_secs(60);
/// Different lines that are remembered; beyond that none passes.
const LINES_MAX: usize = 1024;

/// Lines of other crates that were left out because they were there a moment ago.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// See the module.
pub(super) struct ForeignCap {
    clock: MonotonicClock,
    passed: Mutex<HashMap<Line, Timestamp>>,
}

/// A line by the place that wrote it, and for crates that use `log` by its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line(tracing::callsite::Identifier, String);

impl ForeignCap {
    pub(super) fn new() -> Self {
        Self { clock: MonotonicClock::new(), passed: Mutex::default() }
    }

    /// Whether a line may pass now.
    fn passes(&self, line: Line, now: Timestamp) -> bool {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = match passed.get(&line) {
            Some(at) => now.saturating_duration_since(*at) >= ONCE_EVERY,
            None => passed.len() < LINES_MAX,
        };
        if is_due {
            passed.insert(line, now);
        } else {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        is_due
    }
}

/// How many lines were left out.
pub(super) fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    OURS.contains(&target.split_once("::").map_or(target, |(first, _)| first))
}

impl<S: Subscriber> Layer<S> for ForeignCap {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled_for(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.enabled_for(metadata)
    }

    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if is_ours(event.metadata()) {
            return true;
        }
        let mut target = LogTarget(String::new());
        event.record(&mut target);
        self.passes(Line(event.metadata().callsite(), target.0), self.clock.now())
    }
}

impl ForeignCap {
    fn enabled_for(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata) || (metadata.is_event() && *metadata.level() <= Level::WARN)
    }
}

/// The target that a record of the `log` crate has as a field.
struct LogTarget(String);

impl Visit for LogTarget {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.0 = value.to_owned();
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Whatever is asked for: ours at any level, errors and warnings of others once, and none of their spans.
    #[test]
    fn what_passes() {
        let lines = Lines::default();
        let out = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || out.clone())
            .finish()
            .with(ForeignCap::new());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!(target: "tokenizers", "span", text = "canary-1");
            let _entered = span.enter();
            tracing::trace!(target: "serving::rest", "ours-1");
            tracing::debug!(target: "models", "ours-2");
            tracing::info!(target: "access", "ours-3");
            for _ in 0..2 {
                tracing::trace!(target: "tokenizers::tokenizer", "canary-2");
                tracing::debug!(target: "h2", "canary-3");
                tracing::info!(target: "models_of_others", "canary-4");
                tracing::info!(target: "", "canary-5");
            }
            for _ in 0..20 {
                tracing::warn!(target: "h2::proto", "foreign-1");
                tracing::error!(target: "hyper", "foreign-2");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |part: &str| text.matches(part).count();
        assert_eq!(
            (count("ours-"), count("canary"), count("foreign-1"), count("foreign-2")),
            (3, 0, 1, 1),
            "{text}"
        );
        assert!(left_out() >= 38);
    }

    /// A callsite that is none.
    struct Nowhere;

    impl tracing::Callsite for Nowhere {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nothing is logged here")
        }
    }

    #[test]
    fn once_a_minute() {
        let cap = ForeignCap::new();
        let line = |target: &str| Line(tracing::callsite::Identifier(&Nowhere), target.to_owned());
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        assert!(cap.passes(line("a"), at(10)) && cap.passes(line("b"), at(10)));
        assert!(
            !cap.passes(line("a"), at(69)) && cap.passes(line("a"), at(70)) && !cap.passes(line("a"), at(71))
        );
    }
}
