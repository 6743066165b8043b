//! Why a batch was not computed.

/// Why a batch was not computed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The models need more memory than the device has free.
    #[error("the models do not fit {device}: {needed} MiB are needed ({models}), {free} MiB are free")]
    DoesNotFit {
        /// Name of the device, for a person.
        device: String,
        /// MiB.
        needed: usize,
        /// What needs how much.
        models: String,
        /// MiB.
        free: usize,
    },
    /// The device has no memory left for this batch: a smaller one may do.
    #[error("{message}")]
    OutOfMemory {
        /// What the device said.
        message: String,
    },
    /// A sequence without tokens.
    #[error("sequence {index} is empty")]
    EmptySequence {
        /// Its place in the batch.
        index: usize,
    },
    /// A sequence longer than the positions the model was trained with.
    #[error("sequence {index} has {length} tokens, the model has {limit} positions")]
    TooLong {
        /// Its place in the batch.
        index: usize,
        /// Its tokens.
        length: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// A token id outside the embedding table.
    #[error("token id {id} is not among the model's {vocabulary}")]
    UnknownToken {
        /// Token id that the embedding table has no row for.
        id: u32,
        /// Rows of the embedding table.
        vocabulary: usize,
    },
    /// The batch contradicts itself.
    #[error("malformed batch: {0}")]
    MalformedBatch(&'static str),
    /// The result holds a value that is not a number.
    #[error("the model produced a value that is not finite")]
    NotFinite,
    /// The backend failed.
    #[error("{message}")]
    Backend {
        /// What it said.
        message: String,
        /// Whether the device is beyond use.
        is_fatal: bool,
    },
}

impl RuntimeError {
    /// Whether the device is beyond use, so that the process must drain and be replaced. Other errors concern
    /// one batch.
    pub fn is_fatal(&self) -> bool {
        matches!(self, RuntimeError::Backend { is_fatal: true, .. })
    }
}
