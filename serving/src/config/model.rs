//! What the configuration changes of a model.

use serde::Deserialize;

/// What differs from a model's card.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The runtime.
    pub runtime: Option<Runtime>,
    /// The number format. With a runtime and without this it is `float32`, and `float16` for `cuda`.
    pub dtype: Option<Dtype>,
    /// Whether its p99 target is a deadline: what cannot be answered within it is refused.
    pub p99_target_is_deadline: Option<bool>,
    /// Whether the server is not ready while it cannot serve this model. If neither this nor the card says: it is not.
    pub required: Option<bool>,
}

/// What computes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Our own engine for CPUs.
    Fused,
    /// The reference.
    Candle,
    /// ONNX Runtime.
    Onnx,
    /// Our own engine for GPUs.
    Cuda,
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 half precision.
    Float16,
    /// The upper half of `float32`.
    Bfloat16,
}

impl Runtime {
    /// The name in cards.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fused => "fused",
            Self::Candle => "candle",
            Self::Onnx => "onnx",
            Self::Cuda => "cuda",
        }
    }
}

impl Dtype {
    /// The name in cards.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
        }
    }
}
