//! The present by both clocks of a machine.

use units::Timestamp;

use units::WallTime;

/// A moment. What lasts is measured by `uptime`, which never goes back and does not jump; `wall` names days,
/// and may be set at any time to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since this process started.
    pub uptime: Timestamp,
    pub wall: WallTime,
}
