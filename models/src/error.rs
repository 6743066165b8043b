//! Why a model, or a whole catalog, could not be loaded.

use std::sync::Arc;

use crate::card::{CardError, Task};
use crate::runtimes::onnx::OnnxError;
use crate::source::SourceError;
use crate::tokenizer::TokenizeError;

/// Why the process has no catalog at all. What is wrong with one model only is a [`ModelError`].
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder of cards could not be read.
    #[error("folder of model cards {folder}: {source}")]
    Cards {
        /// The folder.
        folder: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The folder holds no card.
    #[error("folder of model cards {folder}: no <name>/README.md in it")]
    NoCards {
        /// The folder.
        folder: String,
    },
    /// An override names a model for which there is no card.
    #[error("no model {model:?} to configure; there are cards for {known}")]
    UnknownModel {
        /// The name.
        model: String,
        /// Names of the cards.
        known: String,
    },
    /// The configured default of a task has no card.
    #[error("defaults.{task}: no model {model:?}; there are cards for {known}")]
    UnknownDefault {
        /// The task.
        task: Task,
        /// The name.
        model: String,
        /// Names of the cards.
        known: String,
    },
    /// The configured default of a task does something else.
    #[error("defaults.{task}: model {model:?} does {offers}")]
    DefaultTask {
        /// The task.
        task: Task,
        /// The name.
        model: String,
        /// What it does.
        offers: Task,
    },
    /// Two cards say that they are a task's default.
    #[error(
        "the cards {first} and {second} both say `default: true` for {task}: take one back, or name the default in the \
         configuration (defaults.{task})"
    )]
    TwoDefaults {
        /// The task.
        task: Task,
        /// One card.
        first: String,
        /// The other.
        second: String,
    },
    /// More cards than a process can number.
    #[error("{models} model cards; at most {limit} can be served by one process")]
    TooManyModels {
        /// How many there are.
        models: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The files of a model could not be had; only for a caller who asked for nothing but the files.
    #[error("{model}: {source}")]
    Fetch {
        /// The model.
        model: String,
        /// The reason.
        source: Arc<SourceError>,
    },
}

/// Why one model is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The card is not usable.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The files could not be had. Shared, because models over the same source fail together.
    #[error(transparent)]
    Source(#[from] Arc<SourceError>),
    /// The tokenizer is not usable.
    #[error(transparent)]
    Tokenizer(#[from] TokenizeError),
    /// A file is missing, unreadable or not what the card says.
    #[error("{file}: {message}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// The card asks for something this build cannot do.
    #[error("{field} {value:?} is not supported; supported: {supported}")]
    Unsupported {
        /// Field of the card.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        supported: String,
    },
    /// A weight is not in its file.
    #[error("{file}: tensor {name} is missing")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A weight does not have the shape that the sizes demand.
    #[error("{file}: tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
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
    /// The card's zero-shot part names a model that cannot do it.
    #[error("zero_shot.model {model:?}: {message}")]
    ZeroShot {
        /// The model named.
        model: String,
        /// Why it cannot.
        message: &'static str,
    },
    /// ONNX Runtime cannot be used.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The tensor library failed.
    #[error("{message}")]
    Backend {
        /// What it said.
        message: String,
    },
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        // The library's own text may carry a backtrace behind its first line.
        let text = error.to_string();
        ModelError::Backend { message: text.lines().next().unwrap_or_default().to_owned() }
    }
}
