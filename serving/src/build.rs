//! What differs between builds of the server: parts that are optional, which the binary brings. This crate is
//! the same in all of them, so that it is compiled once.

use std::time::Duration;

use models::GpuRuntime;
use router::ledger::EventSink;

/// Makes a sink for Kafka of the brokers' addresses (`host:port` with commas), the topic, and how long a
/// delivery may take. The error says what is wrong with them.
pub type KafkaSink = fn(&str, String, Duration) -> Result<Box<dyn EventSink>, String>;

/// The parts of a build.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The commit that was built.
    pub commit: &'static str,
    /// What computes on GPUs.
    pub gpu_runtime: Option<&'static dyn GpuRuntime>,
    pub kafka: Option<KafkaSink>,
}

impl Build {
    /// Without any optional part.
    pub const PLAIN: Self = Self { commit: "unknown", gpu_runtime: None, kafka: None };
}
