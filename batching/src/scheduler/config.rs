//! What the scheduler is told once.

use std::time::Duration;

use units::{ModelId, Tokens};

/// Everything the scheduler is told once.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Bounds of the models that it begins with, indexed by [`ModelId`].
    pub models: Vec<ModelConfig>,
    /// Device replicas. Each can run every model.
    pub devices: u16,
    /// Batches a device holds at once: one computing, the others prepared.
    pub batches_in_flight_max: usize,
    /// How batches are made.
    pub policy: Policy,
}

/// Bounds of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Tokens in a batch.
    pub batch_tokens_max: Tokens,
    /// Sequences in a batch.
    pub batch_sequences_max: usize,
    /// Sequences waiting.
    pub queue_sequences_max: usize,
    /// Their tokens.
    pub queue_tokens_max: Tokens,
    /// Within this time of its arrival a request should be answered.
    pub latency_target: Duration,
    /// Whether the target is a deadline: what cannot meet it is refused. Otherwise it orders the work and
    /// refuses nobody.
    pub is_target_hard: bool,
    /// What a token's attention to another one costs beside the token itself: `1 / 6d` for a hidden size `d`.
    pub attention: f64,
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// By deadlines, fair between tenants: the crate's documentation describes it.
    Deadline(DeadlinePolicy),
    /// First come, first served, for comparison: see [`PreferredSize`].
    PreferredSize(PreferredSize),
    /// First come, first served, for comparison: see [`TokenBudget`].
    TokenBudget(TokenBudget),
}

/// The knobs of the policy by deadlines. The defaults are what the simulator found best over its workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadlinePolicy {
    /// The longest that all devices may be busy with one model, and the least that a batch is cut to, as a
    /// share of the shortest target.
    pub quantum: f64,
    /// The same while so much is asked for that shorter batches would leave no time for the work.
    pub quantum_max: f64,
    /// Which model goes first.
    pub order: Order,
    /// A device is handed its next batch when the running one is predicted to end within this time.
    pub handover_lead: Duration,
    /// Demand above this share of the fluid limit is too much: this much is then divided among the tenants,
    /// and what is left goes to whoever wants it.
    pub feasible: f64,
    /// The part of a batch's own time by which sequences of flows that ask for much more than their share may
    /// lengthen it while other models wait.
    pub riders: f64,
    /// A late sequence goes first once it has waited so many times what it would have waited in a line, in
    /// which all are served as they come and tenants by their shares. Not in overload.
    pub stretch: f64,
    /// In an overload that lasts a sequence without a claim is refused once it has waited so long.
    pub late_wait_max: Duration,
    /// Share of device time that goes to sequences without a claim while others have one.
    pub turns: f64,
    /// What that share grows to, in proportion, while one of them is overdue for up to `patience`: late is
    /// not never. Not while a flow asks for much more than its share: then most of what is late is of its own
    /// making.
    pub turns_max: f64,
    /// See `turns_max`.
    pub patience: Duration,
    /// How far ahead of the least served flow one may be among sequences without a claim, in device time at
    /// weight 1.
    pub spread: Duration,
    /// How far ahead of the least served flow among those that wait without a claim anybody may be while
    /// shares are enforced, in device time at weight 1.
    pub lag_max: Duration,
}

/// Which of several models with work goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one with the smallest share of its target left.
    LeastSlackShare,
    /// The one whose first request is due first: to measure what the other order is worth.
    EarliestDue,
}

impl Default for DeadlinePolicy {
    fn default() -> Self {
        Self {
            quantum: 0.45,
            quantum_max: 1.2,
            order: Order::LeastSlackShare,
            handover_lead: Duration::from_micros(500),
            feasible: 0.95,
            riders: 0.14,
            stretch: 1.1,
            late_wait_max: Duration::from_secs(5),
            turns: 0.01,
            turns_max: 0.25,
            patience: Duration::from_millis(500),
            spread: Duration::from_millis(2),
            lag_max: Duration::from_millis(400),
        }
    }
}

/// The batcher that Triton Inference Server documents as its dynamic batcher: a model's batch goes when it
/// has the preferred size or its oldest request has waited long enough; models take turns by who became ready
/// first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferredSize {
    /// `preferred_batch_size` and `max_batch_size`.
    pub sequences: usize,
    /// `max_queue_delay_microseconds`.
    pub queue_delay_max: Duration,
}

/// The batcher of text-embeddings-inference: whatever waits goes at once, up to a budget of tokens; models
/// take turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBudget {
    /// `max_batch_tokens`.
    pub tokens: Tokens,
}

/// A configuration that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing to run on.
    #[error("at least one device is needed")]
    NoDevices,
    /// A device may hold no batch.
    #[error("batches_in_flight_max must be at least 1")]
    NothingInFlight,
    /// A bound of a model is zero, or its queue is smaller than its batch.
    #[error("model {}: {what}", .model.0)]
    Model {
        /// The model.
        model: ModelId,
        /// What is wrong.
        what: &'static str,
    },
    /// The number belongs to a model, or did.
    #[error("model number {} is in use or used up", .0.0)]
    ModelNumber(ModelId),
}

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.devices == 0 {
            return Err(ConfigError::NoDevices);
        }
        if self.batches_in_flight_max == 0 {
            return Err(ConfigError::NothingInFlight);
        }
        Ok(())
    }
}

impl ModelConfig {
    pub(super) fn check(&self, model: ModelId) -> Result<(), ConfigError> {
        let fault = if self.batch_tokens_max.0 == 0 || self.batch_sequences_max == 0 {
            Some("a batch must have room for one sequence")
        } else if self.queue_sequences_max == 0 {
            Some("the queue must have room for one sequence")
        } else if self.queue_tokens_max < self.batch_tokens_max {
            Some("the queue must have room for one batch's tokens")
        } else if self.latency_target.is_zero() {
            Some("the latency target must be longer than nothing")
        } else {
            None
        };
        fault.map_or(Ok(()), |what| Err(ConfigError::Model { model, what }))
    }
}
