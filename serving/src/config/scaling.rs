//! Configuration of the signals to scale on.

use garde::Validate;
use serde::Deserialize;

/// How many servers there should be.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// Fewest servers.
    #[garde(range(min = 1, max = 10_000))]
    pub replicas_min: u32,
    /// Most servers.
    #[garde(range(min = 1, max = 10_000))]
    pub replicas_max: u32,
    /// Share of its devices' time that a server should be asked for.
    #[garde(range(min = 0.05, max = 1.0))]
    pub utilization_target: f64,
    /// What waits should be computed within this time.
    #[garde(range(min = 1, max = 3600))]
    pub drain_target_seconds: u64,
    /// From asking for a server to its being ready.
    #[garde(range(max = 3600))]
    pub cold_start_seconds: u64,
    /// For how long fewer servers must have been enough before there are fewer.
    #[garde(range(max = 86_400))]
    pub stabilization_seconds: u64,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            replicas_min: 2,
            replicas_max: 8,
            utilization_target: 0.7,
            drain_target_seconds: 30,
            cold_start_seconds: 30,
            stabilization_seconds: 300,
        }
    }
}
