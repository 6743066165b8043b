//! Why a model was not loaded, as rows of the one error table.

use api::Refusal;
use batching::ModelChangeError;
use models::ChangeError;

use crate::error::{ApiError, ErrorKind, TableError};

/// Why a model was not loaded. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A device has no room for it.
    #[error("{0}; unload another model first")]
    Room(String),
    /// A device does not take it.
    #[error("a device refuses the model: {0}")]
    Device(String),
    /// It does not compute.
    #[error("the model does not compute: {0}")]
    Compute(String),
    #[error(transparent)]
    Engine(ModelChangeError),
}

impl TableError for NotLoaded {
    fn refused(self) -> ApiError {
        let kind = match &self {
            Self::Change(ChangeError::Unknown(_)) => return ApiError::ModelNotFound,
            Self::Change(_) | Self::Device(_) | Self::Compute(_) => ErrorKind::ModelNotLoadable,
            Self::Room(_) => ErrorKind::ModelDoesNotFit,
            Self::Engine(ModelChangeError::Busy) => {
                return ApiError::Overloaded { retry_after: super::DRAIN_MARGIN };
            }
            Self::Engine(ModelChangeError::ShutDown) => return ApiError::ShuttingDown,
            Self::Engine(ModelChangeError::Config(_)) => return ApiError::internal(self),
        };
        Refusal { kind, message: self.to_string(), retry_after: None, limit: None }.into()
    }
}
