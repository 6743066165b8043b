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
            Self::Classify => Task::Classify.as_str(),
            Self::Sentiment => Task::Sentiment.as_str(),
            Self::Entities => Task::Entities.as_str(),
            Self::Summarize => Task::Summarize.as_str(),
            Self::Embed => Task::Embed.as_str(),
            Self::Rerank => Task::Rerank.as_str(),
            Self::Similarity => "similarity",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
        }
    }

    /// The tasks whose models do it. Where a caller names no model, the first of them that has a default has
    /// the model: vectors answer how near texts are to each other where nothing reads both at once, and
    /// tokens are the same for all models of an encoder, so that any will do.
    pub const fn tasks(self) -> &'static [Task] {
        match self {
            Self::Classify => &[Task::Classify],
            Self::Sentiment => &[Task::Sentiment],
            Self::Entities => &[Task::Entities],
            Self::Summarize => &[Task::Summarize],
            Self::Embed | Self::Similarity => &[Task::Embed],
            Self::Rerank => &[Task::Rerank, Task::Embed],
            Self::Tokenize | Self::Detokenize => {
                &[Task::Embed, Task::Classify, Task::Sentiment, Task::Entities, Task::Summarize, Task::Rerank]
            }
        }
    }

    /// Whether models of a task do it.
    pub fn is_done_by(self, task: Task) -> bool {
        self.tasks().contains(&task)
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
            Task::Rerank => Self::Rerank,
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
