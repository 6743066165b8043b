//! One runtime in one process, driven line by line, so that a script can measure several side by side in turns.
//!
//! A line of input is the lengths of the sequences of some batches, in tokens, and how often to run them all:
//! `{"batches": [[16, 16], [9]], "runs": 5}`. A line of output is the seconds of each run. `{"batches": [], "runs": 1}`
//! measures what the multipliers could do instead, in multiplications and additions a second. The model is the embedding
//! model of this repository.
#![allow(clippy::disallowed_methods, reason = "measuring time is what it is for")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use mimalloc::MiMalloc;
use models::runtimes::{Loader, fused, onnx};
use models::source::{self, Store};
use models::{Card, Device, DeviceConfig, HostTensor, NoProgress, OnnxConfig, Sequence, TokenBatch};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
use serde::Deserialize;

/// Some tenths of a second.
const PEAK_ROUNDS: usize = 40_000_000;

#[derive(Deserialize)]
struct Order {
    batches: Vec<Vec<usize>>,
    runs: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(runtime), Some(dtype), Some(threads)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: engine RUNTIME DTYPE THREADS".into());
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let data_dir = std::env::var_os("ML_INFERENCE_DATA_DIR").map_or_else(|| root.join("data"), PathBuf::from);
    let mut card = Card::from_file(&root.join("model-cards/embeddings-v2/README.md"))?;
    (card.runtime, card.dtype) = (runtime, dtype.clone());
    let threads: usize = threads.parse()?;
    let store = Store { data_dir: data_dir.clone(), offline: false };
    let folder = source::ensure(&card.source, &card.folder, &store, &NoProgress)?;
    let onnx_config = OnnxConfig { threads, ..OnnxConfig::default() };
    let weights = Loader::new(onnx::Loader::new(onnx_config, &data_dir)).load(&card, &folder)?;
    let device = Device::new(DeviceConfig { threads, ..DeviceConfig::default() })?;
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
                let operations = fused::multiply_in_registers(&device, &dtype, PEAK_ROUNDS)?;
                numbers.push(operations as f64 / start.elapsed().as_secs_f64());
                continue;
            }
            for batch in &batches {
                model.run(batch, &mut result)?;
            }
            numbers.push(start.elapsed().as_secs_f64());
        }
        writeln!(output, "{}", serde_json::to_string(&numbers)?)?;
        output.flush()?;
    }
    Ok(())
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
