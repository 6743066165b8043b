//! What is asked: five models' traffic, by seed.

use std::time::Duration;

use batching::Work;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Gamma, LogNormal, Zipf};
use units::{Priority, Timestamp};

#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub at: Timestamp,
    /// Index into [`Workload::models`].
    pub model: u16,
    pub tenant: u32,
    pub priority: Priority,
    pub tokens: u32,
}

#[derive(Debug, Clone)]
pub struct ModelTraffic {
    pub name: &'static str,
    /// The p99 target.
    pub target: Duration,
    /// Its requests' share of all.
    pub share: f64,
    /// Median and 99th percentile of its lengths in tokens, which are log-normal, cut at 4 and 1024.
    pub median: f64,
    /// See `median`.
    pub p99: f64,
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// Independent of each other.
    Poisson,
    /// Renewals with gamma-distributed gaps of this coefficient of variation, for each model.
    Gamma(f64),
    /// Poisson, at half the rate for 8 s on average and three times the rate for 2 s, in turns, all models
    /// together.
    Modulated,
    /// Poisson, with three times the rate in the fourth of five parts of the time.
    Flash,
    /// Poisson, with a rate that swings by 60 % around its mean, one day in the whole time.
    Diurnal,
}

/// Traffic of several models and tenants.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Name in the tables.
    pub name: String,
    pub models: Vec<ModelTraffic>,
    /// How requests follow each other.
    pub arrivals: Arrivals,
    /// Tenants; their shares follow Zipf's law with exponent 1.1.
    pub tenants: u32,
    /// Share of all requests that have 512 tokens instead of their own length.
    pub long_share: f64,
    /// What a token's attention to another one costs beside the token itself.
    pub attention: f64,
}

const LENGTH_MIN: f64 = 4.0;
const LENGTH_MAX: f64 = 1024.0;
const ZIPF_EXPONENT: f64 = 1.1;
/// Standard normal quantile of 0.99.
const Z99: f64 = 2.326_347_874;

/// The five models, with the shares and lengths of the mixed workload.
pub fn five_models() -> Vec<ModelTraffic> {
    let traffic = |name, target, share, median, p99| ModelTraffic {
        name,
        target: Duration::from_millis(target),
        share,
        median,
        p99,
    };
    vec![
        traffic("embeddings", 20, 0.40, 32.0, 256.0),
        traffic("sentiment", 30, 0.20, 40.0, 200.0),
        traffic("classifier", 50, 0.20, 128.0, 512.0),
        traffic("entities", 80, 0.15, 100.0, 400.0),
        traffic("summarizer", 500, 0.05, 600.0, 1024.0),
    ]
}

impl Workload {
    /// The five models for 50 tenants on encoders of hidden size 768, requests independent of each other.
    pub fn mixed() -> Self {
        Self {
            name: "five models".to_owned(),
            models: five_models(),
            arrivals: Arrivals::Poisson,
            tenants: 50,
            long_share: 0.0,
            attention: 1.0 / (6.0 * 768.0),
        }
    }

    /// The five models of this repository on a CPU: encoders of hidden size 384, and a summariser that asks
    /// for many short windows.
    pub fn on_cpu() -> Self {
        let mut models = five_models();
        for (model, (share, median, p99)) in models.iter_mut().zip([
            (0.3, 32.0, 128.0),
            (0.2, 32.0, 100.0),
            (0.1, 100.0, 256.0),
            (0.1, 60.0, 200.0),
            (0.3, 28.0, 60.0),
        ]) {
            (model.share, model.median, model.p99) = (share, median, p99);
        }
        Self {
            name: "five models on two CPU cores".to_owned(),
            models,
            attention: 1.0 / 2304.0,
            ..Self::mixed()
        }
    }

    /// One of the five models alone.
    pub fn single(model: usize) -> Self {
        let mut models = five_models();
        let mut only = models.swap_remove(model);
        only.share = 1.0;
        Self { name: format!("{} alone", only.name), models: vec![only], ..Self::mixed() }
    }

    /// The same with other gaps between the requests.
    #[must_use]
    pub fn with(self, name: &str, arrivals: Arrivals) -> Self {
        Self { name: name.to_owned(), arrivals, ..self }
    }

    /// Mean work of a request, over all models, by sampling.
    pub fn mean_work(&self) -> f64 {
        (0..self.models.len()).map(|model| self.models[model].share * self.mean_work_of(model)).sum()
    }

    /// Mean work of a model's request, by sampling.
    pub fn mean_work_of(&self, model: usize) -> f64 {
        const SAMPLES: usize = 20_000;
        let mut rng = ChaCha8Rng::seed_from_u64(model as u64);
        let work = |_| Work::of(units::Tokens(self.length(model, &mut rng)), self.attention).0;
        (0..SAMPLES).map(work).sum::<f64>() / SAMPLES as f64
    }

    /// All requests of `duration` at `rate` requests a second on average, in the order of their arrival.
    pub fn generate(&self, seed: u64, rate: f64, duration: Duration) -> Vec<Arrival> {
        let mut arrivals = Vec::with_capacity((rate * duration.as_secs_f64() * 1.1) as usize);
        let phases = Phases::new(self.arrivals, seed, duration);
        for model in 0..self.models.len() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(model as u64 + 1));
            self.generate_model(
                model,
                &mut rng,
                rate * self.models[model].share,
                &phases,
                duration,
                &mut arrivals,
            );
        }
        arrivals.sort_by_key(|arrival| arrival.at);
        arrivals
    }

    fn generate_model(
        &self,
        model: usize,
        rng: &mut ChaCha8Rng,
        rate: f64,
        phases: &Phases,
        duration: Duration,
        arrivals: &mut Vec<Arrival>,
    ) {
        let variation = if let Arrivals::Gamma(variation) = self.arrivals { variation } else { 1.0 };
        // A gamma distribution of mean 1 and the wanted coefficient of variation.
        let shape = 1.0 / (variation * variation);
        let Ok(gaps) = Gamma::new(shape, 1.0 / shape) else { return };
        let Ok(tenants) = Zipf::new(f64::from(self.tenants), ZIPF_EXPONENT) else { return };
        let end = duration.as_secs_f64();
        // Time is stretched by the rate of the moment: unit-rate renewals in operational time.
        let mut at = 0.0;
        loop {
            at += gaps.sample(rng) / (rate * phases.factor(at));
            if at >= end {
                return;
            }
            arrivals.push(Arrival {
                at: Timestamp::from_nanos((at * 1e9) as u64),
                model: model as u16,
                tenant: tenants.sample(rng) as u32 - 1,
                priority: Priority::Normal,
                tokens: self.length(model, rng),
            });
        }
    }

    /// A random length of a model's request, in tokens.
    pub fn length(&self, model: usize, rng: &mut ChaCha8Rng) -> u32 {
        if self.long_share > 0.0 && rng.random::<f64>() < self.long_share {
            return 512;
        }
        let traffic = &self.models[model];
        let deviation = (traffic.p99 / traffic.median).ln() / Z99;
        let Ok(lengths) = LogNormal::new(traffic.median.ln(), deviation) else { return LENGTH_MIN as u32 };
        lengths.sample(rng).clamp(LENGTH_MIN, LENGTH_MAX) as u32
    }
}

/// The rate over time, beside its mean.
struct Phases {
    /// Starts of phases in seconds with their factors; none: always 1.
    steps: Vec<(f64, f64)>,
}

impl Phases {
    fn new(arrivals: Arrivals, seed: u64, duration: Duration) -> Self {
        let end = duration.as_secs_f64();
        let steps = match arrivals {
            Arrivals::Poisson | Arrivals::Gamma(_) => Vec::new(),
            Arrivals::Flash => vec![(0.0, 1.0), (0.6 * end, 3.0), (0.8 * end, 1.0)],
            Arrivals::Diurnal => (0..96)
                .map(|step| {
                    let day = f64::from(step) / 96.0;
                    (day * end, 1.0 - 0.6 * (day * std::f64::consts::TAU).cos())
                })
                .collect(),
            Arrivals::Modulated => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5bd1_e995);
                let (mut at, mut is_high, mut steps) = (0.0, false, Vec::new());
                while at < end {
                    let (factor, mean) = if is_high { (3.0, 2.0) } else { (0.5, 8.0) };
                    steps.push((at, factor));
                    at += -mean * (1.0 - rng.random::<f64>()).ln();
                    is_high = !is_high;
                }
                steps
            }
        };
        Self { steps }
    }

    fn factor(&self, at: f64) -> f64 {
        let after = self.steps.partition_point(|(start, _)| *start <= at);
        after.checked_sub(1).map_or(1.0, |index| self.steps[index].1)
    }
}
