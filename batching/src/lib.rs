//! Dynamic batching for several models on shared devices.
//!
//! Two layers, so that the policy can be reasoned about, simulated and tested without a thread:
//!
//! - [`Scheduler`] is a pure state machine. It has no clock, no thread and no I/O: every call is told the time. It is
//!   generic over the payload it carries and decides only from tokens, deadlines, classes and tenants.
//! - [`Engine`] is the imperative shell: one thread owns the scheduler and is fed over a bounded channel; one thread for
//!   each device replica runs the batches it is handed through an [`Executor`].
//!
//! # Policy
//! *Queues.* A request waits in the lane of its (model, class, tenant), earliest hard deadline first. Requests and tokens
//! waiting for a model are bounded; what does not fit is refused at once, with a hint when to come back: the tokens
//! queued over the smoothed rate at which tokens have been computed.
//!
//! *When.* A device with nothing in flight is given work as soon as there is any, so a lone request never waits for
//! company. While a device computes, its next batch is gathered, and handed over once it is full, holds a critical
//! request, or its oldest member has waited `queue_delay_max`: it then lies prepared when the device is free.
//!
//! *Which model.* Of those that are due, the one whose oldest request is closest to its latency target. The target
//! orders the work; it refuses nobody.
//!
//! *Who.* A batch is filled one request at a time: critical ones first; then the class least served for its weight
//! (8 : 4 : 1 for high, normal and low, so that none starves); in it the tenant least served in tokens. A request that does
//! not fit what is left of a batch is passed over, but only by tenants at most one batch's tokens ahead of its own: tenants
//! that always have work stay within that, and one request, of each other.
//! A batch ends at its token budget or its number of sequences, and never mixes models.
//!
//! *Ends.* Every accepted request ends exactly once: dispatched, cancelled, or expired at its hard deadline, at which it
//! is handed back instead of run.

mod engine;
mod event;
mod scheduler;
mod units;

pub use engine::{
    Clock, Completion, Engine, EngineConfig, ExecuteError, Executor, Failure, MonotonicClock, StartError,
    Submission, Ticket,
};
pub use event::{Event, NoObserver, Observer};
pub use scheduler::{
    Batch, BatchId, Config, ConfigError, DeadlinePolicy, Decision, DeviceSnapshot, Ended, Entry, ModelConfig,
    ModelSnapshot, Order, Policy, PreferredSize, RejectReason, Rejected, Rejection, Request, RequestId, Scheduler,
    Snapshot, TokenBudget, Work,
};
pub use units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens, UnknownPriority};
