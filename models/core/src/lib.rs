//! What is between a model's files and whatever computes it: a [`card::Card`] says what a model is, an
//! [`EncoderSpec`] what its encoder is whatever its architecture, [`weights`] what it is made of; a
//! [`Runtime`] computes one ragged [`TokenBatch`] of it on a [`Device`]. Each runtime is a crate of its own
//! that knows this one and no other.
//!
//! # Invariants
//! Each names what holds it.
//!
//! - No runtime sees a batch of another shape than its lengths say, and no answer that is not finite leaves
//!   one. (`models/core/src/runtime/checks.rs`; `models/tests/encoder.rs`)
//! - A file that is not what its card says is not used. (`models/tests/catalog.rs`)

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]
#![warn(missing_docs)]

pub mod batch;
pub mod card;
pub mod error;
pub mod faithful;
pub mod files;
pub mod kinds;
pub mod runtime;
pub mod spec;
pub mod tasks;
mod verification;
pub mod weights;

pub use batch::{HostTensor, Sequence, SequenceOutput, TokenBatch};
pub use card::Card;
pub use error::ModelError;
pub use kinds::{Architecture, Dtype, RuntimeKind, Unsupported};
pub use runtime::{
    Backend, BatchLimits, Device, DeviceConfig, Footprint, GpuConfig, GpuRuntime, Overlap, Runtime,
    RuntimeError, UNDER_WAY_MAX, Weights,
};
pub use spec::{EncoderSizes, EncoderSpec, HiddenActivation};
pub use verification::Verification;
