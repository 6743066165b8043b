//! Every architecture and every head against its authors' own classes (`scripts/make_checkpoints.py`), as
//! `models/tests/checkpoints.rs` and `heads.rs` hold the other runtimes: on an emulated GPU, in the two
//! formats of 16 bits that kernels have.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "common/emulation.rs"]
mod emulation;
#[path = "../../../tests/common/random.rs"]
mod random;
#[path = "../../../tests/common/checkpoints.rs"]
mod references;

use std::sync::Arc;

use models::weights::HeadWeights;
use models::{Backend, DeviceConfig, GpuConfig, Runtime, architectures, open_device};
use runtime_cuda::Cuda;

/// Classes of all references.
const LABELS: usize = 3;

#[test]
fn on_an_emulated_gpu() {
    emulation::run("gpu::", &[("EMULATED_GPUS", "1")]);
}

mod gpu {
    use std::collections::BTreeSet;

    use models::Architecture;
    use models::weights::EncoderWeights;

    use super::*;
    use crate::random::{difference, hidden_states, identity, run};
    use crate::references::{Checkpoint, References, checkpoints};

    /// Of pooled vectors to the authors', by format. In bfloat16 what is between the products is rounded
    /// too, unlike on the CPU.
    const FORMATS: [(&str, f64); 2] = [("float16", 0.9999), ("bfloat16", 0.999)];

    fn open(checkpoint: &Checkpoint, config: &serde_json::Value) -> (tempfile::TempDir, Arc<EncoderWeights>) {
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path(), config);
        let architecture = architectures::detect(config.to_string().as_bytes()).unwrap();
        let weights = Arc::new(architectures::open(architecture, folder.path()).unwrap());
        (folder, weights)
    }

    fn runtime(weights: &Arc<EncoderWeights>, head: &HeadWeights, dtype: &str) -> Box<dyn Runtime> {
        let gpu = Some(GpuConfig::new(&Cuda, 0));
        let device = open_device(DeviceConfig { threads: 1, gpu, ..DeviceConfig::default() }).unwrap();
        let weights = Arc::clone(weights);
        let model = runtime_cuda::assemble(dtype.parse().unwrap(), weights, None, head.clone()).unwrap();
        model.runtime(&device).unwrap()
    }

    fn cosine(left: &[f32], right: &[f32]) -> f64 {
        let dot = |left: &[f32], right: &[f32]| -> f64 {
            left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
        };
        dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
    }

    fn mean(found: &[f32], rows: usize) -> Vec<f32> {
        let width = found.len() / rows;
        let sum =
            |column: usize| found.iter().skip(column).step_by(width).copied().map(f64::from).sum::<f64>();
        (0..width).map(|column| (sum(column) / rows as f64) as f32).collect()
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn every_architecture_equals_its_authors() {
        let references = References::read();
        let (mut covered, mut faults) = (BTreeSet::new(), Vec::new());
        for checkpoint in checkpoints().into_iter().filter(|checkpoint| checkpoint.kind == "encoder") {
            let (_folder, weights) = open(&checkpoint, &checkpoint.configs[0]);
            assert_eq!(Cuda.supports(&weights.spec).err(), None, "{}", checkpoint.name);
            let head = identity(weights.spec.hidden_size);
            let sequences = checkpoint.sequences();
            for (dtype, least) in FORMATS {
                let mut runtime = runtime(&weights, &head, dtype);
                let together = hidden_states(&mut *runtime, &sequences);
                for (index, (sequence, found)) in sequences.iter().zip(&together).enumerate() {
                    let found_mean = mean(found, sequence.len());
                    let cosine = cosine(&found_mean, &references.mean(&checkpoint.name, index));
                    let alone = &hidden_states(&mut *runtime, std::slice::from_ref(sequence))[0];
                    let apart = difference(found, alone);
                    // Other numbers of rows may be other algorithms of products on a chip.
                    if !(cosine >= least && apart <= 0.05) {
                        let (name, length) = (&checkpoint.name, sequence.len());
                        faults.push(format!("{name}, {dtype}, {length} tokens: {cosine}, alone {apart}"));
                    }
                }
            }
            covered.insert(checkpoint.architecture.clone());
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        let known: BTreeSet<String> = Architecture::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(covered, known);
    }

    /// Each family's classifiers of sequences and of tokens: labels are equal wherever the authors' logits
    /// are further apart than rounding.
    #[test]
    #[ignore = "needs a GPU"]
    fn classifiers_keep_labels() {
        let references = References::read();
        let mut compared = 0;
        let is_classifier = |checkpoint: &Checkpoint| ["sequence", "token"].contains(&&*checkpoint.kind);
        for checkpoint in checkpoints().into_iter().filter(is_classifier) {
            let (folder, weights) = open(&checkpoint, &checkpoint.configs[0]);
            let is_per_token = checkpoint.kind == "token";
            let head = HeadWeights::of_checkpoint(folder.path(), &weights, is_per_token, LABELS).unwrap();
            let found = run(&mut *runtime(&weights, &head, "float16"), &checkpoint.sequences());
            let mut rows = found.data.chunks_exact(LABELS);
            for (index, sequence) in checkpoint.sequences().iter().enumerate() {
                let expected = references.rows(&checkpoint.name, index);
                let count = if is_per_token { sequence.len() } else { 1 };
                let found: Vec<&[f32]> = rows.by_ref().take(count).collect();
                let kept = match is_per_token {
                    true if expected.len() < count => references::kept_rows(count),
                    _ => (0..count).collect(),
                };
                assert_eq!(kept.len(), expected.len(), "{}", checkpoint.name);
                for (row, expected) in kept.iter().zip(&expected) {
                    let apart = difference(found[*row], expected);
                    assert!(apart < 0.02, "{}, input {index}, row {row}: {apart}", checkpoint.name);
                    let label = |row: &[f32]| (0..LABELS).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
                    let best = expected[label(expected)];
                    let is_clear = expected.iter().filter(|logit| best - **logit < 0.04).count() == 1;
                    if is_clear {
                        assert_eq!(label(found[*row]), label(expected), "{}, input {index}", checkpoint.name);
                        compared += 1;
                    }
                }
            }
            assert!(rows.next().is_none(), "{}", checkpoint.name);
        }
        assert!(compared > 500, "{compared}");
    }
}
