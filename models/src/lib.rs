//! From a model card to an answer.
//!
//! A [`Card`] (the front matter of `model-cards/<name>/README.md`) names everything about a model; [`source`]
//! fetches and verifies its files; [`architectures`] read them; [`tokenizer`] turns text into token ids; a
//! [`Runtime`] computes one ragged [`TokenBatch`]; [`tasks`] cut a text into jobs before the scheduler and
//! turn tensors into answers behind it. [`Catalog`] holds the models of one process and [`DeviceExecutor`] is
//! what an engine thread of `batching` drives.
//!
//! What runtimes need to know of a model is the crate `models-core`; each runtime is a crate of its own. Both
//! are shown here again, so that this crate is all that others need.
//!
//! # Invariants
//! Each names what holds it.
//!
//! - An answer does not depend on what it was batched with. (`models/tests/encoder.rs`)
//! - Embeddings equal sentence-transformers' on 200 texts, and logits those of training, with every runtime.
//!   (`models/tests/embeddings_parity.rs`, `models/tests/trained_models.rs`)
//! - The slice of the input at an entity's or sentence's offsets equals its text, normalised or not.
//!   (`models/src/tasks`, `models/src/tokenizer/normalized/tests.rs`, property tests)
//! - A warm fused runtime allocates nothing for a batch. (`models/tests/allocations.rs`)
//! - Every CUDA kernel agrees with float64, reads nothing before it is there, and writes nothing beyond its
//!   output. (`models/runtimes/cuda/tests/kernels.rs`)
//! - On a GPU a batch gives the same result alone, beside another one, as a graph or kernel by kernel, and
//!   takes no memory that was not planned. (`models/runtimes/cuda/tests/encoders.rs`)
//! - What a revision of a repository was pinned to is served after every start, or nothing of it; nobody is
//!   asked for it. (`models/src/source/pull/tests.rs`, `serving/tests/clients/test_hub.py`)
//! - A model with a certificate gives the answers of its authors' library, or none.
//!   (`serving/tests/clients/test_model_commands.py`)
//! - A card whose checkpoint says more of its answers than the card does is refused.
//!   (`models/tests/truthful.rs`)

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

pub mod architectures;
pub mod catalog;
pub mod certificate;
mod characters;
mod devices;
pub mod executor;
pub mod pool;
pub mod progress;
mod segment;
pub mod source;
pub mod tasks;
pub mod tokenizer;
pub mod training;
mod windows;

pub use models_core::{batch, card, weights};

/// The runtimes that every build has.
pub mod runtimes {
    pub use runtime_candle as candle;
    pub use runtime_fused as fused;
    pub use runtime_onnx as onnx;
}

pub use catalog::{
    Candidate, CardOverride, Catalog, CatalogConfig, ChangeError, Departure, Inventory, LoadError,
    ModelEntry, ModelState, Newcomer, NoDefault, Place, RejectedCard, Unready, Wanted, WantedError,
};
pub use devices::open_device;
pub use executor::{Arrivals, DeviceExecutor};
pub use models_core::card::{Card, Head, Limits, MicroDollars, Sha256Digest, Task};
pub use models_core::{
    Architecture, Backend, BatchLimits, Device, DeviceConfig, Dtype, EncoderSizes, EncoderSpec, GpuConfig,
    GpuRuntime, HiddenActivation, HostTensor, ModelError, Runtime, RuntimeError, RuntimeKind, Sequence,
    SequenceOutput, TokenBatch, Verification, Weights,
};
pub use pool::{Errand, Pace, PoolConfig, PoolError, Stage, WorkPool};
pub use progress::{NoProgress, Progress};
pub use runtime_onnx::{OnnxConfig, Provider};
pub use source::{Pin, Reference, ReferenceError, SourceError};
pub use tokenizer::{Encoded, EncodedText, Keep, TextTokenizer, TokenizeError};
