//! What can be asked of a model.

use crate::card::Task;

/// What a call asks for. A model does what its card says, its task; what it computes for that answers other
/// questions as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Classes of documents.
    Classify,
    /// The mood of texts.
    Sentiment,
    /// Names in texts.
    Entities,
    /// Texts made shorter.
    Summarize,
    /// Vectors of texts.
    Embed,
    /// How well documents answer a query.
    Rerank,
    /// How near texts are to another one.
    Similarity,
    /// The tokens of texts.
    Tokenize,
    /// The texts of tokens.
    Detokenize,
}

impl Operation {
    /// Name in metrics and logs; that of the task where it is one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classify | Self::Sentiment | Self::Entities | Self::Summarize | Self::Embed => {
                self.default_task().as_str()
            }
            Self::Rerank => "rerank",
            Self::Similarity => "similarity",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
        }
    }

    /// The task that it is, if it is one.
    pub const fn task(self) -> Option<Task> {
        match self {
            Self::Classify => Some(Task::Classify),
            Self::Sentiment => Some(Task::Sentiment),
            Self::Entities => Some(Task::Entities),
            Self::Summarize => Some(Task::Summarize),
            Self::Embed => Some(Task::Embed),
            Self::Rerank | Self::Similarity | Self::Tokenize | Self::Detokenize => None,
        }
    }

    /// The task whose default model does it for callers who name none. Vectors answer how near texts are to
    /// each other; tokens are the same for all models of an encoder, so that any will do.
    pub const fn default_task(self) -> Task {
        match self.task() {
            Some(task) => task,
            None => Task::Embed,
        }
    }

    /// Whether models of a task do it.
    pub fn is_done_by(self, task: Task) -> bool {
        matches!(self, Self::Tokenize | Self::Detokenize) || self.default_task() == task
    }

    /// Whether it takes no device: nothing is computed that has a price.
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Tokenize | Self::Detokenize)
    }
}

impl From<Task> for Operation {
    fn from(task: Task) -> Self {
        match task {
            Task::Classify => Self::Classify,
            Task::Sentiment => Self::Sentiment,
            Task::Entities => Self::Entities,
            Task::Summarize => Self::Summarize,
            Task::Embed => Self::Embed,
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
