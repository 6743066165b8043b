//! In whose name connections and answers are held.

use units::TenantId;

/// In whose name something is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A peer without credentials.
    Nobody,
    /// Whoever has the operator's token: trusted, and not counted.
    Operator,
    Tenant(TenantId),
}
