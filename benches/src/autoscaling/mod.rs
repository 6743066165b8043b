//! How many servers: a day of 50 million requests, on a cluster whose size a policy decides.
//!
//! Every request goes through the server's own scheduler, on a virtual clock: [`day`] is what is asked,
//! [`cluster`] the servers that come, go and fail, and [`sizing`] the policies that are compared.

pub mod cluster;
pub mod day;
pub mod sizing;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::cluster::{Cluster, ClusterConfig};
    use super::day::{Day, DayConfig};
    use super::sizing::{Fixed, Ours, Sizing};
    use crate::simulation::hardware::Hardware;
    use crate::simulation::workload::Workload;

    fn run(sizing: &mut dyn Sizing, minutes: u64, rate: f64) -> super::cluster::Outcome {
        let config = DayConfig {
            duration: Duration::from_secs(minutes * 60),
            requests: rate * minutes as f64 * 60.0,
            bursts: 0,
            ..DayConfig::default()
        };
        let (workload, hardware) = (Workload::on_cpu(), Hardware::cpu());
        let day = Day::new(&workload, &config, 1);
        let config = ClusterConfig { size: 4, losses: 0, ..ClusterConfig::default() };
        Cluster::new(&workload, &hardware, config, 1).unwrap().run(&day, sizing)
    }

    #[test]
    fn every_request_ends_and_enough_servers_are_in_time() {
        let outcome = run(&mut Fixed(4), 3, 500.0);
        let asked = outcome.in_time.iter().sum::<u64>() + outcome.late.iter().sum::<u64>();
        assert!((205_000..245_000).contains(&asked), "{asked} of 90,000 requests with 2.5 texts each");
        assert!(outcome.attainment() > 0.995, "{}", outcome.attainment());
        assert!((outcome.server_hours() - 4.0 * 3.0 / 60.0).abs() < 1e-9, "{}", outcome.server_hours());
    }

    #[test]
    fn too_few_are_late_and_ours_asks_for_more() {
        let few = run(&mut Fixed(4), 6, 1800.0);
        let ours = run(&mut Ours::new(router::scaling::ScalingConfig::default()), 6, 1800.0);
        assert!(few.attainment() < 0.9, "{}", few.attainment());
        assert!(ours.attainment() > few.attainment() + 0.1, "{} and {}", ours.attainment(), few.attainment());
        assert!(ours.sizes.last().is_some_and(|(_, size)| *size >= 6), "{:?}", ours.sizes);
    }
}
