//! `ml-inference models bench`: what a model gives on this machine, without scheduler, tokenizer and network.

use std::time::Duration;

use batching::Executor;
use models::{Catalog, CatalogConfig, ModelState, Sequence, TextTokenizer};
use units::{Clock, MonotonicClock};

use super::{AnyError, telling};
use crate::devices::Devices;
use crate::progress::Bars;

/// Tokens of a sequence, and sequences of a batch.
const LENGTHS: [usize; 3] = [16, 128, 512];
const BATCHES: [usize; 3] = [1, 8, 32];
/// Batches with more tokens take seconds on a CPU, and tell nothing new.
const BATCH_TOKENS_MAX: usize = 4096;
/// Each is measured so long, and so often at least.
const MEASURED: Duration = Duration::from_millis(500);
const RUNS_MIN: usize = 5;
/// A step through the vocabulary that meets all of it before it comes again.
const STEP: usize = 7919;

/// A table of tokens a second and milliseconds a batch.
pub(super) fn run(config: &CatalogConfig, devices: &Devices) -> Result<(), AnyError> {
    let clock = MonotonicClock::new();
    let begun = clock.now();
    let catalog = Catalog::load(config, &Bars::new())?;
    let only = config.only.as_deref().unwrap_or_default();
    let entry = catalog.find(only).ok_or_else(|| {
        let reason = catalog.find_rejected(only).map(|card| card.reason.clone());
        reason.unwrap_or_else(|| "there is no such model".to_owned())
    })?;
    if let ModelState::Unavailable { reason } = &entry.state {
        return Err(format!("{only}: {reason}").into());
    }
    let device = devices.first().ok_or("there is no device")?;
    let mut executor = catalog.executor_of(entry.id, device)?;
    let loaded = clock.now().saturating_duration_since(begun);
    let card = &entry.card;
    telling(&format!(
        "{} {}: {} in {} on {}, ready in {:.2} s",
        card.name,
        card.version,
        card.runtime,
        card.dtype,
        device.name(),
        loaded.as_secs_f64()
    ));
    telling("  tokens each   sequences    ms a batch (median, worst)    tokens/s");
    let vocabulary = catalog.tokenizer(entry.id).map_or(1, TextTokenizer::vocabulary_size).max(1);
    let longest = card.limits.tokens_max;
    let mut lengths: Vec<usize> = LENGTHS.into_iter().map(|length| length.min(longest)).collect();
    lengths.dedup();
    for length in lengths {
        for sequences in BATCHES.into_iter().filter(|sequences| sequences * length <= BATCH_TOKENS_MAX) {
            let batch: Vec<Sequence> =
                (0..sequences).map(|index| sequence(index, length, vocabulary)).collect();
            // The first makes room.
            executor.execute(entry.id, &batch)?;
            let (start, mut runs) = (clock.now(), Vec::new());
            while runs.len() < RUNS_MIN || clock.now().saturating_duration_since(start) < MEASURED {
                let before = clock.now();
                executor.execute(entry.id, &batch)?;
                runs.push(clock.now().saturating_duration_since(before));
            }
            let elapsed = clock.now().saturating_duration_since(start).as_secs_f64();
            runs.sort_unstable();
            let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
            telling(&format!(
                "  {length:>11}   {sequences:>9}   {:>15.2} {:>11.2}   {:>9.0}",
                ms(runs.get(runs.len() / 2)),
                ms(runs.last()),
                (sequences * length * runs.len()) as f64 / elapsed
            ));
        }
    }
    Ok(())
}

/// Tokens from all of the vocabulary, so that no cache knows them beforehand.
fn sequence(index: usize, length: usize, vocabulary: usize) -> Sequence {
    let token = |place: usize| ((index * length + place) * STEP % vocabulary) as u32;
    Sequence::new((0..length).map(token).collect())
}
