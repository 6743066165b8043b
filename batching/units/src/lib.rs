//! The quantities and names that every part of the server shares, each its own type so that they cannot be
//! mixed up.
//!
//! There is one definition of each, here; whoever needs one imports it from here.

#![warn(missing_docs)]

mod clock;
mod ids;
mod limits;
mod money;
mod priority;
mod timestamp;
mod tokens;
mod wall_time;

pub use clock::{Clock, MonotonicClock};
pub use ids::{DeviceId, ModelId, TenantId};
pub use limits::{Period, Unit};
pub use money::{MicroDollars, MoneyFormatError};
pub use priority::{Priority, UnknownPriority};
pub use timestamp::Timestamp;
pub use tokens::Tokens;
pub use wall_time::{Day, TimeFormatError, WallTime};
