//! How long the line is in which a sequence stands: when it would be answered if all were served as they
//! came, but flows by their shares, and a flow's models in turns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use units::ModelId;

use super::super::cost::{Rate, Seconds};
use super::super::standing::FlowId;
use super::fairness::Weight;

/// Work, in device seconds, that is none.
const NEGLIGIBLE: f64 = 1e-9;

/// What waits of each flow.
#[derive(Debug, Default)]
pub(super) struct Lines {
    flows: Vec<Line>,
    /// What waits of a flow for one model; only what does.
    parts: HashMap<(FlowId, ModelId), Part>,
    all: Line,
}

/// Of all flows together, the weight is that of those of which something waits.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    sequences: usize,
    seconds: f64,
    weight: f64,
    /// Of how many models something waits.
    models: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    sequences: usize,
    seconds: f64,
}

impl Lines {
    pub(super) fn enter(&mut self, flow: FlowId, weight: Weight, model: ModelId, work: Seconds) {
        let index = flow.0 as usize;
        if index >= self.flows.len() {
            self.flows.resize(index + 1, Line::default());
        }
        let line = &mut self.flows[index];
        if line.sequences == 0 {
            line.weight = weight.0;
            self.all.weight += weight.0;
        }
        let part = self.parts.entry((flow, model)).or_insert_with(|| {
            line.models += 1;
            Part::default()
        });
        part.sequences += 1;
        part.seconds += work.0;
        for line in [line, &mut self.all] {
            line.sequences += 1;
            line.seconds += work.0;
        }
    }

    pub(super) fn leave(&mut self, flow: FlowId, model: ModelId, work: Seconds) {
        let Some(line) = self.flows.get_mut(flow.0 as usize) else { return };
        debug_assert!(line.sequences > 0, "a sequence left an empty line");
        if let Entry::Occupied(mut part) = self.parts.entry((flow, model)) {
            let Part { sequences, seconds } = part.get_mut();
            *sequences -= 1;
            *seconds = (*seconds - work.0).max(0.0);
            if *sequences == 0 {
                part.remove();
                line.models -= 1;
            }
        }
        for line in [&mut *line, &mut self.all] {
            line.sequences -= 1;
            line.seconds = (line.seconds - work.0).max(0.0);
        }
        if line.sequences == 0 {
            self.all.weight -= line.weight;
            *line = Line::default();
        }
        if self.all.sequences == 0 {
            self.all = Line::default();
        }
    }

    /// How long what waits of a flow for a model takes, if all that waits takes all devices for `drain`.
    /// `level` is the rate at which a flow of weight 1 is served while shares are enforced; while they are
    /// not, a flow waits no longer than for everything.
    pub(super) fn of(&self, flow: FlowId, model: ModelId, drain: Duration, level: Option<Rate>) -> Duration {
        let Some(part) = self.parts.get(&(flow, model)) else { return Duration::ZERO };
        let line = &self.flows[flow.0 as usize];
        let seconds = (part.seconds * f64::from(line.models)).min(line.seconds);
        let of_all = (seconds / self.all.seconds.max(NEGLIGIBLE)).min(1.0);
        let in_turns = drain.mul_f64(of_all * (self.all.weight / line.weight).max(1.0));
        in_turns.min(match level {
            Some(Rate(level)) => {
                let at_level = seconds / (level * line.weight).max(NEGLIGIBLE);
                Duration::try_from_secs_f64(at_level).unwrap_or(Duration::MAX)
            }
            None => drain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(10);

    const MODEL: ModelId = ModelId(0);
    const OTHER: ModelId = ModelId(1);

    /// Lines of flows with these weights and seconds of work.
    fn lines(flows: &[(f64, f64)]) -> Lines {
        let mut lines = Lines::default();
        for (flow, (weight, seconds)) in (0..).zip(flows) {
            lines.enter(FlowId(flow), Weight(*weight), MODEL, Seconds(*seconds));
        }
        lines
    }

    #[test]
    fn a_line_is_a_flows_own() {
        let check = |flows: &[(f64, f64)], level: Option<f64>, expected: &[f64]| {
            let lines = lines(flows);
            for (flow, expected) in (0..).zip(expected) {
                let line = lines.of(FlowId(flow), MODEL, DRAIN, level.map(Rate)).as_secs_f64();
                assert!((line - expected).abs() < 1e-6, "{flows:?}, {level:?}: {line} of flow {flow}");
            }
        };
        check(&[(1.0, 7.0)], None, &[10.0]);
        // In turns, and no longer than for everything.
        check(&[(1.0, 9.0), (1.0, 1.0)], None, &[10.0, 2.0]);
        check(&[(1.0, 9.0), (3.0, 1.0)], None, &[10.0, 4.0 / 3.0]);
        // At 0.1 s by the second for a weight of 1; no flow waits longer than in turns.
        check(&[(1.0, 1.0), (8.0, 1.0)], Some(0.1), &[10.0, 1.25]);
        check(&[(1.0, 1.0), (8.0, 1.0)], Some(1e-12), &[45.0, 5.625]);
    }

    #[test]
    fn a_flows_models_take_turns() {
        let mut lines = lines(&[(1.0, 9.0)]);
        lines.enter(FlowId(0), Weight(1.0), OTHER, Seconds(1.0));
        assert_eq!(lines.of(FlowId(0), OTHER, DRAIN, None), Duration::from_secs(2));
        assert_eq!(lines.of(FlowId(0), MODEL, DRAIN, None), DRAIN, "no longer than for everything");
        lines.leave(FlowId(0), OTHER, Seconds(1.0));
        assert_eq!(lines.of(FlowId(0), OTHER, DRAIN, None), Duration::ZERO);
        assert!(lines.parts.len() == 1 && lines.flows[0].models == 1);
    }

    #[test]
    fn what_left_is_forgotten() {
        let mut lines = lines(&[(1.0, 9.0), (1.0, 1.0)]);
        lines.leave(FlowId(0), MODEL, Seconds(9.0));
        assert_eq!(lines.of(FlowId(1), MODEL, DRAIN, None), DRAIN);
        assert_eq!(lines.of(FlowId(0), MODEL, DRAIN, None), Duration::ZERO);
        assert_eq!(lines.of(FlowId(7), MODEL, DRAIN, None), Duration::ZERO);
    }
}
