//! Answers that wait for their peers: how many bytes in whose name, so that nobody's waiting answers take the
//! room of others'.
//!
//! Tenants share the room as they share places ([`router::Places`]): what one has waiting never exceeds a
//! multiple of what is free, or it begins nothing new: calls are refused, and open streams are not read until
//! there is room. What it has begun before is answered all the same, and may be more than its share; the
//! excess is not taken from what others have. Answers to peers without credentials have room of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use units::TenantId;

use super::holder::Holder;

/// Bounds of [`UnreadAnswers`].
#[derive(Debug, Clone, Copy)]
pub(super) struct UnreadBounds {
    pub(super) tenants_max: usize,
    /// What of it one tenant may have while nobody else has anything, above 0; 1 is all.
    pub(super) tenant_share_max: f64,
    /// Bytes for peers without credentials.
    pub(super) anonymous_max: usize,
}

/// Why nothing new is begun for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// It has more waiting than its share.
    Own,
    /// Others have all that there is.
    Others,
}

/// The answers of a port that wait.
#[derive(Debug)]
pub(crate) struct UnreadAnswers {
    bounds: UnreadBounds,
    waiting: Mutex<WaitingCounts>,
    /// All of it, for the metrics.
    total: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct WaitingCounts {
    tenants: HashMap<TenantId, usize>,
    /// What tenants have, of each no more than the most it may have.
    charged: usize,
    anonymous: usize,
    /// Tenants of which somebody waits for room.
    awaited: HashMap<TenantId, Arc<Notify>>,
}

impl WaitingCounts {
    fn check(&self, bounds: &UnreadBounds, tenant: TenantId) -> Result<(), NoRoom> {
        let own = self.tenants.get(&tenant).copied().unwrap_or(0);
        let free = bounds.tenants_max.saturating_sub(self.charged);
        let share = bounds.tenant_share_max;
        let is_within =
            if share >= 1.0 { free > 0 } else { own as f64 <= share / (1.0 - share) * free as f64 };
        match own {
            0 if free == 0 => Err(NoRoom::Others),
            0 => Ok(()),
            _ if is_within => Ok(()),
            _ => Err(NoRoom::Own),
        }
    }

    /// Tells whoever waits for room of tenants that have some.
    fn tell(&mut self, bounds: &UnreadBounds) {
        if self.awaited.is_empty() {
            return;
        }
        let mut awaited = std::mem::take(&mut self.awaited);
        awaited.retain(|tenant, told| {
            let has_room = self.check(bounds, *tenant).is_ok();
            if has_room {
                told.notify_waiters();
            }
            !has_room
        });
        self.awaited = awaited;
    }
}

impl UnreadAnswers {
    pub(super) fn new(bounds: UnreadBounds) -> Arc<Self> {
        Arc::new(Self { bounds, waiting: Mutex::default(), total: Arc::default() })
    }

    /// Bytes that wait, whoever they are for.
    pub(super) fn total(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.total)
    }

    /// More bytes wait, or fewer.
    pub(super) fn change(&self, holder: Holder, more: usize, fewer: usize) {
        self.total.fetch_add(more, Ordering::Relaxed);
        self.total.fetch_sub(fewer, Ordering::Relaxed);
        let mut waiting = self.waiting();
        match holder {
            Holder::Operator => {}
            Holder::Nobody => waiting.anonymous = (waiting.anonymous + more).saturating_sub(fewer),
            Holder::Tenant(tenant) => {
                let before = waiting.tenants.get(&tenant).copied().unwrap_or(0);
                let after = (before + more).saturating_sub(fewer);
                if after == 0 {
                    waiting.tenants.remove(&tenant);
                } else {
                    waiting.tenants.insert(tenant, after);
                }
                let most = self.most();
                waiting.charged = (waiting.charged + after.min(most)).saturating_sub(before.min(most));
                if fewer > 0 {
                    waiting.tell(&self.bounds);
                }
            }
        }
    }

    /// Whether something new may be begun for a tenant.
    pub(super) fn check(&self, tenant: TenantId) -> Result<(), NoRoom> {
        self.waiting().check(&self.bounds, tenant)
    }

    /// Resolves when something new may be begun for a tenant again; none if it may be now.
    pub(super) fn room(&self, tenant: TenantId) -> Option<OwnedNotified> {
        let mut waiting = self.waiting();
        waiting.check(&self.bounds, tenant).is_err().then(|| {
            // Told from here on: whoever makes room does so after this.
            Arc::clone(waiting.awaited.entry(tenant).or_default()).notified_owned()
        })
    }

    /// Whether more waits for peers without credentials than may.
    pub(super) fn is_anonymous_over(&self) -> bool {
        self.waiting().anonymous > self.bounds.anonymous_max
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingCounts> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a lone tenant may have.
    fn most(&self) -> usize {
        (self.bounds.tenants_max as f64 * self.bounds.tenant_share_max) as usize
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answers(tenant_share_max: f64) -> Arc<UnreadAnswers> {
        UnreadAnswers::new(UnreadBounds { tenants_max: 1000, tenant_share_max, anonymous_max: 100 })
    }

    #[test]
    fn a_tenant_leaves_room_for_others() {
        let check = |share: f64, waiting: &[usize], expected: &[Result<(), NoRoom>]| {
            let answers = answers(share);
            for (id, bytes) in waiting.iter().enumerate() {
                answers.change(Holder::Tenant(TenantId(id as u32)), *bytes, 0);
            }
            let found: Vec<_> = (0..expected.len() as u32).map(|id| answers.check(TenantId(id))).collect();
            assert_eq!(found, expected, "share {share}, {waiting:?}");
        };
        let own = Err(NoRoom::Own);
        check(0.5, &[], &[Ok(())]);
        check(0.5, &[500], &[Ok(()), Ok(())]);
        check(0.5, &[501], &[own, Ok(())]);
        // However much it was that had been begun before.
        check(0.5, &[100_000], &[own, Ok(())]);
        check(0.5, &[100_000, 250], &[own, Ok(()), Ok(())]);
        check(0.5, &[100_000, 251], &[own, own, Ok(())]);
        check(0.9, &[900], &[Ok(()), Ok(())]);
        check(0.9, &[901], &[own, Ok(())]);
        check(1.0, &[999], &[Ok(()), Ok(())]);
        check(1.0, &[1000], &[own, Err(NoRoom::Others)]);
        check(0.5, &[500, 500], &[own, own, Err(NoRoom::Others)]);
    }

    #[test]
    fn what_is_read_is_room_again() {
        let answers = answers(0.5);
        let (one, other) = (Holder::Tenant(TenantId(1)), Holder::Tenant(TenantId(2)));
        for holder in [one, other, Holder::Nobody, Holder::Operator] {
            answers.change(holder, 700, 0);
        }
        assert!(answers.is_anonymous_over());
        assert_eq!(answers.total().load(Ordering::Relaxed), 2800);
        answers.change(one, 0, 600);
        assert_eq!(answers.check(TenantId(1)), Ok(()));
        answers.change(Holder::Nobody, 0, 600);
        assert!(!answers.is_anonymous_over());
        for (holder, bytes) in [(one, 100), (other, 700), (Holder::Nobody, 100), (Holder::Operator, 700)] {
            answers.change(holder, 0, bytes);
        }
        let waiting = answers.waiting();
        assert_eq!((waiting.tenants.len(), waiting.charged, waiting.anonymous), (0, 0, 0));
        assert_eq!(answers.total().load(Ordering::Relaxed), 0);
    }

    /// Of 1000 bytes a tenant with 501 waits until it has 500, or as much as another leaves free.
    #[test]
    fn whoever_waits_for_room_is_told() {
        use futures_util::FutureExt;
        let answers = answers(0.5);
        let (one, other) = (Holder::Tenant(TenantId(1)), Holder::Tenant(TenantId(2)));
        assert!(answers.room(TenantId(1)).is_none());
        answers.change(one, 510, 0);
        let mut first = Box::pin(answers.room(TenantId(1)).unwrap());
        let second = answers.room(TenantId(1)).unwrap();
        assert_eq!(first.as_mut().now_or_never(), None);
        assert!(answers.room(TenantId(2)).is_none());
        answers.change(one, 0, 9);
        assert_eq!(first.as_mut().now_or_never(), None);
        answers.change(one, 0, 1);
        // Also who has not looked since.
        assert_eq!((first.now_or_never(), second.now_or_never()), (Some(()), Some(())));
        assert!(answers.room(TenantId(1)).is_none());
        answers.change(other, 300, 0);
        let waits = answers.room(TenantId(1)).unwrap();
        answers.change(other, 0, 300);
        assert_eq!(waits.now_or_never(), Some(()));
        assert!(answers.waiting().awaited.is_empty());
    }
}
