//! Memory of a GPU that batches use.

use std::sync::Arc;

use cudarc::driver::sys::CU_MEMHOSTALLOC_WRITECOMBINED;
use cudarc::driver::{CudaSlice, CudaStream, PinnedHostSlice};

use super::device::{Fault, Gpu};
use super::layout::Room;

/// Memory that a batch uses while it computes, and the next one after it.
pub(super) struct Buffers {
    /// `[T, H]`
    pub(super) state: CudaSlice<u16>,
    /// `[T, H]` in float32, where layers normalise before their blocks.
    pub(super) residual: CudaSlice<f32>,
    /// Queries, keys and values, what is inside feed-forward blocks, and `[T, H]`.
    pub(super) wide: CudaSlice<u16>,
    /// What the heads give, `[T, E]` and `[T, H]`.
    pub(super) narrow: CudaSlice<u16>,
    /// Rows between a head's layers, as [`hidden`](Self::hidden).
    pub(super) pooled: CudaSlice<f32>,
    pub(super) hidden: CudaSlice<f32>,
}

/// Memory that a batch has to itself from its upload to the end of its download.
pub(super) struct SlotMemory {
    pub(super) pinned_input: PinnedHostSlice<u32>,
    pub(super) pinned_result: PinnedHostSlice<f32>,
    /// As [`Shape::write`](super::layout::Shape::write) has it.
    pub(super) input: CudaSlice<u32>,
    /// As [`Widths::result`](super::layout::Widths::result) has it.
    pub(super) result: CudaSlice<f32>,
}

impl SlotMemory {
    pub(super) fn new(gpu: &Gpu, room: Room) -> Result<Self, Fault> {
        // SAFETY: all of it is written before it is read.
        unsafe {
            Ok(Self {
                pinned_input: gpu
                    .context
                    .alloc_pinned_with_flags(room.input, CU_MEMHOSTALLOC_WRITECOMBINED)?,
                pinned_result: gpu.context.alloc_pinned_with_flags(room.result, 0)?,
                input: gpu.compute.alloc(room.input)?,
                result: gpu.compute.alloc(room.result)?,
            })
        }
    }
}

impl Buffers {
    pub(super) fn new(stream: &Arc<CudaStream>, room: Room) -> Result<Self, Fault> {
        // SAFETY: every kernel writes what it or the next one reads.
        unsafe {
            Ok(Self {
                state: stream.alloc(room.state)?,
                residual: stream.alloc(room.residual)?,
                wide: stream.alloc(room.wide)?,
                narrow: stream.alloc(room.narrow)?,
                pooled: stream.alloc(room.pooled)?,
                hidden: stream.alloc(room.pooled)?,
            })
        }
    }
}
