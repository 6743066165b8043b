//! The scheduling policies, compared on a virtual clock.

pub mod hardware;
pub mod measures;
pub mod policies;
pub mod replay;
pub mod workload;
