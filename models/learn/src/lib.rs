//! Classifiers learnt from a tenant's own examples: a logistic regression on embeddings of unit length.
//!
//! What is learnt is small, a row of weights and a bias for each class, so that it is trained in seconds on a
//! CPU and served behind the encoder that all share. [`train`] chooses how strongly weights are held down by
//! cross-validation, fits them, makes probabilities of scores by a temperature, and tells from examples that
//! were held out how good the classifier is and which examples deserve a second look ([`Report`]).
//!
//! Everything here is a function of its arguments: no clock, no thread that outlives a call, chance only by a
//! seed. The same examples, options and seed give the same numbers on any number of threads, since sums are
//! made in blocks of rows that depend on the number of rows alone.
//!
//! The optimum is that of scikit-learn's `LogisticRegression`: `C * sum(weight * loss) + |W|^2 / 2`, biases
//! free (`tests/reference.rs`). Vectors are centred before, which changes the biases alone and makes the
//! problem better conditioned.

mod calibration;
mod data;
mod duplicates;
mod folds;
mod head;
mod intervals;
mod minimize;
mod objective;
mod products;
mod report;
mod selection;
mod training;

pub use data::{Examples, Targets};
pub use head::{Head, Link};
pub use intervals::Interval;
pub use report::{ClassReport, Confusion, Duplicate, Report, Suspect, Uncertain};
pub use training::{ClassWeights, Learnt, Options, Progress, Stage, train};

/// Why nothing was learnt. Examples and classes are named by their index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// There are too few classes to tell apart.
    #[error("there are {classes} classes, at least {least} are needed")]
    TooFewClasses {
        /// Classes given.
        classes: usize,
        /// Fewest classes.
        least: usize,
    },
    /// A class has no example.
    #[error("class {class} has no example")]
    NoExample {
        /// The class.
        class: usize,
    },
    /// An example has a class that is not one of them, or one class twice.
    #[error("example {example} has class {class}, which is none of the classes or given twice")]
    WrongClass {
        /// The example.
        example: usize,
        /// The class.
        class: u32,
    },
    /// The vectors are not rows of so many columns, or not as many as there are targets.
    #[error("{values} values are no {examples} vectors of {columns}")]
    Shape {
        /// Values given.
        values: usize,
        /// Targets given.
        examples: usize,
        /// Columns of a vector.
        columns: usize,
    },
    /// A vector has a value that is not finite.
    #[error("the vector of example {example} has a value that is not finite")]
    NotFinite {
        /// The example.
        example: usize,
    },
    /// An option has a value that makes no sense.
    #[error("{option} {fault}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// More memory would be needed than may be used.
    #[error(
        "training needs {needed} bytes, at most {limit} may be used: send fewer examples or fewer classes"
    )]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Whoever watches the training ended it.
    #[error("the training was cancelled")]
    Cancelled,
}
