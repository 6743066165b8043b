//! The process's log: which lines there are, how they look, and what becomes of panics.

use std::cell::Cell;
use std::io::{IsTerminal, stderr};
use std::panic::PanicHookInfo;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use std::sync::LazyLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::foreign::ForeignCap;
use super::log_queue::LogQueue;
use super::repeats::{Once, Repeats};
use crate::config::{Log, LogFormat};

/// Warnings and errors that were left out since they repeated.
pub(super) static LEFT_OUT: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Installs the process's log subscriber: JSON lines (or text for a person) on standard error. From here on
/// nothing that logs waits for standard error, or ends because of it.
///
/// # Errors
/// The filter does not parse, a subscriber is installed already, or there is no thread to write.
pub fn init_logs(log: &Log) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(&log.filter)?;
    let queue = LogQueue::of_process(log)?;
    let is_json = log.format == LogFormat::Json;
    let repeats = Repeats::new(Duration::from_millis(log.repeat_interval_ms), log.faults_max);
    // What cannot be logged is counted; said on standard error it would fail again, and panic.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue).log_internal_errors(false);
    if is_json {
        let builder = builder.json().flatten_event(true).with_current_span(true);
        builder
            .map_event_format(|format| Once::new(format, is_json, repeats, LEFT_OUT.clone()))
            .finish()
            .with(ForeignCap)
            .try_init()?;
    } else {
        let builder = builder.with_ansi(stderr().is_terminal());
        builder
            .map_event_format(|format| Once::new(format, is_json, repeats, LEFT_OUT.clone()))
            .finish()
            .with(ForeignCap)
            .try_init()?;
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does some work whose panics are expected, and reported by whoever asked for it.
pub(crate) fn without_panics_logged<T>(work: impl FnOnce() -> T) -> T {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            IS_QUIET.set(false);
        }
    }
    IS_QUIET.set(true);
    let _loud = Loud;
    work()
}

/// Logs where a panic was. Its message only if it is fixed: one that is put together may quote an input.
fn log_panic(panic: &PanicHookInfo<'_>) {
    if IS_QUIET.get() {
        return;
    }
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let reason = panic.payload().downcast_ref::<&'static str>().copied();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace =
        (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(place, reason, backtrace, "panicked");
}
