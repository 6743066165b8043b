//! The policies that are compared, behind one trait.

mod clipper;
mod clockwork;
mod nexus;
mod production;
mod queues;
mod symphony;

use std::time::Duration;

use units::Timestamp;

pub use clipper::Clipper;
pub use clockwork::Clockwork;
pub use nexus::Nexus;
pub use production::Production;
pub use symphony::Symphony;

use super::workload::Arrival;

/// What a device should do.
#[derive(Debug)]
pub enum Step {
    /// Run these requests, of one model, by their index among the arrivals.
    Dispatch {
        /// At least one.
        members: Vec<u32>,
    },
    /// Ask again at this moment, or when something arrives or completes.
    WaitUntil(Timestamp),
    /// Ask again when something arrives or completes.
    Idle,
}

/// A way to make batches. What it drops is simply never dispatched.
pub trait Policy {
    fn arrive(&mut self, now: Timestamp, arrival: &Arrival, index: u32);
    /// What `device` should run next.
    fn poll(&mut self, now: Timestamp, device: u16) -> Step;
    /// The oldest batch of `device` is computed.
    fn complete(&mut self, now: Timestamp, device: u16, compute: Duration);
    /// Drops what is past its deadline.
    fn expire(&mut self, now: Timestamp);
}
