//! Why a model's files do not make a model.

use crate::kinds::Unsupported;

/// Why one model is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file is missing, unreadable or not what the card says.
    #[error("{file}: {message}")]
    File {
        /// Path as the card or the source names it.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// The card or the checkpoint asks for something this build cannot do.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A weight is not in its file.
    #[error("{file}: tensor {name} is missing")]
    MissingTensor {
        /// Path as the card or the source names it.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A weight does not have the shape that the sizes demand.
    #[error("{file}: tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Path as the card or the source names it.
        file: String,
        /// The tensor.
        name: String,
        /// The shape that the sizes demand.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// The card's labels do not fit the classifier.
    #[error("{file}: the classifier has {rows} rows, but the card names {labels} labels")]
    Labels {
        /// The head's file.
        file: String,
        /// Labels in the card.
        labels: usize,
        /// Rows of the classifier.
        rows: usize,
    },
    /// The card's limits or tokenizer ask for more than the encoder has.
    #[error("{what} {asked} is more than the encoder's {available}")]
    Capacity {
        /// What is asked for.
        what: &'static str,
        /// How much of it.
        asked: usize,
        /// How much the encoder has.
        available: usize,
    },
    /// The encoder's sizes make no sense, or the library that computes failed.
    #[error("{message}")]
    Backend {
        /// What is wrong.
        message: String,
    },
    /// A fault that only one runtime knows.
    #[error(transparent)]
    Runtime(Box<dyn std::error::Error + Send + Sync>),
}

impl ModelError {
    /// A fault that only one runtime knows.
    pub fn of_runtime(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Runtime(Box::new(error))
    }
}
