//! What the configuration changes of a model.

use models::{Dtype, RuntimeKind};
use serde::Deserialize;

/// What differs from a model's card.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The runtime.
    pub runtime: Option<RuntimeKind>,
    /// The number format. With a runtime and without this it is `float32`, and `float16` for `cuda`.
    pub dtype: Option<Dtype>,
    /// Whether its p99 target is a deadline: what cannot be answered within it is refused.
    pub p99_target_is_deadline: Option<bool>,
    /// Whether the server is not ready while it cannot serve this model. If neither this nor the card says:
    /// it is not.
    pub required: Option<bool>,
}
