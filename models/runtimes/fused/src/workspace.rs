//! What the fused models of one device share while they compute: its threads and its buffers.

use std::sync::{Arc, Mutex};

use super::buffer::Buffer;
use super::pieces::Pieces;
use super::threads::Pool;

/// Threads and buffers of one device. Models take turns; a batch allocates nothing once the buffers have
/// grown.
pub struct Workspace {
    pub(super) pool: Pool,
    pub(super) pieces: Pieces,
    pub(super) buffers: Buffers,
}

/// Matrices of a batch of `T` tokens and `B` sequences. Rows are as wide as the packed layer that writes
/// them.
pub(super) struct Buffers {
    /// Hidden states, float32, `[T, the larger of H and E]`.
    pub(super) hidden: Buffer,
    /// The same in the products' format.
    pub(super) operand: Buffer,
    /// Queries, keys and values, `[T + lanes, (heads + 2 heads of keys) d]`.
    pub(super) query_key_value: Buffer,
    /// What the heads give, `[T, heads d]`.
    pub(super) context: Buffer,
    /// Inside of the feed-forward blocks, `[rows at work, I]`.
    pub(super) inner: Buffer,
    /// Means of sequences, float32, `[B, H]`.
    pub(super) means: Buffer,
    /// Inside of the head, float32, `[B or T, H]`.
    pub(super) dense: Buffer,
    /// What the head gives, float32, `[B or T, C]`.
    pub(super) logits: Buffer,
    /// One for each thread.
    pub(super) scratch: Vec<Scratch>,
}

/// What attention needs for one thread; see [`super::kernels::AttentionScratch`].
pub(super) struct Scratch {
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
    pub(super) weights: Buffer,
    pub(super) scores: Buffer,
    pub(super) sums: Buffer,
    pub(super) state: Buffer,
    pub(super) from_queries: Buffer,
    pub(super) from_keys: Buffer,
}

impl Workspace {
    /// Starts the threads of a device.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize, pin: bool) -> std::io::Result<Arc<Mutex<Self>>> {
        let pool = Pool::new(threads, pin)?;
        let buffers = Buffers::new(pool.threads());
        Ok(Arc::new(Mutex::new(Self { pool, pieces: Pieces::default(), buffers })))
    }
}

impl Buffers {
    fn new(threads: usize) -> Self {
        Self {
            hidden: Buffer::new(),
            operand: Buffer::new(),
            query_key_value: Buffer::new(),
            context: Buffer::new(),
            inner: Buffer::new(),
            means: Buffer::new(),
            dense: Buffer::new(),
            logits: Buffer::new(),
            scratch: (0..threads).map(|_| Scratch::new()).collect(),
        }
    }
}

impl Scratch {
    fn new() -> Self {
        Self {
            keys: Buffer::new(),
            values: Buffer::new(),
            weights: Buffer::new(),
            scores: Buffer::new(),
            sums: Buffer::new(),
            state: Buffer::new(),
            from_queries: Buffer::new(),
            from_keys: Buffer::new(),
        }
    }
}
