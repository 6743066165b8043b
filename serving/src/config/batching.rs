//! How batches are made.

use garde::Validate;
use serde::Deserialize;

/// The scheduler's bounds.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Tokens in one batch. If not set 1,024 for a CPU, and 16,384 for a GPU, which takes about a millisecond
    /// for them.
    #[garde(range(min = 16, max = 1 << 24))]
    pub batch_tokens_max: Option<u32>,
    /// Sequences in one batch. If not set 64 for a CPU, and 512 for a GPU.
    #[garde(range(min = 1, max = 1 << 16))]
    pub batch_sequences_max: Option<usize>,
    /// How batches are made.
    #[garde(dive)]
    pub policy: Policy,
    /// In an overload that lasts, a sequence that cannot be answered within its model's target any more is
    /// refused once it has waited so long (milliseconds). Callers who wait for their answers cause no such
    /// overload.
    #[garde(range(min = 100, max = 600_000))]
    pub late_wait_max_ms: u64,
    /// Sequences waiting for one model.
    #[garde(range(min = 1, max = 1 << 24))]
    pub queue_sequences_max: usize,
    /// Tokens waiting for one model. More than devices compute within a deadline: calls are refused before by
    /// what is predicted (`limits.predicted_wait_share_max`), and a full queue gives up what has waited
    /// longest for what has just come.
    #[garde(range(min = 512, max = 1 << 30))]
    pub queue_tokens_max: u32,
    /// Batches a device holds: one computing, the others prepared.
    #[garde(range(min = 1, max = 8))]
    pub batches_in_flight_max: usize,
    /// Sequences of one call that the scheduler has at a time; the others wait outside. If not set, enough to
    /// keep all devices in full batches.
    #[garde(range(min = 1, max = 1 << 20))]
    pub call_sequences_in_flight_max: Option<usize>,
    /// Commands on their way to the scheduler; a full channel refuses.
    #[garde(range(min = 16, max = 1 << 20))]
    pub commands_max: usize,
}

/// How batches are made.
#[derive(Debug, Clone, Default, Deserialize, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Policy {
    /// By deadlines, fair between tenants.
    #[default]
    Deadline,
    /// First come, first served, as Triton's dynamic batcher does it. For comparison.
    PreferredSize {
        /// A batch goes when it has so many sequences.
        #[garde(range(min = 1, max = 1 << 16))]
        sequences: usize,
        /// Or when its oldest one has waited so long.
        #[garde(range(max = 10_000))]
        queue_delay_max_ms: u64,
    },
    /// First come, first served, as text-embeddings-inference does it. For comparison.
    TokenBudget {
        /// Tokens in a batch.
        #[garde(range(min = 16, max = 1 << 24))]
        tokens: u32,
    },
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            batch_tokens_max: None,
            batch_sequences_max: None,
            policy: Policy::default(),
            late_wait_max_ms: 5_000,
            queue_sequences_max: 16_384,
            queue_tokens_max: 4_194_304,
            batches_in_flight_max: 2,
            call_sequences_in_flight_max: None,
            commands_max: 4096,
        }
    }
}
