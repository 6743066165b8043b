//! The scheduler's bounds.

use std::time::Duration;

use crate::units::{ModelId, Tokens};

/// Everything the scheduler is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bounds of each model, indexed by [`ModelId`].
    pub models: Vec<ModelConfig>,
    /// Device replicas. Each can run every model.
    pub devices: u16,
    /// Batches a device holds at once: one computing, the others prepared.
    pub batches_in_flight_max: usize,
}

/// Bounds of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Tokens in a batch.
    pub batch_tokens_max: Tokens,
    /// Requests in a batch.
    pub batch_sequences_max: usize,
    /// Requests waiting.
    pub queue_requests_max: usize,
    /// Tokens waiting.
    pub queue_tokens_max: Tokens,
    /// Longest a batch that is not full is held back while the device computes another.
    pub queue_delay_max: Duration,
    /// Within this time of its arrival a request should be answered; orders models, refuses nobody.
    pub latency_target: Duration,
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
}

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.devices == 0 {
            return Err(ConfigError::NoDevices);
        }
        if self.batches_in_flight_max == 0 {
            return Err(ConfigError::NothingInFlight);
        }
        for (index, bounds) in self.models.iter().enumerate() {
            if let Some(what) = bounds.fault() {
                return Err(ConfigError::Model { model: ModelId(index as u16), what });
            }
        }
        Ok(())
    }
}

impl ModelConfig {
    fn fault(&self) -> Option<&'static str> {
        if self.batch_tokens_max.0 == 0 || self.batch_sequences_max == 0 {
            Some("a batch must have room for one request")
        } else if self.queue_requests_max == 0 {
            Some("the queue must have room for one request")
        } else if self.queue_tokens_max < self.batch_tokens_max {
            Some("the queue must have room for one batch's tokens")
        } else {
            None
        }
    }
}
