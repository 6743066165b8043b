//! What happens in the engine, told to one observer; the engine itself counts nothing.

use std::time::Duration;

use units::{DeviceId, ModelId, Priority, TenantId, Tokens};

use crate::scheduler::RejectReason;

/// Something that happened. For every `Enqueued` and every `Requeued` there is one of `Cancelled`, `Expired`,
/// `Shed` and `Dequeued`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A sequence was accepted.
    Enqueued {
        /// Whose queue it joined.
        model: ModelId,
        /// Whose it is.
        tenant: TenantId,
        /// Its class.
        priority: Priority,
        /// Length, special tokens included.
        tokens: Tokens,
    },
    /// A sequence was refused.
    Rejected {
        /// The model asked for; may be one that does not exist.
        model: ModelId,
        /// Why.
        reason: RejectReason,
    },
    /// A queued sequence's caller left.
    Cancelled {
        /// Whose queue it left.
        model: ModelId,
    },
    /// A queued sequence's deadline passed.
    Expired {
        /// Whose queue it left.
        model: ModelId,
    },
    /// A queued sequence had to make place for one with a better claim.
    Shed {
        /// Whose queue it left.
        model: ModelId,
    },
    /// A sequence left its queue for a batch.
    Dequeued {
        /// Whose queue it left.
        model: ModelId,
        /// How long it waited.
        queue_delay: Duration,
    },
    /// A sequence whose device was lost was queued again, to be computed by another.
    Requeued {
        /// Whose queue it joined again.
        model: ModelId,
    },
    /// A batch went to a device.
    Dispatched {
        /// The model of all its members.
        model: ModelId,
        /// Where the batch is or was computed.
        device: DeviceId,
        /// Sequences in the batch.
        sequences: usize,
        /// Their tokens.
        tokens: Tokens,
    },
    /// A batch was computed.
    Completed {
        /// The model of all its members.
        model: ModelId,
        /// Where the batch is or was computed.
        device: DeviceId,
        /// Time the device took.
        compute: Duration,
    },
    /// A batch failed.
    Failed {
        /// The model of all its members.
        model: ModelId,
        /// Where the batch is or was computed.
        device: DeviceId,
        /// Whether the device is lost.
        is_fatal: bool,
        /// What went wrong.
        reason: String,
    },
}

/// Is told of every event, by the thread on which it happens. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event);
}

/// Looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn on_event(&self, _: &Event) {}
}
