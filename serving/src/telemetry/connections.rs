//! Connections, counted where they are accepted; the counts are there before the metrics, which are made with
//! the models.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use router::Places;

/// What became of connections; each port and reason has a count of its own.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts(Mutex<Counts>);

#[derive(Debug, Default, Clone)]
struct Counts {
    open: BTreeMap<&'static str, i64>,
    closed: BTreeMap<(&'static str, &'static str), u64>,
    refused: BTreeMap<(&'static str, &'static str), u64>,
    accept_failures: BTreeMap<&'static str, u64>,
    unread: BTreeMap<&'static str, Arc<AtomicUsize>>,
}

impl ConnectionCounts {
    pub(crate) fn opened(&self, port: &'static str) {
        self.change(|counts| *counts.open.entry(port).or_default() += 1);
    }

    pub(crate) fn closed(&self, port: &'static str, reason: &'static str) {
        self.change(|counts| {
            *counts.open.entry(port).or_default() -= 1;
            *counts.closed.entry((port, reason)).or_default() += 1;
        });
    }

    /// Returns how many there are now.
    pub(crate) fn refused(&self, port: &'static str, reason: &'static str) -> u64 {
        self.change(|counts| {
            let count = counts.refused.entry((port, reason)).or_default();
            *count += 1;
            *count
        })
    }

    pub(crate) fn accept_failed(&self, port: &'static str) {
        self.change(|counts| *counts.accept_failures.entry(port).or_default() += 1);
    }

    /// From here on the bytes of a port's answers that wait are shown.
    pub(crate) fn watch_unread(&self, port: &'static str, bytes: Arc<AtomicUsize>) {
        self.change(|counts| counts.unread.insert(port, bytes));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PortLabels {
    port: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    port: &'static str,
    reason: &'static str,
}

/// Connections, and what calls hold while they are worked on.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMetrics {
    counts: OnceLock<Arc<ConnectionCounts>>,
    open: Family<PortLabels, Gauge>,
    closed: Family<ReasonLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    accept_failures: Family<PortLabels, Counter>,
    unread_answer_bytes: Family<PortLabels, Gauge>,
    places: Gauge,
    streams: Gauge,
    body_bytes: Gauge,
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "places_taken",
            "Calls being read or answered, of limits.calls_in_flight_max",
            metrics.places.clone(),
        );
        registry.register("streams_open", "Open InferStream calls", metrics.streams.clone());
        registry.register(
            "body_bytes_held",
            "Memory held by request bodies and messages being read",
            metrics.body_bytes.clone(),
        );
        registry.register(
            "unread_answer_bytes",
            "Memory held by answers that callers have not read yet",
            metrics.unread_answer_bytes.clone(),
        );
        let r = registry.sub_registry_with_prefix("connections");
        r.register("open", "Open connections", metrics.open.clone());
        r.register(
            "closed",
            "Connections that ended, by reason: `closed` by either side in order, `broken`, `malformed`, `gave_way` when there were too many, or what \
             took too long",
            metrics.closed.clone(),
        );
        r.register(
            "refused",
            "Connections closed on arrival because there were too many, by the bound that was reached",
            metrics.refused.clone(),
        );
        r.register(
            "accept_failures",
            "Failures to accept a connection, as when file descriptors run out",
            metrics.accept_failures.clone(),
        );
        metrics
    }

    /// Takes over what was counted, and how much is held.
    pub(crate) fn show(&self, places: &Places, stream_places: &Places) {
        let (calls, call_bytes) = places.in_use();
        let (streams, stream_bytes) = stream_places.in_use();
        self.places.set(calls as i64);
        self.streams.set(streams as i64);
        self.body_bytes.set((call_bytes + stream_bytes) as i64);
        let Some(counts) = self.counts.get() else { return };
        let counts = counts.change(|counts| counts.clone());
        for (port, open) in counts.open {
            self.open.get_or_create(&PortLabels { port }).set(open);
        }
        for (port, bytes) in counts.unread {
            let bytes = bytes.load(Ordering::Relaxed) as i64;
            self.unread_answer_bytes.get_or_create(&PortLabels { port }).set(bytes);
        }
        for (port, count) in counts.accept_failures {
            raise(&self.accept_failures.get_or_create(&PortLabels { port }), count);
        }
        for (counted, family) in [(counts.closed, &self.closed), (counts.refused, &self.refused)] {
            for ((port, reason), count) in counted {
                raise(&family.get_or_create(&ReasonLabels { port, reason }), count);
            }
        }
    }
}

impl super::Telemetry {
    /// From here on these counts are shown.
    pub(crate) fn watch_connections(&self, counts: &Arc<ConnectionCounts>) {
        // A server has one set of ports.
        let _ = self.connections.counts.set(Arc::clone(counts));
    }
}

fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
