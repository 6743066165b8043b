//! Why a model, or a whole catalog, could not be loaded.

use std::sync::Arc;

use models_core::ModelError;
use models_core::card::Task;

use crate::source::SourceError;
use crate::tokenizer::TokenizeError;

/// Why the process has no catalog at all. What is wrong with one model only is an [`UnavailableError`].
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder of cards could not be read.
    #[error("folder of model cards {folder}: {source}")]
    Cards { folder: String, source: std::io::Error },
    /// The folder holds no card.
    #[error("folder of model cards {folder}: no <name>/README.md in it")]
    NoCards { folder: String },
    /// An override names a model for which there is no card.
    #[error("no model {model:?} to configure; there are cards for {known}")]
    UnknownModel {
        model: String,
        /// Names of the cards.
        known: String,
    },
    /// The configured default of a task has no card.
    #[error("defaults.{task}: no model {model:?}; there are cards for {known}")]
    UnknownDefault {
        task: Task,
        model: String,
        /// Names of the cards.
        known: String,
    },
    /// The configured default of a task does something else.
    #[error("defaults.{task}: model {model:?} does {offers}")]
    DefaultTask { task: Task, model: String, offers: Task },
    /// Two cards say that they are a task's default.
    #[error(
        "the cards {first} and {second} both say `default: true` for {task}: take one back, or name the default in the \
         configuration (defaults.{task})"
    )]
    TwoDefaults { task: Task, first: String, second: String },
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
    Fetch { model: String, source: Arc<SourceError> },
}

/// Why one model is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum UnavailableError {
    /// It was compared with its certificate.
    #[error("{0}")]
    Answers(String),
    /// The files could not be had. Shared, because models over the same source fail together.
    #[error(transparent)]
    Source(#[from] Arc<SourceError>),
    /// The tokenizer is not usable.
    #[error(transparent)]
    Tokenizer(#[from] TokenizeError),
    /// The files do not make the model that the card says.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The card's zero-shot part names a model that cannot do it.
    #[error("zero_shot.model {model:?}: {message}")]
    ZeroShot { model: String, message: &'static str },
    /// Something that read the files panicked.
    #[error("loading it panicked: its files are damaged in a way that is not foreseen")]
    Panicked,
}

/// Every number that a process can give a model has been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has numbered as many models as it can")]
pub struct OutOfNumbers;
