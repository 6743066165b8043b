//! What a long step tells the person who waits for it.

/// Receives the progress of fetching and loading. Implementations must not block for long.
pub trait Progress: Send + Sync {
    /// A step began, or something worth knowing happened. One line, no line break.
    fn message(&self, text: &str);

    /// Bytes of `file` that have arrived; `total` is 0 while it is not known.
    fn bytes(&self, file: &str, completed: u64, total: u64);
}

#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn message(&self, _text: &str) {}

    fn bytes(&self, _file: &str, _completed: u64, _total: u64) {}
}
