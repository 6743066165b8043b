//! A fault that repeats is logged once and then counted, wherever it is logged: warnings and errors pass
//! through here.
//!
//! Two lines tell of the same fault if they come from the same place and say the same, but for the request's
//! id. It is logged at once, and then once in an interval with how often it was left out. A place that says
//! something else each time has a bound of lines an interval.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use units::{Clock, MonotonicClock, Timestamp};

/// What differs between two occurrences of one fault.
const OF_ONE_REQUEST: &str = "request_id";

/// What was logged of late, by the place that logs.
pub(super) struct Repeats {
    interval: Duration,
    faults_max: usize,
    sites: Mutex<HashMap<Identifier, Site>>,
}

#[derive(Default)]
struct Site {
    faults: Vec<Fault>,
    /// Lines left out that no fault of the list counts.
    left_out: u64,
}

struct Fault {
    key: u64,
    logged_at: Timestamp,
    left_out: u64,
}

impl Repeats {
    pub(super) fn new(interval: Duration, faults_max: usize) -> Self {
        Self { interval, faults_max, sites: Mutex::default() }
    }

    /// Whether to log a fault now, and how often one was left out before it.
    fn admit(&self, site: Identifier, key: u64, now: Timestamp) -> Option<u64> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let Site { faults, left_out } = sites.entry(site).or_default();
        let is_old = |fault: &Fault| now.saturating_duration_since(fault.logged_at) >= self.interval;
        if let Some(fault) = faults.iter_mut().find(|fault| fault.key == key) {
            if is_old(fault) {
                fault.logged_at = now;
                return Some(std::mem::take(&mut fault.left_out));
            }
            fault.left_out += 1;
            return None;
        }
        faults.retain(|fault| {
            let is_kept = !is_old(fault);
            *left_out += if is_kept { 0 } else { fault.left_out };
            is_kept
        });
        if faults.len() >= self.faults_max {
            *left_out += 1;
            return None;
        }
        faults.push(Fault { key, logged_at: now, left_out: 0 });
        Some(std::mem::take(left_out))
    }
}

/// Formats events as `F` does, and leaves out those that repeat.
pub(super) struct Once<F> {
    format: F,
    is_json: bool,
    repeats: Repeats,
    clock: MonotonicClock,
    left_out: Counter,
}

impl<F> Once<F> {
    /// `left_out` counts the lines that are left out.
    pub(super) fn new(format: F, is_json: bool, repeats: Repeats, left_out: Counter) -> Self {
        Self { format, is_json, repeats, clock: MonotonicClock::new(), left_out }
    }
}

impl<S, N, F> FormatEvent<S, N> for Once<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if *event.metadata().level() > Level::WARN {
            return self.format.format_event(context, writer, event);
        }
        let mut key = Key(DefaultHasher::new());
        event.record(&mut key);
        let site = event.metadata().callsite();
        let Some(left_out) = self.repeats.admit(site, key.0.finish(), self.clock.now()) else {
            self.left_out.inc();
            return Ok(());
        };
        if left_out == 0 {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&counted(&line, left_out, self.is_json))
    }
}

/// A line that also says how often one like it was left out.
fn counted(line: &str, left_out: u64, is_json: bool) -> String {
    let line = line.trim_end_matches('\n');
    match line.strip_suffix('}') {
        Some(open) if is_json => format!("{open},\"left_out\":{left_out}}}\n"),
        _ => format!("{line} left_out={left_out}\n"),
    }
}

/// A hash of all that an event says, but for what is of one request.
struct Key(DefaultHasher);

impl Visit for Key {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == OF_ONE_REQUEST {
            return;
        }
        field.name().hash(&mut self.0);
        // Hashing does not fail.
        let _ = write!(HashWriter(&mut self.0), "{value:?}");
    }
}

struct HashWriter<'a>(&'a mut DefaultHasher);

impl Write for HashWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;
    use std::sync::Arc;

    use tracing::Callsite;
    use tracing::callsite::DefaultCallsite;
    use tracing::field::FieldSet;
    use tracing::metadata::Kind;

    use super::*;

    /// Two places that log.
    fn sites() -> [Identifier; 2] {
        static ONE: DefaultCallsite = DefaultCallsite::new(&METADATA);
        static OTHER: DefaultCallsite = DefaultCallsite::new(&METADATA);
        static METADATA: tracing::Metadata<'static> = tracing::Metadata::new(
            "here",
            "test",
            Level::WARN,
            None,
            None,
            None,
            FieldSet::new(&[], Identifier(&ONE)),
            Kind::EVENT,
        );
        [Identifier(&ONE as &dyn Callsite), Identifier(&OTHER as &dyn Callsite)]
    }

    #[test]
    fn a_fault_is_logged_once_and_then_counted() {
        let [one, other] = sites();
        let repeats = Repeats::new(Duration::from_secs(60), 2);
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let check = |seconds, site: &Identifier, key, expected: Option<u64>| {
            assert_eq!(repeats.admit(site.clone(), key, at(seconds)), expected, "{seconds} s, fault {key}");
        };
        check(0, &one, 1, Some(0));
        check(0, &one, 1, None);
        check(59, &one, 1, None);
        // Another place, another fault.
        check(59, &other, 1, Some(0));
        check(59, &one, 2, Some(0));
        // A third one within the interval is too much for a place that has two.
        check(59, &one, 3, None);
        check(60, &one, 1, Some(2));
        check(61, &one, 1, None);
        check(119, &one, 3, Some(1));
        // Counted also if the fault itself does not come again.
        check(200, &one, 4, Some(1));
    }

    /// Lines as the process's log would have them.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn warnings_and_errors_are_held_back_and_nothing_else() {
        let (lines, left_out) = (Lines::default(), Counter::default());
        let (writer, counter) = (lines.clone(), left_out.clone());
        let repeats = Repeats::new(Duration::from_secs(3600), 60);
        let builder =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
        let subscriber =
            builder.map_event_format(|format| Once::new(format, true, repeats, counter)).finish();
        tracing::subscriber::with_default(subscriber, || {
            for request in 0..100 {
                for error in ["gone", "full"] {
                    tracing::warn!(request_id = request, error, "not delivered");
                }
                tracing::error!(request_id = request, "failed");
                tracing::info!(request_id = request, "call");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!((count("gone"), count("full"), count("failed"), count("call")), (1, 1, 1, 100), "{text}");
        assert_eq!((text.lines().count(), left_out.get()), (103, 3 * 99));
    }

    #[test]
    fn the_line_says_how_often() {
        let check = |line: &str, is_json, expected: &str| assert_eq!(counted(line, 7, is_json), expected);
        check("{\"level\":\"WARN\"}\n", true, "{\"level\":\"WARN\",\"left_out\":7}\n");
        check("WARN x={}\n", false, "WARN x={} left_out=7\n");
    }
}
