//! Metrics of calls, as the pipeline sees them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use router::scaling::Ends;
use units::ModelId;

use crate::error::ErrorKind;

use super::models::{ModelLabels, ModelNames};
use super::{Buckets, SECONDS};

/// How calls end, and how long their parts take.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    names: ModelNames,
    calls: Family<CallLabels, Counter>,
    duration: Family<TaskLabels, Histogram, Buckets>,
    in_flight: Gauge,
    targets: Family<TargetLabels, Counter>,
    /// The same, of all models.
    ends: Mutex<Ends>,
    inputs_refused: Family<InputErrorLabels, Counter>,
    tokenization: Family<ModelLabels, Histogram, Buckets>,
    decoding: Family<ModelLabels, Histogram, Buckets>,
}

/// How a call ended, as metrics and the access log tell it: there are no other codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCode {
    /// It was answered.
    Ok,
    /// Its caller left.
    Cancelled,
    /// It was refused, or failed.
    Error(ErrorKind),
}

impl EndCode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Error(kind) => kind.row().code,
        }
    }
}

/// How one call ended.
#[derive(Debug, Clone, Copy)]
pub struct CallEnd<'a> {
    /// `rest` or `grpc`.
    pub protocol: &'static str,
    /// The task asked for.
    pub task: &'static str,
    /// The model, once it was found.
    pub model: &'a str,
    pub code: EndCode,
    /// Whether it met its model's target.
    pub timeliness: Timeliness,
    /// From the first byte read to the answer made.
    pub duration: Duration,
}

/// Whether a call met its model's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeliness {
    /// It was answered within it.
    InTime,
    /// It was answered later, or refused or ended for want of capacity.
    Late,
    /// It was refused for want of capacity before the scheduler saw it.
    TurnedAway,
    /// It says nothing of the service's capacity.
    Irrelevant,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    protocol: &'static str,
    task: &'static str,
    model: String,
    code: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskLabels {
    protocol: &'static str,
    task: &'static str,
    model: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetLabels {
    model: String,
    result: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InputErrorLabels {
    model: String,
    code: &'static str,
}

impl CallMetrics {
    pub(super) fn register(registry: &mut Registry, names: ModelNames) -> Self {
        let metrics = Self {
            names,
            calls: Family::default(),
            duration: Family::new_with_constructor(SECONDS),
            in_flight: Gauge::default(),
            targets: Family::default(),
            ends: Mutex::default(),
            inputs_refused: Family::default(),
            tokenization: Family::new_with_constructor(SECONDS),
            decoding: Family::new_with_constructor(SECONDS),
        };
        let r = registry;
        r.register("calls", "Calls by outcome: ok, cancelled, or the error code", metrics.calls.clone());
        r.register_with_unit(
            "call_duration",
            "Time from a call's arrival to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        r.register("calls_in_flight", "Calls being answered now", metrics.in_flight.clone());
        r.register(
            "call_targets",
            "Calls that met or missed their model's p99 target; those refused for want of capacity count as missed",
            metrics.targets.clone(),
        );
        r.register(
            "inputs_refused",
            "Inputs answered with an error of their own in calls with on_error = partial, by error code",
            metrics.inputs_refused.clone(),
        );
        r.register_with_unit(
            "tokenization_duration",
            "Time to turn a call's texts into tokens, waiting for a thread included",
            Unit::Seconds,
            metrics.tokenization.clone(),
        );
        r.register_with_unit(
            "decoding_duration",
            "Time to turn a call's tensors into its answer, waiting for a thread included",
            Unit::Seconds,
            metrics.decoding.clone(),
        );
        metrics
    }

    /// Counts a call in flight until the guard is dropped.
    pub(crate) fn started(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts the end of a call.
    pub(crate) fn ended(&self, end: CallEnd<'_>) {
        let CallEnd { protocol, task, model, code, timeliness, duration } = end;
        self.ended_in_time(model, timeliness);
        let (model, code) = (model.to_owned(), code.as_str());
        let labels = TaskLabels { protocol, task, model: model.clone() };
        self.calls.get_or_create(&CallLabels { protocol, task, model, code }).inc();
        self.duration.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    fn ended_in_time(&self, model: &str, timeliness: Timeliness) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match timeliness {
            Timeliness::InTime => {
                ends.in_time += 1;
                "met"
            }
            Timeliness::Late => {
                ends.late += 1;
                "missed"
            }
            Timeliness::TurnedAway => {
                ends.late += 1;
                ends.turned_away += 1;
                "missed"
            }
            Timeliness::Irrelevant => return,
        };
        self.targets.get_or_create(&TargetLabels { model: model.to_owned(), result }).inc();
    }

    /// How calls ended so far, as far as that tells of the service's capacity.
    pub(crate) fn ends(&self) -> Ends {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how long a call's texts took to become tokens.
    pub(crate) fn tokenized(&self, model: ModelId, duration: Duration) {
        self.tokenization.get_or_create(&self.names.labels(model)).observe(duration.as_secs_f64());
    }

    /// Records how long a call's tensors took to become an answer.
    pub(crate) fn decoded(&self, model: ModelId, duration: Duration) {
        self.decoding.get_or_create(&self.names.labels(model)).observe(duration.as_secs_f64());
    }

    /// Counts an input that has an error in the place of a result.
    pub(crate) fn input_refused(&self, model: ModelId, code: &'static str) {
        let ModelLabels { model } = self.names.labels(model);
        self.inputs_refused.get_or_create(&InputErrorLabels { model, code }).inc();
    }
}

/// A call in flight; ends when dropped.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
