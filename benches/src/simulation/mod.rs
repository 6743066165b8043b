//! The scheduling policies, compared on a virtual clock.
//!
//! [`workload`] makes requests by seed, [`hardware`] says how long a batch takes, [`policies`] are what is
//! compared, behind one trait: the server's own scheduler, code for code, and published ones. [`replay`] runs
//! one through the other; [`measures`] says what came of it, [`bounds`] what could have come of it at best.
//! The binary `simulate` makes tables of it all.

pub mod bounds;
pub mod families;
pub mod hardware;
pub mod measures;
pub mod policies;
pub mod replay;
pub mod workload;

#[cfg(test)]
mod tests;
