//! A warm fused runtime allocates nothing for a batch: neither buffers, nor plans, nor results.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

#[path = "common/random.rs"]
mod random;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use models::card::Pooling;
use models::weights::{HeadRows, HeadWeights, LinearWeights};
use models::{HiddenActivation, HostTensor, TokenBatch};
use random::{Random, config, encoder_tensors, fused, weights};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_warm_batch_allocates_nothing() {
    let mut random = Random::new(1);
    let config = config(HiddenActivation::Gelu);
    let weights = weights(&encoder_tensors(&mut random, &config), &config);
    let linear = |outputs| LinearWeights { weight: vec![0.1; outputs * 12], bias: vec![0.0; outputs] };
    let classifier = |rows| HeadWeights::classifier(rows, Some(linear(12)), linear(3));
    let means = HeadRows::Pooled(vec![Pooling::Mean]);
    for head in [HeadWeights::mean_pooling(), classifier(means), classifier(HeadRows::Tokens)] {
        for (dtype, threads) in [("float32", 1), ("bfloat16", 2)] {
            let mut runtime = fused(&weights, None, &head, dtype, "portable", threads).unwrap();
            let batches: Vec<_> = [vec![32; 8], vec![3, 1, 17], vec![9]]
                .into_iter()
                .map(|lengths: Vec<usize>| {
                    let sequences: Vec<_> =
                        lengths.iter().map(|&length| random.sequence(length, config.vocab_size)).collect();
                    TokenBatch::from_sequences(&sequences)
                })
                .collect();
            let mut result = HostTensor::default();
            // The largest batch makes the buffers grow; each shape makes its own plan.
            batches.iter().for_each(|batch| runtime.run(batch, &mut result).unwrap());
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..10 {
                batches.iter().for_each(|batch| runtime.run(batch, &mut result).unwrap());
            }
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(allocations, 0, "{head:?}, {dtype}, {threads} threads");
        }
    }
}
