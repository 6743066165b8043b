//! What other crates may log. Nobody promises that their lines hold no input text (a tokenizer traces what it
//! reads, character by character), so whatever the filter says, only their errors and warnings pass. What
//! repeats is `repeats`' business.

use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// First segments of the targets of our own lines.
const OURS: [&str; 6] = ["access", "batching", "ml_inference", "models", "router", "serving"];

pub(super) struct ForeignCap;

/// Ours at any level; of others errors and warnings, and no spans, whose fields may quote what they work on.
fn passes(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let is_ours = OURS.contains(&target.split_once("::").map_or(target, |(first, _)| first));
    is_ours || (metadata.is_event() && *metadata.level() <= Level::WARN)
}

impl<S: Subscriber> Layer<S> for ForeignCap {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if passes(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        passes(metadata)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::sync::{Arc, Mutex};

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

    /// Whatever is asked for: ours at any level, errors and warnings of others, and none of their spans.
    #[test]
    fn what_passes() {
        let lines = Lines::default();
        let out = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || out.clone())
            .finish()
            .with(ForeignCap);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!(target: "tokenizers", "span", text = "canary-1");
            let _entered = span.enter();
            tracing::trace!(target: "serving::rest", "ours-1");
            tracing::debug!(target: "models", "ours-2");
            tracing::info!(target: "access", "ours-3");
            tracing::trace!(target: "tokenizers::tokenizer", "canary-2");
            tracing::debug!(target: "h2", "canary-3");
            tracing::info!(target: "models_of_others", "canary-4");
            tracing::info!(target: "", "canary-5");
            tracing::warn!(target: "h2::proto", "foreign-1");
            tracing::error!(target: "hyper", "foreign-2");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |part: &str| text.matches(part).count();
        assert_eq!((count("ours-"), count("canary"), count("foreign-")), (3, 0, 2), "{text}");
    }
}
