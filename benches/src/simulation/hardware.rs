//! What computes: devices whose batches take `a + b W`, with noise.

use std::time::Duration;

use batching::Work;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, LogNormal};

/// Devices of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    pub devices: u16,
    /// Time of a batch whatever is in it.
    pub overhead: Duration,
    /// Seconds that a unit of work adds.
    pub slope: f64,
    /// Standard deviation of the logarithm of a batch's time.
    pub noise: f64,
    /// Share of batches that take `STALL` longer.
    pub stall_share: f64,
    /// Of each device, how many times as fast it is; 1 where there is none.
    pub speeds: Vec<f64>,
    /// Measured work and seconds, ascending, in place of the straight line; between them it is straight.
    pub measured: Vec<(f64, f64)>,
}

/// How much longer a stalled batch takes.
const STALL: Duration = Duration::from_millis(10);

impl Hardware {
    /// A device that computes a million tokens a second, as an encoder of 110 million parameters does on one
    /// of today's accelerators, and needs `overhead` for each batch.
    pub fn accelerator(devices: u16, overhead: Duration) -> Self {
        Self {
            devices,
            overhead,
            slope: 1e-6,
            noise: 0.05,
            stall_share: 0.0,
            speeds: Vec::new(),
            measured: Vec::new(),
        }
    }

    /// This project's CPU engine on two cores, in bfloat16: `benches/results/engines.md`, two threads.
    pub fn cpu() -> Self {
        let seconds =
            |texts: f64, tokens: f64, rate: f64| (texts * tokens * (1.0 + tokens / 2304.0), texts / rate);
        let measured = vec![
            seconds(1.0, 16.0, 1333.8),
            seconds(1.0, 64.0, 447.1),
            seconds(8.0, 16.0, 2017.7),
            seconds(1.0, 256.0, 121.2),
            seconds(8.0, 64.0, 558.5),
            seconds(8.0, 128.0, 272.1),
            seconds(8.0, 256.0, 120.3),
            seconds(32.0, 128.0, 263.2),
        ];
        let overhead = Duration::from_micros(250);
        Self { overhead, slope: 28e-6, measured, ..Self::accelerator(1, overhead) }
    }

    /// The expected time of a batch on a device of speed 1.
    pub fn time(&self, work: Work) -> Duration {
        let next = self.measured.partition_point(|(measured, _)| *measured < work.0);
        match (next.checked_sub(1).and_then(|last| self.measured.get(last)), self.measured.get(next)) {
            (Some((x0, y0)), Some((x1, y1))) => {
                Duration::from_secs_f64(y0 + (y1 - y0) * (work.0 - x0) / (x1 - x0))
            }
            // Beyond what was measured, or nothing was.
            (Some((x, y)), None) => Duration::from_secs_f64(y * work.0 / x),
            (None, Some((x, y))) => {
                let overhead = self.overhead.as_secs_f64();
                Duration::from_secs_f64(overhead + (y - overhead) * work.0 / x)
            }
            (None, None) => self.overhead + Duration::from_secs_f64(self.slope * work.0),
        }
    }
}

/// The random part of batches' times.
pub struct Noise {
    rng: ChaCha8Rng,
    factor: Option<LogNormal<f64>>,
    stall_share: f64,
}

impl Noise {
    /// The noise of `hardware`, by seed.
    pub fn new(hardware: &Hardware, seed: u64) -> Self {
        // Mean 1, so that noise does not make the hardware slower.
        let factor = LogNormal::new(-hardware.noise * hardware.noise / 2.0, hardware.noise).ok();
        let factor = factor.filter(|_| hardware.noise > 0.0);
        Self { rng: ChaCha8Rng::seed_from_u64(seed ^ 0x9e37_79b9), factor, stall_share: hardware.stall_share }
    }

    /// The actual time of a batch on `device`.
    pub fn time(&mut self, hardware: &Hardware, device: u16, work: Work) -> Duration {
        let factor = self.factor.map_or(1.0, |factor| factor.sample(&mut self.rng));
        let speed = hardware.speeds.get(usize::from(device)).copied().unwrap_or(1.0);
        let is_stalled = self.stall_share > 0.0 && self.rng.random::<f64>() < self.stall_share;
        hardware.time(work).mul_f64(factor / speed) + if is_stalled { STALL } else { Duration::ZERO }
    }
}
