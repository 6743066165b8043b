//! Dynamic batching for several models on shared devices.
//!
//! Two layers, so that the policy can be reasoned about, simulated and tested without a thread:
//!
//! - [`Scheduler`] is a pure state machine. It has no clock, no thread and no I/O: every call is told the
//!   time. It is generic over the payload it carries and decides only from tokens, deadlines, classes and
//!   tenants.
//! - [`Engine`] is the imperative shell: one thread owns the scheduler and is fed over a bounded channel; one
//!   thread for each device replica runs the batches it is handed through an [`Executor`].
//!
//! # Policy
//! Each rule is in a file of its own, with its source and its tests; `benches/results/simulation.md` says
//! what it is worth.
//!
//! *Cost* (`scheduler/cost.rs`). A batch takes `a + b W` for its work `W`, fitted for each model on each
//! device while it runs, and by a sweep before the first sequence.
//!
//! *Claims* (`policy/demand.rs`, `policy/bands.rs`). A model's target is a soft deadline: it orders the work.
//! While all that is asked for is feasible, every sequence that can still be on time is *entitled*. In
//! overload the devices are divided max-min fairly between tenants, weighted by plan; which class a caller
//! states moves its own tenant's calls only. What a tenant asks for beyond its part is *excess*, and what
//! cannot be on time any more is *late*. These are served with what is left, and have turns so that none
//! starves.
//!
//! *Lines* (`policy/line.rs`, `policy/overload.rs`). Among callers who wait for their answers what is late
//! goes first once it has waited 1.1 times what it would have waited in a line. In an overload that lasts,
//! what has no claim is refused after five seconds.
//!
//! *Dispatch* (`policy/deadline`). A device takes work as soon as it is free: a lone sequence never waits for
//! company. Of several models the one goes first that has the smallest share of its target left. A batch ends
//! in time for its members and for what else waits, and what would cut it to less than is worth running is
//! given up as late. Within a model critical sequences go first, then whatever is due first. Shortly before a
//! device is free it is handed its next batch.
//!
//! *Fairness* (`policy/fairness.rs`). Among sequences without a claim nobody gets further ahead of the least
//! served than a stated bound, over all models; while shares are enforced nobody does at all, by a wider one.
//! Shares hold among callers that wait for their answers, too, whose demand never seems too much.
//!
//! *Admission* (`scheduler/admission.rs`). Everything is bounded. The sequences of one call are taken all or
//! none. What cannot meet a hard deadline is refused at once, with a hint when to come back. Where a queue is
//! full, the sequence with the weakest claim makes place: late before excess, of these the flow that was
//! served most; among equals the newcomer is refused.
//!
//! *Ends.* Every accepted sequence ends exactly once: dispatched, cancelled, expired at its deadline or shed.
//! A batch that fails is halved until the input that spoils it is alone; the batch of a lost device is
//! computed by another.
//!
//! # Invariants
//! Each names what holds it.
//!
//! - Every accepted request is answered exactly once: computed, cancelled, expired or refused, whatever
//!   fails. (`batching/tests/random_use.rs`, `batching/tests/engine`, and under shuttle
//!   `batching/tests/interleavings.rs`)
//! - No batch exceeds its token budget or mixes models; nothing runs past its deadline; no queue exceeds its
//!   bounds. (`batching/tests/random_use.rs`)
//! - A request in the steady state costs the scheduler no allocation. (`batching/tests/allocations.rs`)
//! - Flows without a claim that always have work never differ by more than a stated bound. (the unit tests of
//!   `fairness` in `batching/src/scheduler`)
//! - A lost device loses no request that another one can compute. (`batching/tests/engine`)

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]
#![warn(missing_docs)]

mod engine;
mod event;
mod scheduler;

pub use engine::{
    Completion, Engine, EngineConfig, ExecuteError, Executor, Failure, ModelChangeError, Overlap, StartError,
    Ticket, UNDER_WAY_MAX,
};
pub use event::{Event, NoObserver, Observer};
pub use scheduler::{
    Batch, BatchId, Config, ConfigError, DeadlinePolicy, Decision, DeviceSnapshot, EndReason, EnqueueError,
    Entry, ModelConfig, ModelSnapshot, OfferedLoad, Order, Policy, PreferredSize, RefusedWork, RejectReason,
    Rejection, Scheduler, Sequence, SequenceId, Snapshot, TokenBudget, Work,
};
