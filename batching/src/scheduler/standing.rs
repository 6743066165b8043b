//! What a policy makes of a sequence that waits.

use units::Timestamp;

/// A flow: a dense number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlowId(pub(super) u32);

/// How good a sequence's claim is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Within its flow's share, and can meet its target.
    Entitled,
    /// So is this, but its flow asks for much more than its share: everybody else comes first.
    Capped,
    /// More than its flow's share, and can meet its target.
    Excess,
    /// Cannot meet its target.
    Late,
}

impl Claim {
    pub(super) const ALL: [Self; 4] = [Self::Entitled, Self::Capped, Self::Excess, Self::Late];

    /// Whether it is within a share and can meet its target.
    pub(super) fn is_entitled(self) -> bool {
        matches!(self, Self::Entitled | Self::Capped)
    }

    /// Place in the order of claims, from 0 for the best.
    pub(super) fn place(self) -> usize {
        self as usize
    }

    /// Whether a sequence with this claim makes place for one with another.
    pub(super) fn yields_to(self, other: Self) -> bool {
        self.place() > other.place()
    }
}

/// What a policy makes of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whose it is, for the purpose of shares.
    pub(super) flow: FlowId,
    /// The band in which it stands.
    pub(super) claim: Claim,
    /// The moment at which it is answered if it is late: see the policy by deadlines.
    pub(super) promise: Timestamp,
}

impl Standing {
    /// That of every sequence where all are alike.
    pub(super) fn first_come(due: Timestamp) -> Self {
        Self { flow: FlowId(0), claim: Claim::Entitled, promise: due }
    }
}
