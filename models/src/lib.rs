//! From a model card to an answer.
//!
//! A [`Card`] (the front matter of `model-cards/<name>/README.md`) names everything about a model; [`source`] fetches
//! and verifies its files; [`architectures`] read them; [`tokenizer`] turns text into token ids; a [`Runtime`] computes one ragged
//! [`TokenBatch`]; [`tasks`] cut a text into jobs before the scheduler and turn tensors into answers behind it. [`Catalog`] holds the
//! models of one process and [`DeviceExecutor`] is what an engine thread of `batching` drives.
//!
//! What runtimes need to know of a model is the crate `models-core`; each runtime is a crate of its own. Both are shown here again,
//! so that this crate is all that others need.

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

pub mod architectures;
pub mod catalog;
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

/// The runtimes of this build.
pub mod runtimes {
    pub use runtime_candle as candle;
    #[cfg(feature = "cuda")]
    pub use runtime_cuda as cuda;
    pub use runtime_fused as fused;
    pub use runtime_onnx as onnx;
}

pub use catalog::{
    CardOverride, Catalog, CatalogConfig, LoadError, ModelEntry, ModelState, NoDefault, RejectedCard, Unready,
};
pub use devices::{HAS_CUDA, gpus, open_device};
pub use executor::DeviceExecutor;
pub use models_core::card::{Card, Head, Limits, MicroDollars, Sha256Digest, Task};
pub use models_core::{
    Architecture, Backend, BatchLimits, Device, DeviceConfig, Dtype, EncoderSpec, GpuConfig,
    HiddenActivation, HostTensor, ModelError, Runtime, RuntimeError, RuntimeKind, Sequence, SequenceOutput,
    TokenBatch, Weights,
};
pub use pool::{Errand, Pace, PoolConfig, PoolError, Stage, WorkPool};
pub use progress::{NoProgress, Progress};
pub use runtime_onnx::{OnnxConfig, Provider};
pub use source::SourceError;
pub use tokenizer::{Encoded, EncodedText, Keep, TextTokenizer, TokenizeError};
