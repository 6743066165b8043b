//! What every protocol speaks of: a call, its answer, what can go wrong with it, and the models, in no
//! protocol's terms.
//!
//! A protocol translates between its wire and this crate. It is given an [`Inference`] to call and a
//! [`ModelDirectory`] to look at, and knows nothing behind them: no tenant, no limit, no scheduler. It has
//! one [`Exchange`] a call, which reads the call once, and of that a [`Reply`], which answers it once: both
//! are consumed.
//!
//! # Invariants
//! Each names what holds it.
//!
//! - Nothing of a transport and nothing of a store is in this crate or below it.
//!   (`serving/tests/architecture.rs`)
//! - A call is read at most once and answered at most once. ([`Exchange`] and [`Reply`] are consumed)
//! - A task's parameters are defined once, for every protocol. (`models_core::with_parameters`)
//! - Every failure has a row of [`ErrorKind`]. (`serving/tests/error_table.rs`)

#![warn(missing_docs)]

pub mod body;
pub mod call;
pub mod caller;
pub mod error;
pub mod exchange;
pub mod inference;
pub mod model_info;
pub mod quota;

pub use body::BodyMeter;
pub use call::{InferRequest, InferResponse, Processor, Timings};
pub use caller::{Caller, Identity, RequestId, request_id};
pub use error::{ApiError, ErrorKind, GrpcCode, Refusal, Retry, Row};
pub use exchange::{Call, Exchange, Kept, Made, Repeat, Reply};
pub use inference::{
    CallStream, HeldAnswerBytes, Inference, ModelDirectory, ModelRepository, NextCall, Reads, StreamBounds,
    StreamedCall, Visit,
};
pub use model_info::{Computed, ModelInfo, ModelStatus};
pub use models_core::card::{Limits, MicroDollars, Pooling, PromptKind, Prompts, Task};
pub use models_core::tasks;
pub use models_core::tasks::Operation;
pub use models_core::with_parameters;
pub use quota::{Exceeded, Quota};
pub use units::{Period, Priority, Unit, WallTime};
