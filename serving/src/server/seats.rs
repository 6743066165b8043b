//! Seats: which connections there may be, whose they are, and which one gives way when there are too many.
//!
//! A connection is nobody's until a request on it shows credentials. Then its tenant claims it, as long as
//! what the tenant has claimed does not exceed a multiple of what nobody has, as places are shared
//! ([`router::Places`]). What is not claimed gives way when all seats are taken and one more peer comes: of
//! these connections one on which no call is worked on, and of those the one on which for the longest time no
//! request has begun or ended. So callers and probes find a seat, whoever holds how many and does nothing
//! with them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use units::TenantId;

use super::activity::Activity;
use super::holder::Holder;

/// Connections that were told to give way and have not ended yet; with more of them nobody else is let in.
/// They end as soon as their tasks run, and their descriptors are of those that are set aside.
const LEAVING_MAX: usize = 64;
/// Why connections are told to leave: for others, or for what they do not read.
const GAVE_WAY: &str = "gave_way";
const UNREAD_ANSWERS: &str = "unread_answers";
/// How many connections are found at a time that are to give way next, so that not all are looked through for
/// each newcomer.
const NEXT_MAX: usize = 64;

/// Bounds of [`Seats`].
#[derive(Debug, Clone, Copy)]
pub(super) struct SeatBounds {
    pub(super) open_max: usize,
    pub(super) open_per_address_max: Option<usize>,
    /// What a tenant may claim while nobody else has claimed anything, above 0; 1 is all.
    pub(super) tenant_share_max: f64,
}

/// The connections of a port.
#[derive(Debug)]
pub(super) struct Seats {
    bounds: SeatBounds,
    state: Mutex<State>,
    /// Somebody who was told to leave has left.
    left: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SeatId(u64);

#[derive(Debug, Default)]
struct State {
    /// Connections that were told to leave and are still there; of them those that left too much unread.
    leaving: usize,
    leaving_unread: usize,
    addresses: HashMap<IpAddr, usize>,
    claimed: BTreeMap<SeatId, Arc<ConnectionSeat>>,
    tenants: HashMap<TenantId, usize>,
    unclaimed: BTreeMap<SeatId, Arc<ConnectionSeat>>,
    /// Who gives way next, the first one last.
    next: Vec<(Use, SeatId)>,
    last_id: u64,
}

/// How much a connection is used, the least first: whether a call is worked on, and since when there was no
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    is_worked_on: bool,
    since: Instant,
}

/// A connection as its port knows it.
#[derive(Debug)]
pub(super) struct ConnectionSeat {
    id: SeatId,
    seats: Weak<Seats>,
    address: IpAddr,
    began: Instant,
    /// From when its version is known.
    activity: OnceLock<Arc<Activity>>,
    /// Who has claimed it.
    holder: OnceLock<Holder>,
    /// Calls on it that have a place.
    calls: AtomicUsize,
    /// Bytes of answers that wait on it in nobody's name.
    anonymous_bytes: AtomicUsize,
    /// Cancelled when it has to go, which is for the reason.
    leave: CancellationToken,
    reason: OnceLock<&'static str>,
}

/// The seat of a connection; given back when dropped, however the connection ends.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    pub(super) standing: Arc<ConnectionSeat>,
    /// Whether somebody had to go for this one.
    pub(super) is_anothers: bool,
}

impl Seats {
    pub(super) fn new(bounds: SeatBounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::default(), left: Notify::new() })
    }

    /// Takes a seat, or says what there is too much of.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Seat, &'static str> {
        let SeatBounds { open_max, open_per_address_max, .. } = self.bounds;
        let mut state = self.state();
        if open_per_address_max
            .is_some_and(|max| state.addresses.get(&address).is_some_and(|own| *own >= max))
        {
            return Err("open_per_address_max");
        }
        let is_anothers = state.claimed.len() + state.unclaimed.len() >= open_max;
        if is_anothers {
            let longest = if state.leaving < LEAVING_MAX { state.least_used() } else { None };
            state.dismiss(longest.ok_or("open_max")?, GAVE_WAY);
        }
        if open_per_address_max.is_some() {
            *state.addresses.entry(address).or_default() += 1;
        }
        state.last_id += 1;
        let standing = Arc::new(ConnectionSeat {
            id: SeatId(state.last_id),
            seats: Arc::downgrade(self),
            address,
            began: now,
            activity: OnceLock::new(),
            holder: OnceLock::new(),
            calls: AtomicUsize::new(0),
            anonymous_bytes: AtomicUsize::new(0),
            leave: CancellationToken::new(),
            reason: OnceLock::new(),
        });
        state.unclaimed.insert(standing.id, Arc::clone(&standing));
        Ok(Seat { seats: Arc::clone(self), standing, is_anothers })
    }

    /// Resolves when not too many that were told to leave are still there.
    pub(super) async fn cleared(&self) {
        loop {
            let left = self.left.notified();
            if self.state().leaving < LEAVING_MAX {
                return;
            }
            left.await;
        }
    }

    /// Ends the connection with most bytes that wait in nobody's name, unless one that was told so is still
    /// there.
    pub(super) fn end_least_read(&self) {
        let mut state = self.state();
        if state.leaving_unread > 0 || state.leaving >= LEAVING_MAX {
            return;
        }
        let all = state.unclaimed.values().chain(state.claimed.values());
        let most = all.map(|standing| (standing.anonymous_bytes.load(Ordering::Relaxed), standing.id)).max();
        if let Some((1.., id)) = most {
            state.dismiss(id, UNREAD_ANSWERS);
        }
    }

    fn claim(&self, standing: &ConnectionSeat, holder: Holder) {
        let mut state = self.state();
        let SeatBounds { open_max, tenant_share_max: share, .. } = self.bounds;
        if let Holder::Tenant(tenant) = holder {
            let own = state.tenants.get(&tenant).copied().unwrap_or(0) + 1;
            let free = open_max.saturating_sub(state.claimed.len() + 1);
            if share < 1.0 && own as f64 > share / (1.0 - share) * free as f64 {
                return;
            }
        }
        let Some(own) = state.unclaimed.remove(&standing.id) else { return };
        state.claimed.insert(standing.id, own);
        if let Holder::Tenant(tenant) = holder {
            *state.tenants.entry(tenant).or_default() += 1;
        }
        let _ = standing.holder.set(holder);
    }

    fn give_back(&self, standing: &ConnectionSeat) {
        let mut state = self.state();
        if let Some(own) = state.addresses.get_mut(&standing.address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                state.addresses.remove(&standing.address);
            }
        }
        state.remove(standing.id);
        if let Some(reason) = standing.reason.get() {
            state.leaving = state.leaving.saturating_sub(1);
            if *reason == UNREAD_ANSWERS {
                state.leaving_unread = state.leaving_unread.saturating_sub(1);
            }
            self.left.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of the connections that nobody has claimed the one that is used least.
    fn least_used(&mut self) -> Option<SeatId> {
        while let Some((before, id)) = self.next.pop() {
            // Not if it has left, was claimed or was used meanwhile.
            if self.unclaimed.get(&id).is_some_and(|standing| standing.usage() == before) {
                return Some(id);
            }
        }
        let mut all: Vec<_> =
            self.unclaimed.values().map(|standing| (standing.usage(), standing.id)).collect();
        all.sort_unstable();
        // A few of few: the rest have better been there for as long.
        all.truncate((all.len() / 8).clamp(1, NEXT_MAX));
        all.reverse();
        self.next = all;
        self.next.pop().map(|(_, id)| id)
    }

    fn dismiss(&mut self, id: SeatId, reason: &'static str) {
        if let Some(standing) = self.remove(id) {
            self.leaving += 1;
            self.leaving_unread += usize::from(reason == UNREAD_ANSWERS);
            let _ = standing.reason.set(reason);
            standing.leave.cancel();
        }
    }

    fn remove(&mut self, id: SeatId) -> Option<Arc<ConnectionSeat>> {
        let standing = self.unclaimed.remove(&id).or_else(|| self.claimed.remove(&id))?;
        if let Some(Holder::Tenant(tenant)) = standing.holder.get()
            && let Some(own) = self.tenants.get_mut(tenant)
        {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.tenants.remove(tenant);
            }
        }
        Some(standing)
    }
}

impl ConnectionSeat {
    /// From here on what the connection does is known.
    pub(super) fn follow(&self, activity: &Arc<Activity>) {
        // It has one.
        let _ = self.activity.set(Arc::clone(activity));
    }

    /// A request on the connection has shown whose it is.
    pub(super) fn claim(&self, holder: Holder) {
        if self.holder.get().is_none()
            && let Some(seats) = self.seats.upgrade()
        {
            seats.claim(self, holder);
        }
    }

    /// Who has claimed the connection.
    pub(super) fn holder(&self) -> Holder {
        self.holder.get().copied().unwrap_or(Holder::Nobody)
    }

    /// More bytes wait on it in nobody's name, or fewer.
    pub(super) fn anonymous(&self, more: usize, fewer: usize) {
        self.anonymous_bytes.fetch_add(more, Ordering::Relaxed);
        self.anonymous_bytes.fetch_sub(fewer, Ordering::Relaxed);
    }

    /// Resolves when it has to go.
    pub(super) fn told_to_leave(&self) -> WaitForCancellationFuture<'_> {
        self.leave.cancelled()
    }

    /// Why it has to go.
    pub(super) fn reason(&self) -> &'static str {
        self.reason.get().copied().unwrap_or(GAVE_WAY)
    }

    /// One more call on it has a place, or one fewer.
    pub(super) fn work(&self, is_begun: bool) {
        if is_begun {
            self.calls.fetch_add(1, Ordering::Relaxed);
        } else {
            self.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn usage(&self) -> Use {
        let since = self.activity.get().map_or(self.began, |activity| activity.last_request());
        Use { is_worked_on: self.calls.load(Ordering::Relaxed) > 0, since }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.give_back(&self.standing);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::server::activity::Patience;

    fn seats(open_max: usize, open_per_address_max: Option<usize>, tenant_share_max: f64) -> Arc<Seats> {
        Seats::new(SeatBounds { open_max, open_per_address_max, tenant_share_max })
    }

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// Its activity, for a connection that began at `began`.
    fn activity(seat: &Seat, began: Instant) -> Arc<Activity> {
        let second = Duration::from_secs(1);
        let patience = Patience { header: second, keep_alive: second, write: second, half_close: second };
        let activity = Arc::new(Activity::new(patience, false, began));
        seat.standing.follow(&activity);
        activity
    }

    fn is_gone(seat: &Seat) -> bool {
        seat.standing.leave.is_cancelled()
    }

    #[test]
    fn addresses_have_their_bound() {
        let (seats, now) = (seats(3, Some(2), 0.5), Instant::now());
        let held = [seats.take(ONE, now).unwrap(), seats.take(ONE, now).unwrap()];
        assert_eq!(seats.take(ONE, now).err(), Some("open_per_address_max"));
        let other = seats.take(OTHER, now).unwrap();
        drop(held);
        drop((seats.take(ONE, now).unwrap(), other));
        let state = seats.state();
        assert_eq!((state.addresses.len(), state.unclaimed.len()), (0, 0));
    }

    #[test]
    fn the_longest_without_a_request_gives_way() {
        let (seats, began) = (seats(3, None, 0.5), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut held: Vec<_> = (0..3).map(|i| seats.take(ONE, at(i)).unwrap()).collect();
        let activities: Vec<_> = held.iter().zip(0..).map(|(seat, i)| activity(seat, at(i))).collect();
        // The first has asked something since, and waits for it; the second was answered before.
        activities[1].request_began(at(3));
        activities[1].request_ended(at(4));
        activities[0].request_began(at(5));
        for (gone, is_last) in [(2, false), (1, false), (0, true)] {
            assert!(!is_gone(&held[gone]));
            held.push(seats.take(OTHER, at(10)).unwrap());
            assert!(is_gone(&held[gone]) && held[gone].standing.reason() == "gave_way", "{gone}");
            assert_eq!(held[..3].iter().all(is_gone), is_last);
        }
        drop(held);
        let state = seats.state();
        assert_eq!((state.leaving, state.claimed.len(), state.unclaimed.len()), (0, 0, 0));
    }

    #[test]
    fn who_is_known_keeps_its_seat() {
        let (seats, now) = (seats(2, None, 1.0), Instant::now());
        let known = seats.take(ONE, now).unwrap();
        known.standing.claim(Holder::Tenant(TenantId(7)));
        let first = seats.take(ONE, now).unwrap();
        let second = seats.take(ONE, now).unwrap();
        assert!(is_gone(&first) && !is_gone(&known) && second.is_anothers);
        second.standing.claim(Holder::Operator);
        assert_eq!(seats.take(ONE, now).err(), Some("open_max"));
        drop((known, second));
        let counts = |state: MutexGuard<'_, State>| (state.claimed.len(), state.tenants.len());
        assert_eq!(counts(seats.state()), (0, 0));
        assert!(!seats.take(ONE, now).unwrap().is_anothers);
    }

    /// What a tenant cannot claim gives way like what nobody has.
    #[test]
    fn a_tenant_claims_no_more_than_its_share() {
        let (seats, now) = (seats(12, None, 0.5), Instant::now());
        let held: Vec<_> = (0..12).map(|_| seats.take(ONE, now).unwrap()).collect();
        let claim = |range: std::ops::Range<usize>, tenant| {
            for seat in &held[range.clone()] {
                seat.standing.claim(Holder::Tenant(TenantId(tenant)));
            }
            held[range].iter().filter(|seat| seat.standing.holder() != Holder::Nobody).count()
        };
        assert_eq!(claim(0..10, 1), 6);
        assert_eq!(claim(8..12, 2), 3);
        let newcomers: Vec<_> = (0..5).map(|_| seats.take(OTHER, now).unwrap()).collect();
        assert!(newcomers.iter().all(|seat| seat.is_anothers));
        let gone = held.iter().filter(|seat| is_gone(seat)).count();
        assert_eq!(gone + newcomers.iter().filter(|seat| is_gone(seat)).count(), 5);
        assert!(
            held.iter().filter(|seat| seat.standing.holder() != Holder::Nobody).all(|seat| !is_gone(seat))
        );
    }

    #[tokio::test]
    async fn newcomers_wait_for_those_who_leave() {
        let (seats, now) = (seats(1, None, 0.5), Instant::now());
        let mut held: Vec<_> = (0..=LEAVING_MAX).map(|_| seats.take(ONE, now).unwrap()).collect();
        assert_eq!(seats.take(ONE, now).err(), Some("open_max"));
        let cleared = seats.cleared();
        tokio::pin!(cleared);
        assert!(futures_util::FutureExt::now_or_never(cleared.as_mut()).is_none());
        held.remove(0);
        cleared.await;
        assert!(seats.take(ONE, now).is_ok());
    }

    /// Also where somebody has claimed the connection afterwards; and one at a time, whose bytes go with it.
    #[test]
    fn the_least_read_ends() {
        let (seats, now) = (seats(6, None, 0.5), Instant::now());
        let mut held: Vec<_> = (0..4).map(|_| seats.take(ONE, now).unwrap()).collect();
        seats.end_least_read();
        for (seat, bytes) in held.iter().zip([100, 300, 0, 400]) {
            seat.standing.anonymous(bytes + 7, 7);
            activity(seat, now).unread(1000, 0);
        }
        held[3].standing.claim(Holder::Tenant(TenantId(1)));
        let gone = |held: &[Seat]| held.iter().map(is_gone).collect::<Vec<_>>();
        seats.end_least_read();
        assert_eq!(gone(&held), [false, false, false, true]);
        assert_eq!(held[3].standing.reason(), UNREAD_ANSWERS);
        seats.end_least_read();
        assert_eq!(gone(&held), [false, false, false, true]);
        held.pop();
        seats.end_least_read();
        assert_eq!(gone(&held), [false, true, false]);
        held.clear();
        let state = seats.state();
        assert_eq!(
            (state.leaving, state.leaving_unread, state.claimed.len(), state.tenants.len()),
            (0, 0, 0, 0)
        );
    }
}
