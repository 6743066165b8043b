//! What the models of one GPU share: buffers, graphs, and batches on their way through.
//!
//! Three streams: one uploads, one computes, one downloads. While a batch computes, the input of the next is
//! copied beside it, and the result of the one before; events keep them in order, and nobody waits for the
//! whole device. What crosses the bus lies in pinned memory, since a copy from any other is no copy beside
//! anything (CUDA C++ Best Practices Guide, "Asynchronous and Overlapping Transfers with Computation").
//!
//! A small batch takes the device less time than it takes the host to start its fifty kernels one by one. So
//! small batches are rounded up to few shapes, and the kernels of each are started together as a CUDA graph
//! once a shape has come twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaEvent, CudaGraph, CudaStream, DevicePtr};
use models_core::{GpuConfig, HostTensor, RuntimeError, TokenBatch, UNDER_WAY_MAX};

use super::device::{Fault, Gpu, Kernels};
use super::encoder::Pass;
use super::layout::{Room, Shape, Widths};
use super::memory::{Buffers, SlotMemory};
use super::products::Products;
use super::weights::DeviceWeights;

/// Shapes that are known; beyond that all are forgotten. Five models of some thirty shapes in use, twice.
const GRAPHS_MAX: usize = 512;

/// What the models of one GPU share. One of them computes at a time.
pub(crate) struct Workspace {
    gpu: Arc<Gpu>,
    products: Products,
    graphs: HashMap<GraphKey, Option<Graph>>,
    /// Batches of at most so many tokens are rounded up and computed as graphs.
    graph_tokens_max: usize,
    fuses_gelu: bool,
    room: Room,
    buffers: Option<Buffers>,
    slots: [Slot; UNDER_WAY_MAX],
    /// Of the next batch.
    next_slot: usize,
    /// Batches that have begun and whose result was not taken: their slots and the shapes of their results.
    under_way: VecDeque<(usize, [usize; 2])>,
    next_model: u64,
}

/// What a batch has to itself from its upload to the end of its download.
struct Slot {
    memory: Option<SlotMemory>,
    uploaded: CudaEvent,
    computed: CudaEvent,
    downloaded: CudaEvent,
}

/// The kernels of one model for one shape, with the addresses of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GraphKey {
    model: u64,
    slot: usize,
    shape: Shape,
}

struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, one at a time (CUDA driver API, "Graph object thread safety"); a
// workspace is used so.
unsafe impl Send for Graph {}

/// A model as the workspace needs it.
pub(super) struct Model<'a> {
    pub(super) number: u64,
    pub(super) weights: &'a DeviceWeights,
    pub(super) kernels: &'a Kernels,
    pub(super) widths: Widths,
}

impl Workspace {
    /// One without any memory yet.
    ///
    /// # Errors
    /// The device refuses.
    pub(crate) fn new(gpu: Arc<Gpu>, config: &GpuConfig) -> Result<Self, RuntimeError> {
        let slot = || -> Result<Slot, Fault> {
            let event = || gpu.context.new_event(None);
            Ok(Slot { memory: None, uploaded: event()?, computed: event()?, downloaded: event()? })
        };
        Ok(Self {
            products: Products::new(Arc::clone(&gpu.compute))?,
            graphs: HashMap::new(),
            graph_tokens_max: config.graph_tokens_max,
            fuses_gelu: config.fuses_gelu,
            room: Room::default(),
            buffers: None,
            slots: [slot()?, slot()?],
            next_slot: 0,
            under_way: VecDeque::new(),
            next_model: 0,
            gpu,
        })
    }

    /// A number for a model by which its graphs are known.
    pub(super) fn number(&mut self) -> u64 {
        self.next_model += 1;
        self.next_model
    }

    /// Forgets a model.
    pub(super) fn leave(&mut self, number: u64) {
        // What went wrong is asked where it matters.
        let _ = self.wait();
        self.graphs.retain(|key, _| key.model != number);
    }

    /// Makes room for all batches of up to so many tokens and sequences, so that none asks for memory later.
    pub(super) fn reserve(&mut self, widths: Widths, largest: (usize, usize)) -> Result<(), Fault> {
        self.grow(self.room_of(widths, largest))
    }

    /// Bytes that [`reserve`](Self::reserve) takes if nothing is there yet.
    pub(super) fn bytes(&self, widths: Widths, largest: (usize, usize)) -> usize {
        self.room_of(widths, largest).bytes(UNDER_WAY_MAX)
    }

    fn room_of(&self, widths: Widths, (tokens, sequences): (usize, usize)) -> Room {
        let exact = Shape::largest(tokens, sequences);
        let rounded = Shape::largest(tokens.min(self.graph_tokens_max), sequences).rounded();
        Room::of(widths, exact).max(Room::of(widths, rounded))
    }

    /// Starts on a batch that passed [`check_batch`](models_core::runtime::check_batch). False: not while
    /// others are under way.
    pub(super) fn begin(&mut self, model: &Model<'_>, batch: &TokenBatch) -> Result<bool, Fault> {
        let exact = Shape::of(batch);
        let is_small = batch.tokens() <= self.graph_tokens_max;
        let shape = if is_small { exact.rounded() } else { exact };
        let room = Room::of(model.widths, shape).max(self.room);
        let must_wait = room != self.room || self.under_way.len() >= UNDER_WAY_MAX;
        if must_wait && !self.under_way.is_empty() {
            return Ok(false);
        }
        self.grow(room)?;
        let result = model.widths.result(exact);
        let started = self.start(model, (batch, shape, is_small), result[0] * result[1]);
        if let Err(fault) = started {
            // Nothing may read or write pinned memory that is given to another batch. And cublasLt does not
            // say that a device is lost; its driver does.
            return Err(self.wait().err().unwrap_or(fault));
        }
        self.under_way.push_back((self.next_slot, result));
        self.next_slot = (self.next_slot + 1) % UNDER_WAY_MAX;
        Ok(true)
    }

    /// Whether the first batch under way is done, or failed.
    pub(super) fn is_finished(&self) -> bool {
        let first = self.under_way.front();
        first.is_none_or(|(slot, _)| self.slots[*slot].downloaded.try_is_complete().unwrap_or(true))
    }

    /// Waits for the first batch under way and takes its result.
    pub(super) fn finish(&mut self, result: &mut HostTensor) -> Result<(), Fault> {
        result.data.clear();
        result.shape.clear();
        let Some((slot, shape)) = self.under_way.pop_front() else { return Ok(()) };
        let slot = &self.slots[slot];
        if let Err(error) = slot.downloaded.synchronize() {
            return Err(self.wait().err().unwrap_or(error.into()));
        }
        if let Some(memory) = &slot.memory {
            result.data.extend_from_slice(&memory.pinned_result.as_slice()?[..shape[0] * shape[1]]);
        }
        result.shape.extend_from_slice(&shape);
        Ok(())
    }

    /// Waits for all that was started, also where some of it failed.
    fn wait(&self) -> Result<(), Fault> {
        let streams = [&self.gpu.upload, &self.gpu.compute, &self.gpu.download];
        streams.map(|stream| stream.synchronize()).into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }

    /// Gets at least so much memory. Nothing is under way.
    fn grow(&mut self, room: Room) -> Result<(), Fault> {
        let room = room.max(self.room);
        if room == self.room {
            return Ok(());
        }
        // Freed before more is asked for; and graphs know addresses.
        self.wait()?;
        self.graphs.clear();
        (self.buffers, self.room) = (None, Room::default());
        self.slots.iter_mut().for_each(|slot| slot.memory = None);
        for slot in &mut self.slots {
            slot.memory = Some(SlotMemory::new(&self.gpu, room)?);
        }
        self.buffers = Some(Buffers::new(&self.gpu.compute, room)?);
        // Memory is there when its stream has come to it; the other streams use it too.
        self.gpu.compute.synchronize()?;
        self.room = room;
        Ok(())
    }

    fn start(
        &mut self,
        model: &Model<'_>,
        (batch, shape, is_small): (&TokenBatch, Shape, bool),
        results: usize,
    ) -> Result<(), Fault> {
        let Gpu { upload, compute, download, .. } = &*self.gpu;
        let slot = &mut self.slots[self.next_slot];
        // There is room: `grow` made it.
        let (Some(memory), Some(buffers)) = (&mut slot.memory, &self.buffers) else { return Ok(()) };
        let words = &mut memory.pinned_input.as_mut_slice()?[..shape.words()];
        shape.write(batch, words);
        // SAFETY: the input has room for the shape, and pinned memory is let alone until the batch has ended.
        unsafe { memcpy_htod_async(memory.input.device_ptr(upload).0, words, upload.cu_stream()) }?;
        slot.uploaded.record(upload)?;
        compute.wait(&slot.uploaded)?;
        let Model { number, weights, kernels, .. } = *model;
        let fuses_gelu = self.fuses_gelu;
        let products = &mut self.products;
        let mut pass = Pass { compute, weights, kernels, products, buffers, memory, shape, fuses_gelu };
        let key = GraphKey { model: number, slot: self.next_slot, shape };
        if is_small { run_small(&mut pass, &mut self.graphs, key) } else { pass.run() }?;
        slot.computed.record(compute)?;
        download.wait(&slot.computed)?;
        let to = &mut memory.pinned_result.as_mut_slice()?[..results];
        // SAFETY: as above.
        unsafe { memcpy_dtoh_async(to, memory.result.device_ptr(download).0, download.cu_stream()) }?;
        slot.downloaded.record(download)?;
        Ok(())
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = self.wait();
    }
}

/// Starts the kernels of a shape: by themselves the first time, as a graph after that.
fn run_small(
    pass: &mut Pass<'_>,
    graphs: &mut HashMap<GraphKey, Option<Graph>>,
    key: GraphKey,
) -> Result<(), Fault> {
    match graphs.get(&key) {
        Some(Some(Graph(graph))) => return Ok(graph.launch()?),
        Some(None) => {}
        None => {
            if graphs.len() >= GRAPHS_MAX {
                forget(pass, graphs)?;
            }
            graphs.insert(key, None);
            return pass.run();
        }
    }
    match capture(pass) {
        Ok(graph) => {
            graph.0.launch()?;
            graphs.insert(key, Some(graph));
            Ok(())
        }
        // Graphs take memory too.
        Err(fault) if fault.is_out_of_memory() => {
            forget(pass, graphs)?;
            pass.run()
        }
        Err(fault) => Err(fault),
    }
}

/// Gives up all graphs, once the last of them has run.
fn forget(pass: &Pass<'_>, graphs: &mut HashMap<GraphKey, Option<Graph>>) -> Result<(), Fault> {
    pass.compute.synchronize()?;
    graphs.clear();
    Ok(())
}

fn capture(pass: &mut Pass<'_>) -> Result<Graph, Fault> {
    let stream: &Arc<CudaStream> = pass.compute;
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    let launched = pass.run();
    // Ended in any case, or the stream computes nothing any more.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    launched?;
    Ok(Graph(graph?.ok_or(Fault::NoGraph)?))
}
