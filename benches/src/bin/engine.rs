//! One runtime in one process, driven line by line, so that a script can measure several side by side in
//! turns.
//!
//! `engine RUNTIME DTYPE THREADS [CARD [GRAPH_TOKENS_MAX [fuses-gelu]]]`: the card's folder, the embedding
//! model's if none is given; and, for the runtime `cuda`, which computes on the first GPU, up to which size
//! batches are computed as CUDA graphs, and whether GELU is computed within a product.
//!
//! A line of input is the lengths of the sequences of some batches, in tokens, and how often to run them all:
//! `{"batches": [[16, 16], [9]], "runs": 5}`. A line of output is the seconds of each run; where the device
//! computes beside the thread that drives it, the next batch is given to it while one computes, as the server
//! does. `{"batches": [], "runs": 1}` measures what a CPU's multipliers could do instead, in multiplications
//! and additions a second. With `"show": true` the line of output is the result's rows instead, of the last
//! batch.
#![allow(clippy::disallowed_methods, reason = "measuring time is what it is for")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use batching::UNDER_WAY_MAX;
use mimalloc::MiMalloc;
use models::catalog::Loader;
use models::runtimes::fused;
use models::source::{self, Store};
use models::{
    BatchLimits, Card, DeviceConfig, GpuConfig, GpuRuntime, HostTensor, NoProgress, OnnxConfig, Runtime,
    RuntimeError, RuntimeKind, Sequence, TokenBatch, open_device,
};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Some tenths of a second.
const PEAK_ROUNDS: usize = 40_000_000;

#[derive(Deserialize)]
struct Order {
    batches: Vec<Vec<usize>>,
    runs: usize,
    #[serde(default)]
    show: bool,
}

/// Room for the batches of the benches from the start.
const LIMITS: BatchLimits = BatchLimits { tokens_max: 16_384, sequences_max: 1024 };

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(runtime), Some(dtype), Some(threads)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: engine RUNTIME DTYPE THREADS [CARD [GRAPH_TOKENS_MAX [fuses-gelu]]]".into());
    };
    let root = std::env::var_os("ML_INFERENCE_ROOT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."), PathBuf::from);
    let data_dir = std::env::var_os("ML_INFERENCE_DATA_DIR").map_or_else(|| root.join("data"), PathBuf::from);
    let card = arguments.next().map_or_else(|| root.join("model-cards/embeddings-v2"), PathBuf::from);
    let mut card = Card::from_file(&card.join("README.md"))?;
    let graph_tokens_max =
        arguments.next().map_or(Ok(GpuConfig::GRAPH_TOKENS_MAX), |tokens| tokens.parse())?;
    (card.runtime, card.dtype) = (runtime.parse()?, dtype.parse()?);
    let threads: usize = threads.parse()?;
    let store = Store { data_dir: data_dir.clone(), offline: false };
    let folder = source::ensure(&card.source, &card.folder, &store, &NoProgress)?;
    let onnx_config = OnnxConfig { threads, ..OnnxConfig::default() };
    let weights = Loader::new(&onnx_config, &data_dir, gpu_runtime()).load(&card, &folder)?;
    let fuses_gelu = arguments.next().is_some_and(|option| option == "fuses-gelu");
    let gpu = gpu_runtime().filter(|_| card.runtime == RuntimeKind::Cuda);
    let gpu = gpu.map(|runtime| GpuConfig {
        limits: LIMITS,
        graph_tokens_max,
        fuses_gelu,
        ..GpuConfig::new(runtime, 0)
    });
    let device = open_device(DeviceConfig { threads, gpu, ..DeviceConfig::default() })?;
    let mut model = weights.runtime(&device)?;
    let mut result = HostTensor::default();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let batches: Vec<_> =
            order.batches.iter().map(|lengths| batch(lengths, weights.vocabulary_size())).collect();
        let mut numbers = Vec::with_capacity(order.runs);
        for _ in 0..order.runs {
            let start = Instant::now();
            if batches.is_empty() {
                let operations = fused::multiply_in_registers(&device, card.dtype, PEAK_ROUNDS)?;
                numbers.push(operations as f64 / start.elapsed().as_secs_f64());
                continue;
            }
            run(&mut *model, &batches, &mut result)?;
            numbers.push(start.elapsed().as_secs_f64());
        }
        if order.show {
            let columns = result.shape.last().copied().unwrap_or(1);
            let rows: Vec<&[f32]> = result.data.chunks(columns).collect();
            writeln!(output, "{}", serde_json::to_string(&rows)?)?;
        } else {
            writeln!(output, "{}", serde_json::to_string(&numbers)?)?;
        }
        output.flush()?;
    }
    Ok(())
}

/// What computes on GPUs, if this build has it.
fn gpu_runtime() -> Option<&'static dyn GpuRuntime> {
    #[cfg(feature = "cuda")]
    return Some(&runtime_cuda::Cuda);
    #[cfg(not(feature = "cuda"))]
    None
}

/// Computes batches one after the other.
fn run(model: &mut dyn Runtime, batches: &[TokenBatch], result: &mut HostTensor) -> Result<(), RuntimeError> {
    let Some(overlap) = model.overlap() else {
        return batches.iter().try_for_each(|batch| model.run(batch, result));
    };
    let mut under_way = 0;
    for batch in batches {
        while under_way == UNDER_WAY_MAX || !overlap.begin(batch)? {
            overlap.finish(result)?;
            under_way -= 1;
        }
        under_way += 1;
    }
    (0..under_way).try_for_each(|_| overlap.finish(result))
}

/// Ids spread over the vocabulary, the same every time.
fn batch(lengths: &[usize], vocabulary: usize) -> TokenBatch {
    let mut id = 0;
    let mut next = || {
        id = (id + 7919) % vocabulary;
        id as u32
    };
    let sequences: Vec<_> =
        lengths.iter().map(|&length| Sequence::new((0..length).map(|_| next()).collect())).collect();
    TokenBatch::from_sequences(&sequences)
}
