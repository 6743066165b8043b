//! Minima of smooth convex functions by L-BFGS (Liu and Nocedal, 1989), with steps cut until they are worth
//! their length (Armijo).

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::products::{add_scaled, dot};

/// Steps that the curvature is taken from.
const HISTORY: usize = 10;
/// How much of what the slope promises a step has to bring.
const ARMIJO: f64 = 1e-4;
/// Times that a step is cut; then nothing more is to be had in this precision.
const CUTS_MAX: usize = 12;
/// Decrease of the value, relative to it, that single precision cannot tell from none.
const DECREASE_MIN: f64 = 1e-9;

/// When a minimum is near enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Precision {
    /// Largest part of the gradient.
    pub(crate) gradient_max: f32,
    /// Most steps.
    pub(crate) steps_max: usize,
}

/// A function to minimise. `evaluate` puts its gradient at `at` into `gradient` and gives its value.
pub(crate) trait Smooth {
    fn evaluate(&self, at: &[f32], gradient: &mut Vec<f32>) -> f64;
}

struct Step {
    moved: Vec<f32>,
    turned: Vec<f32>,
    /// `1 / (moved . turned)`.
    scale: f64,
}

/// Moves `at` to the minimum of a function; `after_step` is called after each step and may end it.
pub(crate) fn minimize<B>(
    function: &impl Smooth,
    at: &mut [f32],
    precision: Precision,
    mut after_step: impl FnMut() -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut gradient = vec![0.0; at.len()];
    let mut value = function.evaluate(at, &mut gradient);
    let mut history: VecDeque<Step> = VecDeque::with_capacity(HISTORY);
    let (mut next, mut next_gradient) = (vec![0.0; at.len()], vec![0.0; at.len()]);
    for _ in 0..precision.steps_max {
        if gradient.iter().fold(0.0, |max: f32, part| max.max(part.abs())) <= precision.gradient_max {
            break;
        }
        let mut direction = direction(&gradient, &history);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding has spoilt the curvature.
            history.clear();
            direction = gradient.iter().map(|part| -part).collect();
            slope = dot(&direction, &gradient);
        }
        let mut length = 1.0;
        let mut found = None;
        for _ in 0..CUTS_MAX {
            next.copy_from_slice(at);
            add_scaled(&mut next, length as f32, &direction);
            let there = function.evaluate(&next, &mut next_gradient);
            if there <= value + ARMIJO * length * slope {
                found = Some(there);
                break;
            }
            // The minimum of the parabola through both values and the slope, within bounds.
            let parabola = -slope * length * length / (2.0 * (there - value - slope * length));
            length =
                if parabola.is_finite() { parabola.clamp(0.1 * length, 0.5 * length) } else { 0.1 * length };
        }
        let Some(there) = found else { break };
        let moved: Vec<f32> = next.iter().zip(&*at).map(|(next, at)| next - at).collect();
        let turned: Vec<f32> = next_gradient.iter().zip(&gradient).map(|(next, now)| next - now).collect();
        let curvature = dot(&moved, &turned);
        if curvature > 1e-10 * dot(&turned, &turned) {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(Step { moved, turned, scale: 1.0 / curvature });
        }
        at.copy_from_slice(&next);
        std::mem::swap(&mut gradient, &mut next_gradient);
        let decrease = value - there;
        value = there;
        after_step()?;
        if decrease <= DECREASE_MIN * value.abs() {
            break;
        }
    }
    ControlFlow::Continue(())
}

/// Where to go: against the gradient, by the curvature of the last steps.
fn direction(gradient: &[f32], history: &VecDeque<Step>) -> Vec<f32> {
    let mut direction: Vec<f32> = gradient.iter().map(|part| -part).collect();
    let mut parts = Vec::with_capacity(history.len());
    for Step { moved, turned, scale } in history.iter().rev() {
        let part = scale * dot(moved, &direction);
        add_scaled(&mut direction, -part as f32, turned);
        parts.push(part);
    }
    if let Some(Step { turned, scale, .. }) = history.back() {
        let by = (1.0 / (scale * dot(turned, turned))) as f32;
        direction.iter_mut().for_each(|part| *part *= by);
    }
    for (Step { moved, turned, scale }, part) in history.iter().zip(parts.iter().rev()) {
        let back = scale * dot(turned, &direction);
        add_scaled(&mut direction, (part - back) as f32, moved);
    }
    direction
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// `sum(stiffness * (x - goal)^2) / 2`, of very different stiffness.
    struct Bowl;

    const STIFFNESS: [f32; 4] = [100.0, 1.0, 10.0, 0.5];
    const GOAL: [f32; 4] = [1.0, -2.0, 0.25, 4.0];

    impl Smooth for Bowl {
        fn evaluate(&self, at: &[f32], gradient: &mut Vec<f32>) -> f64 {
            gradient.clear();
            gradient.extend((0..4).map(|i| STIFFNESS[i] * (at[i] - GOAL[i])));
            (0..4).map(|i| f64::from(STIFFNESS[i] * (at[i] - GOAL[i]).powi(2)) / 2.0).sum()
        }
    }

    #[test]
    fn a_minimum_is_found_from_anywhere() {
        for start in [[0.0; 4], [50.0, -50.0, 3.0, 1000.0], GOAL] {
            let mut at = start;
            let mut steps = 0;
            let precision = Precision { gradient_max: 1e-4, steps_max: 100 };
            let end = minimize(&Bowl, &mut at, precision, || -> ControlFlow<Infallible> {
                steps += 1;
                ControlFlow::Continue(())
            });
            assert_eq!(end, ControlFlow::Continue(()));
            assert!(steps < 40, "{steps}");
            for (found, goal) in at.iter().zip(GOAL) {
                assert!((found - goal).abs() < 2e-3, "{at:?}");
            }
        }
    }

    #[test]
    fn whoever_watches_ends_it() {
        let mut left = 2;
        let mut at = [50.0; 4];
        let end = minimize(&Bowl, &mut at, Precision { gradient_max: 0.0, steps_max: 100 }, || {
            left -= 1;
            if left == 0 { ControlFlow::Break("enough") } else { ControlFlow::Continue(()) }
        });
        assert_eq!((end, left), (ControlFlow::Break("enough"), 0));
    }
}
