//! What a batch costs: a straight line for each (model, device), fitted while it runs.
//!
//! A batch of sequences of `L_i` tokens takes about `a + b * W` with the work `W = sum L_i (1 + L_i / 6d)`:
//! the linear layers of a transformer of hidden size `d` take `24 L d^2` multiplications a layer and the
//! attention `4 L^2 d`, of which `L / 6d` is the quotient (Kaplan et al., "Scaling Laws for Neural Language
//! Models", 2020, table 1).
//!
//! The line is fitted by least squares of the relative error with exponential forgetting, from running sums
//! (Ljung, "System Identification", 2nd edition, section 11.2). A device that runs like batches for long says
//! nothing about others, and forgetting would let the line swing about that one point; so the first
//! observations, which a sweep over sizes makes, are kept with a small weight for good. Observations are
//! clipped, so that one stall does not move the line, and no coefficient is ever negative.

use std::iter::Sum;
use std::ops::Add;
use std::time::Duration;

use units::Tokens;

/// Share that remains of an observation's weight after each further one.
const FORGETTING: f64 = 0.995;
/// Residuals are clipped at so many mean absolute deviations.
const CLIP_DEVIATIONS: f64 = 3.0;
/// The first observations, which are kept, and the weight of each beside a new one.
const ANCHORS: usize = 8;
const ANCHOR_WEIGHT: f64 = 0.1;
/// Relative residuals that are kept, and how often their quantile is taken anew.
const RATIOS: usize = 256;
const QUANTILE_EVERY: usize = 16;
/// The planned time of a batch exceeds its prediction by this quantile of the relative residuals.
const PLANNED_QUANTILE: f64 = 0.7;
/// Bounds of that quantile: what is beyond is a fault, not noise.
const MARGIN_MAX: f64 = 0.5;
/// Mean relative residual assumed at first, and at least.
const DEVIATION_FIRST: f64 = 0.1;
const DEVIATION_MIN: f64 = 0.01;
/// Weight of the newest observation in the smoothed error.
const ERROR_SMOOTHING: f64 = 0.05;

/// Cost of computing tokens, in tokens of a short sequence: see the module.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Work(pub f64);

impl Work {
    /// The work of one sequence; `attention` is `1 / 6d` for a hidden size `d`.
    pub fn of(tokens: Tokens, attention: f64) -> Self {
        let tokens = f64::from(tokens.0);
        Self(tokens * (1.0 + tokens * attention))
    }
}

impl Work {
    /// What is left; nothing if rounding leaves less.
    pub(super) fn less(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0.0))
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::default(), Add::add)
    }
}

/// Device time, to be weighed and divided.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub(super) struct Seconds(pub(super) f64);

/// Device seconds by the second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub(super) struct Rate(pub(super) f64);

/// The fitted line of one model on one device.
#[derive(Debug, Clone, Default)]
pub(super) struct CostModel {
    /// Seconds of a batch whatever is in it.
    overhead: f64,
    /// Seconds that a unit of work adds.
    slope: f64,
    recent: Sums,
    anchors: Sums,
    /// Mean relative residual, smoothed.
    deviation: f64,
    /// Mean of |actual / predicted - 1|, smoothed.
    error: f64,
    /// The last relative residuals, as a ring.
    ratios: Vec<f32>,
    observations: usize,
    /// What predictions are multiplied with for planning, less one.
    margin: f64,
}

/// Weighted sums over observations `(work, seconds)`.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    one: f64,
    x: f64,
    xx: f64,
    y: f64,
    xy: f64,
}

impl Sums {
    fn scaled(self, factor: f64) -> Self {
        let Self { one, x, xx, y, xy } = self;
        Self { one: one * factor, x: x * factor, xx: xx * factor, y: y * factor, xy: xy * factor }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            one: self.one + other.one,
            x: self.x + other.x,
            xx: self.xx + other.xx,
            y: self.y + other.y,
            xy: self.xy + other.xy,
        }
    }

    /// An observation, weighted so that its relative error counts.
    fn of(work: Work, seconds: f64) -> Self {
        let (x, y) = (work.0, seconds);
        Self { one: 1.0, x, xx: x * x, y, xy: x * y }.scaled(1.0 / (y * y))
    }

    /// The line of least squares, without negative coefficients: its value at zero and its slope.
    fn line(self) -> (f64, f64) {
        let Self { one, x, xx, y, xy } = self;
        let through_zero = if xx > 0.0 { xy / xx } else { 0.0 };
        let determinant = one * xx - x * x;
        if determinant <= 1e-9 * one * xx {
            return (0.0, through_zero);
        }
        let slope = (one * xy - x * y) / determinant;
        let overhead = (y - slope * x) / one;
        if overhead < 0.0 {
            (0.0, through_zero)
        } else if slope < 0.0 {
            (y / one, 0.0)
        } else {
            (overhead, slope)
        }
    }
}

impl CostModel {
    /// Expected time of a batch; zero while nothing is known.
    pub(super) fn predict(&self, work: Work) -> Duration {
        Duration::from_secs_f64(self.seconds(work))
    }

    /// The time to reserve for a batch: its prediction with the margin that covers the usual noise.
    pub(super) fn plan(&self, work: Work) -> Duration {
        Duration::from_secs_f64(self.seconds(work) * (1.0 + self.margin))
    }

    /// Time of a batch beside its work, with the margin.
    pub(super) fn overhead(&self) -> Duration {
        Duration::from_secs_f64(self.overhead * (1.0 + self.margin))
    }

    /// Seconds that a unit of work adds, with the margin.
    pub(super) fn slope(&self) -> f64 {
        self.slope * (1.0 + self.margin)
    }

    /// Mean of |actual / predicted - 1| of late.
    pub(super) fn error(&self) -> f64 {
        self.error
    }

    /// Learns from a batch. Cold ones must not be told.
    pub(super) fn observe(&mut self, work: Work, actual: Duration) {
        let mut actual = actual.as_secs_f64().max(1e-9);
        self.observations += 1;
        if self.observations <= ANCHORS {
            self.anchors = self.anchors.plus(Sums::of(work, actual));
            self.deviation = DEVIATION_FIRST;
        } else {
            let predicted = self.seconds(work).max(1e-9);
            let residual = actual / predicted - 1.0;
            self.note_ratio(residual);
            let limit = CLIP_DEVIATIONS * self.deviation;
            self.deviation += ERROR_SMOOTHING * (residual.abs().min(2.0 * limit) - self.deviation);
            self.deviation = self.deviation.max(DEVIATION_MIN);
            actual = predicted * (1.0 + residual.clamp(-limit.min(0.9), limit));
            self.recent = self.recent.scaled(FORGETTING).plus(Sums::of(work, actual));
        }
        (self.overhead, self.slope) = self.recent.plus(self.anchors.scaled(ANCHOR_WEIGHT)).line();
    }

    fn seconds(&self, work: Work) -> f64 {
        self.overhead + self.slope * work.0
    }

    fn note_ratio(&mut self, residual: f64) {
        self.error += ERROR_SMOOTHING * (residual.abs() - self.error);
        let ratio = residual as f32;
        match self.ratios.len() {
            RATIOS => self.ratios[self.observations % RATIOS] = ratio,
            _ => self.ratios.push(ratio),
        }
        if self.observations.is_multiple_of(QUANTILE_EVERY) {
            let mut sorted = [0.0f32; RATIOS];
            let sorted = &mut sorted[..self.ratios.len()];
            sorted.copy_from_slice(&self.ratios);
            let rank = ((sorted.len() - 1) as f64 * PLANNED_QUANTILE) as usize;
            let (_, quantile, _) = sorted.select_nth_unstable_by(rank, f32::total_cmp);
            self.margin = f64::from(*quantile).clamp(0.0, MARGIN_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of 2 ms and 1 us for each unit of work, with a pseudo-random error of at most `noise`.
    fn truth(step: u32, noise: f64) -> (Work, Duration) {
        let work = f64::from(step.wrapping_mul(2_654_435_761) % 8000);
        let wobble = f64::from(step.wrapping_mul(40_503) % 1000) / 1000.0 - 0.5;
        (Work(work), Duration::from_secs_f64((0.002 + 1e-6 * work) * (1.0 + 2.0 * noise * wobble)))
    }

    fn fitted(steps: u32, noise: f64, stall_every: u32) -> CostModel {
        let mut model = CostModel::default();
        for step in 1..=steps {
            let (work, mut actual) = truth(step, noise);
            if step % stall_every == 0 {
                actual += Duration::from_millis(10);
            }
            model.observe(work, actual);
        }
        model
    }

    fn check(model: &CostModel, tolerance: f64) {
        for work in [0.0, 1000.0, 8000.0] {
            let expected = 0.002 + 1e-6 * work;
            let predicted = model.predict(Work(work)).as_secs_f64();
            assert!((predicted / expected - 1.0).abs() < tolerance, "{work}: {predicted} for {expected}");
        }
    }

    #[test]
    fn two_batches_make_a_line() {
        check(&fitted(2, 0.0, u32::MAX), 0.01);
    }

    #[test]
    fn noise_is_averaged_and_covered_by_the_margin() {
        let model = fitted(2000, 0.1, u32::MAX);
        check(&model, 0.05);
        assert!((0.02..0.08).contains(&model.error()), "{}", model.error());
        let planned = model.plan(Work(1000.0)).as_secs_f64();
        assert!((1.03..1.12).contains(&(planned / 0.003)), "{planned}");
    }

    #[test]
    fn a_stall_in_a_hundred_moves_little() {
        check(&fitted(2000, 0.05, 100), 0.05);
    }

    #[test]
    fn a_device_that_changes_its_speed_is_followed() {
        let mut model = fitted(1000, 0.0, u32::MAX);
        for step in 1..=1000 {
            let (work, actual) = truth(step, 0.0);
            model.observe(work, actual * 2);
        }
        let predicted = model.predict(Work(1000.0)).as_secs_f64();
        assert!((predicted / 0.006 - 1.0).abs() < 0.05, "{predicted}");
    }

    #[test]
    fn like_batches_stay_predictable() {
        let mut model = CostModel::default();
        for _ in 0..100_000 {
            model.observe(Work(500.0), Duration::from_millis(3));
        }
        let predicted = model.predict(Work(500.0)).as_secs_f64();
        assert!((predicted / 0.003 - 1.0).abs() < 0.01, "{predicted}");
        assert!(model.predict(Work(1000.0)).as_secs_f64() < 0.01);
    }

    #[test]
    fn attention_counts() {
        let attention = 1.0 / (6.0 * 384.0);
        assert_eq!(Work::of(Tokens(0), attention), Work(0.0));
        let work = Work::of(Tokens(512), attention).0;
        assert!((work / (512.0 * (1.0 + 512.0 / 2304.0)) - 1.0).abs() < 1e-12);
    }
}
