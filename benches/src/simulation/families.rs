//! The policies with the settings that each is tried with; the best setting of a family is what is compared.

use std::time::Duration;

use batching::{ConfigError, DeadlinePolicy, PreferredSize, TokenBudget};
use units::Tokens;

use super::hardware::Hardware;
use super::policies::{Clipper, Clockwork, Nexus, Policy, Production, Symphony};
use super::workload::Workload;

/// Makes a policy anew for each run.
pub type Make = dyn Fn(&Workload, &Hardware) -> Result<Box<dyn Policy>, ConfigError> + Send + Sync;

/// One policy with one setting.
pub struct Variant {
    /// The setting, for people.
    pub setting: String,
    pub make: Box<Make>,
}

/// A policy with all settings it is tried with.
pub struct Family {
    /// Its name in tables.
    pub name: &'static str,
    /// At least one.
    pub variants: Vec<Variant>,
}

fn variant<P: Policy + 'static>(
    setting: String,
    make: impl Fn(&Workload, &Hardware) -> Result<P, ConfigError> + Send + Sync + 'static,
) -> Variant {
    let make = move |workload: &Workload, hardware: &Hardware| {
        make(workload, hardware).map(|policy| Box::new(policy) as Box<dyn Policy>)
    };
    Variant { setting, make: Box::new(make) }
}

/// The server's own scheduler with one of its policies. Targets are deadlines, as they are for all others.
fn production(setting: String, policy: batching::Policy) -> Variant {
    variant(setting, move |workload, hardware| Production::new(workload, hardware, policy.clone(), true))
}

pub fn ours() -> Family {
    Family { name: "ours", variants: vec![by_deadline("as shipped", DeadlinePolicy::default())] }
}

/// This project's policy with other knobs.
pub fn by_deadline(setting: &str, policy: DeadlinePolicy) -> Variant {
    production(setting.to_owned(), batching::Policy::Deadline(policy))
}

/// A policy of the server where targets order the work and refuse nobody.
pub fn refusing_nobody(policy: batching::Policy) -> Variant {
    variant("targets refuse nobody".to_owned(), move |workload, hardware| {
        Production::new(workload, hardware, policy.clone(), false)
    })
}

/// Everything that ours is compared with.
pub fn baselines() -> Vec<Family> {
    vec![triton(), tei(), clipper(), nexus(), clockwork(), symphony()]
}

fn triton() -> Family {
    let settings = [8, 16, 32, 64, 128].into_iter().flat_map(|size| [0, 2, 5, 10].map(|delay| (size, delay)));
    let variants = settings.map(|(sequences, delay)| {
        let queue_delay_max = Duration::from_millis(delay);
        let policy = batching::Policy::PreferredSize(PreferredSize { sequences, queue_delay_max });
        production(format!("preferred size {sequences}, delay {delay} ms"), policy)
    });
    Family { name: "Triton-style", variants: variants.collect() }
}

fn tei() -> Family {
    let variants = [4096, 8192, 16_384].map(|tokens| {
        let policy = batching::Policy::TokenBudget(TokenBudget { tokens: Tokens(tokens) });
        production(format!("{tokens} tokens"), policy)
    });
    Family { name: "TEI-style", variants: variants.into() }
}

fn clipper() -> Family {
    let settings =
        [1.0, 4.0].into_iter().flat_map(|increase| [0.25, 0.5, 1.0].map(|share| (increase, share)));
    let variants = settings.map(|(increase, share)| {
        let setting = format!("+{increase}, objective {share} of the target");
        variant(setting, move |workload, hardware| Ok(Clipper::new(workload, hardware, increase, share)))
    });
    Family { name: "Clipper AIMD", variants: variants.collect() }
}

fn nexus() -> Family {
    let settings =
        [5, 10, 20, 40, 80].into_iter().flat_map(|cycle| [true, false].map(|drops| (cycle, drops)));
    let variants = settings.map(|(cycle, drops)| {
        let setting = format!("cycle {cycle} ms, early drop {drops}");
        variant(setting, move |workload, hardware| {
            Ok(Nexus::new(workload, hardware, Duration::from_millis(cycle), drops))
        })
    });
    Family { name: "Nexus-style", variants: variants.collect() }
}

fn clockwork() -> Family {
    let settings = [1.0, 1.1].into_iter().flat_map(|margin| [64, 1024].map(|max| (margin, max)));
    let variants = settings.map(|(margin, max)| {
        let setting = format!("margin {margin}, at most {max}");
        variant(setting, move |workload, hardware| Ok(Clockwork::new(workload, hardware, margin, max)))
    });
    Family { name: "Clockwork-style", variants: variants.collect() }
}

fn symphony() -> Family {
    let settings = [0, 2, 5, 10].into_iter().flat_map(|guard| [64, 256].map(|max| (guard, max)));
    let variants = settings.map(|(guard, max)| {
        let setting = format!("guard {guard} ms, at most {max}");
        variant(setting, move |workload, hardware| {
            Ok(Symphony::new(workload, hardware, Duration::from_millis(guard), max))
        })
    });
    Family { name: "Symphony-style", variants: variants.collect() }
}
