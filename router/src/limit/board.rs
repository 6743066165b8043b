//! What servers tell each other over the store, so that each knows without it what the others let through.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use units::Unit;

/// Limits that a server tells of, those of which most was used first.
const TOLD_MAX: usize = 4096;

/// What a server let through of one limit in the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUse {
    /// Name of the tenant.
    pub tenant: Arc<str>,
    pub unit: Unit,
    pub amount: u64,
}

/// What the other servers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    /// Whether this server's own word was still there.
    pub has_own: bool,
    others: HashMap<(Arc<str>, Unit), u64>,
}

impl Board {
    /// A board with what each of the other servers let through.
    pub fn new(has_own: bool, others: impl IntoIterator<Item = LimitUse>) -> Self {
        let mut board = Self { has_own, others: HashMap::new() };
        for LimitUse { tenant, unit, amount } in others {
            let sum = board.others.entry((tenant, unit)).or_default();
            *sum = sum.saturating_add(amount);
        }
        board
    }

    /// What the others let through of one limit, all together.
    pub(super) fn used(&self, tenant: &Arc<str>, unit: Unit) -> u64 {
        self.others.get(&(Arc::clone(tenant), unit)).copied().unwrap_or(0)
    }
}

/// What a server tells: the most, if it is too much.
pub(super) fn own(mut used: Vec<LimitUse>) -> Vec<LimitUse> {
    if used.len() > TOLD_MAX {
        used.sort_unstable_by_key(|used| std::cmp::Reverse(used.amount));
        used.truncate(TOLD_MAX);
    }
    used
}
