//! How many servers there should be.
//!
//! Admission keeps queues short, so the length of a queue says little: what is refused is demand too. So the
//! signal is the device time that is asked for by the second, served or not, and the device time that waits.
//! Each server *meters* its [`Load`] from snapshots of its scheduler; servers that share a store add theirs
//! up on a [`LoadBoard`]; and from the sum an [`Autoscaler`], which is told the time and does nothing by
//! itself, says how many servers are desired, and why.

mod autoscaler;
mod load;
mod redis;

pub use autoscaler::{Autoscaler, Reason, ScalingConfig, Signals};
pub use load::{Ends, Load, LoadBoard, Meter};
