//! What is asked: a day with its swing, its noise and its bursts, by seed.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1, Normal, Zipf};
use units::{Priority, Timestamp};

use crate::simulation::workload::{Arrival, Workload};

/// Lengths that are drawn beforehand for each model, to be drawn from.
const LENGTHS: usize = 4096;
/// Tenants' shares follow Zipf's law with this exponent.
const ZIPF_EXPONENT: f64 = 1.1;

/// How a day is.
#[derive(Debug, Clone, PartialEq)]
pub struct DayConfig {
    /// How long it is.
    pub duration: Duration,
    pub requests: f64,
    /// Texts of a request, on average; their number is geometrically distributed.
    pub texts: f64,
    /// Swing of the rate between night and noon, beside its mean.
    pub swing: f64,
    /// Standard deviation of the slow noise, which forgets within ten minutes.
    pub noise: f64,
    /// Bursts, spread at random.
    pub bursts: usize,
}

impl Default for DayConfig {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(86_400),
            requests: 50e6,
            texts: 2.5,
            swing: 0.55,
            noise: 0.05,
            bursts: 16,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Day {
    /// Requests a second, for each second.
    pub rates: Vec<f64>,
    seed: u64,
    /// By model.
    lengths: Vec<Vec<u32>>,
    /// Running sums of the models' shares.
    shares: Vec<f64>,
    tenants: u32,
    texts: f64,
}

/// The texts of a day's requests, one after the other; the rate of requests is constant within a second.
pub struct Texts<'a> {
    day: &'a Day,
    rng: ChaCha8Rng,
    tenants: Option<Zipf<f64>>,
    /// In seconds.
    at: f64,
    /// The text before, if the same request brings more.
    before: Option<Arrival>,
}

impl Day {
    /// A day of `workload`.
    pub fn new(workload: &Workload, config: &DayConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x00da_7000);
        let seconds = config.duration.as_secs() as usize;
        let mut rates: Vec<f64> = (0..seconds)
            .map(|second| {
                let of_day = second as f64 / seconds as f64 - 1.0 / 6.0;
                1.0 - config.swing * (of_day * std::f64::consts::TAU).cos()
            })
            .collect();
        add_noise(&mut rates, config.noise, &mut rng);
        for _ in 0..config.bursts {
            add_burst(&mut rates, &mut rng);
        }
        let scale = config.requests / rates.iter().sum::<f64>();
        rates.iter_mut().for_each(|rate| *rate *= scale);
        let models = 0..workload.models.len();
        let lengths =
            models.map(|model| (0..LENGTHS).map(|_| workload.length(model, &mut rng)).collect()).collect();
        let mut sum = 0.0;
        let shares = workload.models.iter().map(|model| {
            sum += model.share;
            sum
        });
        Self {
            rates,
            seed,
            lengths,
            shares: shares.collect(),
            tenants: workload.tenants,
            texts: config.texts,
        }
    }

    /// Texts a second, for each second.
    pub fn text_rates(&self) -> Vec<f64> {
        self.rates.iter().map(|rate| rate * self.texts).collect()
    }

    /// Its requests' texts, in the order of their arrival.
    pub fn texts(&self) -> Texts<'_> {
        let tenants = Zipf::new(f64::from(self.tenants), ZIPF_EXPONENT).ok();
        Texts { day: self, rng: ChaCha8Rng::seed_from_u64(self.seed), tenants, at: 0.0, before: None }
    }
}

/// Multiplies with a noise that forgets with a time constant of ten minutes.
fn add_noise(rates: &mut [f64], deviation: f64, rng: &mut ChaCha8Rng) {
    let keep = (-1.0f64 / 600.0).exp();
    let Ok(step) = Normal::new(0.0, deviation * (1.0 - keep * keep).sqrt()) else { return };
    let mut noise = 0.0;
    for rate in rates {
        noise = keep * noise + step.sample(rng);
        *rate *= (1.0 + noise).max(0.1);
    }
}

/// A third to one and a half times as many requests more, for two to twenty minutes, with a rise of five to a
/// hundred seconds.
fn add_burst(rates: &mut [f64], rng: &mut ChaCha8Rng) {
    let start = rng.random_range(0..rates.len().max(1));
    let length = rng.random_range(120.0..1200.0);
    let rise = rng.random_range(5.0..100.0);
    let height = rng.random_range(0.3..1.5);
    for (second, rate) in rates.iter_mut().skip(start).take(length as usize).enumerate() {
        let second = second as f64;
        *rate *= 1.0 + height * (second / rise).min(1.0).min((length - second) / rise);
    }
}

impl Texts<'_> {
    fn tokens(&mut self, model: u16) -> u32 {
        let lengths = &self.day.lengths[usize::from(model)];
        lengths[self.rng.random_range(0..lengths.len())]
    }
}

impl Iterator for Texts<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if let Some(before) = self.before
            && self.rng.random::<f64>() * self.day.texts >= 1.0
        {
            return Some(Arrival { tokens: self.tokens(before.model), ..before });
        }
        let mut gap: f64 = Exp1.sample(&mut self.rng);
        loop {
            let second = self.at as usize;
            let rate = *self.day.rates.get(second)?;
            let until_next = (second + 1) as f64 - self.at;
            if gap <= rate * until_next {
                self.at += gap / rate;
                break;
            }
            gap -= rate * until_next;
            self.at = (second + 1) as f64;
        }
        let draw: f64 = self.rng.random();
        let last = self.day.shares.len() - 1;
        let model = self.day.shares.partition_point(|sum| *sum <= draw).min(last) as u16;
        let arrival = Arrival {
            at: Timestamp::from_nanos((self.at * 1e9) as u64),
            model,
            tenant: self.tenants.map_or(0, |tenants| tenants.sample(&mut self.rng) as u32 - 1),
            priority: Priority::Normal,
            tokens: self.tokens(model),
        };
        self.before = Some(arrival);
        Some(arrival)
    }
}
