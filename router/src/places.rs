//! Places: the calls that a server works on at once and the bytes of their bodies, and how much of both one
//! tenant may have.
//!
//! A place is taken when the caller is known, before anything of the body is read. It takes one of the
//! tenant's own (the plan's concurrency) and one of the server's. What a tenant has of the server's never
//! exceeds a multiple of what is free: `used <= share / (1 - share) * free`, the dynamic threshold of
//! Choudhury and Hahne ("Dynamic queue length thresholds for shared-memory packet switches", 1998). With a
//! share of one half a lone tenant has half of all places at most, two have a third each, and for one more
//! who comes there is always something left.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use units::TenantId;

use crate::limit::LimitError;
use crate::principal::Principal;

/// Bounds of [`Places`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlacesConfig {
    pub calls_max: usize,
    /// Bytes of their bodies.
    pub bytes_max: usize,
    /// What a tenant may have of either while nobody else has anything, above 0; 1 is all.
    pub tenant_share_max: f64,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The tenant has as many as its plan allows.
    #[error("the plan allows {limit} calls at once")]
    Plan { limit: u32 },
    /// The server has none left for this tenant.
    #[error("no place is free")]
    Full,
}

impl PlaceError {
    /// The plan's refusal as a limit's; none if the server is full.
    pub fn limit(self) -> Option<LimitError> {
        match self {
            Self::Plan { limit } => Some(LimitError::Concurrency { limit }),
            Self::Full => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    calls: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    all: Use,
    /// Tenants that have something.
    tenants: HashMap<TenantId, Use>,
    /// Who waits for bytes of a tenant's, the first one first.
    queues: HashMap<TenantId, BTreeMap<u64, Arc<Notify>>>,
    last_turn: u64,
}

impl State {
    /// Tells the first of a tenant's queue to look again.
    fn call(&self, tenant: TenantId) {
        if let Some((_, first)) = self.queues.get(&tenant).and_then(BTreeMap::first_key_value) {
            first.notify_one();
        }
    }
}

/// The places of a server.
#[derive(Debug)]
pub struct Places {
    config: PlacesConfig,
    state: Mutex<State>,
    freed: Notify,
}

/// A call's place; given back when dropped, with the bytes it holds.
#[derive(Debug)]
pub struct Place(Arc<Holding>);

/// Charges bytes to a place for as long as that is held.
#[derive(Debug, Clone)]
pub struct PlaceMeter(Weak<Holding>);

#[derive(Debug)]
struct Holding {
    places: Arc<Places>,
    tenant: TenantId,
    bytes: Mutex<usize>,
}

/// Somebody's turn in the queue of a tenant; left when dropped.
#[derive(Debug)]
struct Turn {
    places: Arc<Places>,
    tenant: TenantId,
    number: u64,
    called: Arc<Notify>,
}

impl Places {
    /// All of them free.
    pub fn new(config: PlacesConfig) -> Arc<Self> {
        Arc::new(Self { config, state: Mutex::default(), freed: Notify::new() })
    }

    /// Takes a place for a call.
    ///
    /// # Errors
    /// The tenant has all that it may have.
    pub fn take(self: &Arc<Self>, principal: &Principal) -> Result<Place, PlaceError> {
        self.take_with(principal, 0)
    }

    /// Takes a place for a call of which so many bytes are there already: both or neither.
    ///
    /// # Errors
    /// The tenant has all that it may have.
    pub fn take_with(self: &Arc<Self>, principal: &Principal, bytes: usize) -> Result<Place, PlaceError> {
        let tenant = principal.tenant();
        let limit = tenant.plan.terms().concurrency_max;
        let mut state = self.state();
        let own = state.tenants.get(&tenant.id).copied().unwrap_or_default();
        if own.calls >= limit as usize {
            return Err(PlaceError::Plan { limit });
        }
        if !self.is_within(own.calls, 1, state.all.calls, self.config.calls_max) {
            return Err(PlaceError::Full);
        }
        if bytes > 0 && !self.is_within(own.bytes, bytes, state.all.bytes, self.config.bytes_max) {
            return Err(PlaceError::Full);
        }
        state.all.calls += 1;
        state.all.bytes += bytes;
        let own = state.tenants.entry(tenant.id).or_default();
        own.calls += 1;
        own.bytes += bytes;
        drop(state);
        let holding = Holding { places: Arc::clone(self), tenant: tenant.id, bytes: Mutex::new(bytes) };
        Ok(Place(Arc::new(holding)))
    }

    /// Resolves when a place may have become free since the call of this function.
    pub fn freed(&self) -> impl Future<Output = ()> + '_ {
        self.freed.notified()
    }

    /// Calls and bytes held at present.
    pub fn in_use(&self) -> (usize, usize) {
        let all = self.state().all;
        (all.calls, all.bytes)
    }

    /// Whether `more` may be added to what a tenant has. The first of anything is for whoever comes while
    /// there is room.
    fn is_within(&self, own: usize, more: usize, all: usize, max: usize) -> bool {
        let Some(free) = all.checked_add(more).and_then(|after| max.checked_sub(after)) else { return false };
        let share = self.config.tenant_share_max;
        let is_first = own == 0;
        is_first || share >= 1.0 || (own + more) as f64 <= share / (1.0 - share) * free as f64
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What charges bytes to this place.
    pub fn meter(&self) -> PlaceMeter {
        PlaceMeter(Arc::downgrade(&self.0))
    }
}

impl PlaceMeter {
    /// Holds so many bytes more; nothing if the place was given back.
    ///
    /// # Errors
    /// The tenant has all that it may have.
    pub fn hold(&self, bytes: usize) -> Result<(), PlaceError> {
        self.0.upgrade().map_or(Ok(()), |holding| holding.hold(bytes))
    }

    /// Holds so many bytes more as soon as the tenant may have them: whoever asked before comes first, so
    /// that much is not kept waiting by little for ever. Who holds bytes for something whole needs no others
    /// to finish it, so nobody waits for each other. At once if the place was given back.
    ///
    /// # Errors
    /// So many nobody may ever have.
    pub fn hold_in_turn(&self, bytes: usize) -> impl Future<Output = Result<(), PlaceError>> + Send + use<> {
        let holding = self.0.upgrade();
        async move {
            let Some(holding) = holding else { return Ok(()) };
            if bytes > holding.places.config.bytes_max {
                return Err(PlaceError::Full);
            }
            let turn = Turn::new(&holding);
            while !(turn.is_first() && holding.hold(bytes).is_ok()) {
                turn.called.notified().await;
            }
            Ok(())
        }
    }

    /// Gives back all bytes of the place.
    pub fn release(&self) {
        if let Some(holding) = self.0.upgrade() {
            holding.release();
        }
    }
}

impl Holding {
    fn hold(&self, bytes: usize) -> Result<(), PlaceError> {
        let mut held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.places.state();
        let own = state.tenants.get(&self.tenant).map_or(0, |own| own.bytes);
        if !self.places.is_within(own, bytes, state.all.bytes, self.places.config.bytes_max) {
            return Err(PlaceError::Full);
        }
        *held += bytes;
        state.all.bytes += bytes;
        state.tenants.entry(self.tenant).or_default().bytes += bytes;
        Ok(())
    }

    fn release(&self) {
        let mut held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        self.give_back(0, std::mem::take(&mut *held));
    }

    fn give_back(&self, calls: usize, bytes: usize) {
        let mut state = self.places.state();
        state.all.calls -= calls;
        state.all.bytes -= bytes;
        if let Some(own) = state.tenants.get_mut(&self.tenant) {
            own.calls -= calls;
            own.bytes -= bytes;
            if own.calls == 0 && own.bytes == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
        if bytes > 0 {
            // What is free is more for every tenant.
            for tenant in state.queues.keys() {
                state.call(*tenant);
            }
        }
    }
}

impl Turn {
    fn new(holding: &Holding) -> Self {
        let (places, tenant) = (Arc::clone(&holding.places), holding.tenant);
        let called = Arc::new(Notify::new());
        let mut state = places.state();
        state.last_turn += 1;
        let number = state.last_turn;
        state.queues.entry(tenant).or_default().insert(number, Arc::clone(&called));
        drop(state);
        Self { places, tenant, number, called }
    }

    fn is_first(&self) -> bool {
        let state = self.places.state();
        let first = state.queues.get(&self.tenant).and_then(BTreeMap::first_key_value);
        first.is_some_and(|(number, _)| *number == self.number)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if let Some(queue) = state.queues.get_mut(&self.tenant) {
            queue.remove(&self.number);
            if queue.is_empty() {
                state.queues.remove(&self.tenant);
            }
        }
        state.call(self.tenant);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let held = *self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.give_back(1, held);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plan::{Plan, Terms};
    use crate::principal::{KeyId, Role, Tenant};

    fn principal(tenant: u32, concurrency_max: u32) -> Principal {
        let terms = Terms { concurrency_max, ..Plan::Free.terms() };
        let tenant = Tenant { id: TenantId(tenant), name: Arc::from("acme"), plan: Plan::Custom(terms) };
        Principal { tenant, key: KeyId(Arc::from("key_1")), role: Role::Editor, is_sandboxed: false }
    }

    fn places(calls_max: usize, tenant_share_max: f64) -> Arc<Places> {
        Places::new(PlacesConfig { calls_max, bytes_max: 100, tenant_share_max })
    }

    fn take_all(places: &Arc<Places>, principal: &Principal) -> Vec<Place> {
        std::iter::from_fn(|| places.take(principal).ok()).collect()
    }

    /// Whoever takes all that it can leaves something for one more.
    #[test]
    fn a_tenant_leaves_places_for_others() {
        let check = |calls_max: usize, share: f64, expected: &[usize]| {
            let places = places(calls_max, share);
            let held: Vec<_> =
                (0..expected.len() as u32).map(|id| take_all(&places, &principal(id, 10_000))).collect();
            let counts: Vec<_> = held.iter().map(Vec::len).collect();
            assert_eq!(counts, expected, "{calls_max} places, share {share}");
        };
        // Half of what is free, then half of the rest.
        check(1024, 0.5, &[512, 256, 128, 64]);
        // Nine tenths: nine times what is free.
        check(1000, 0.9, &[900, 90, 9, 1, 0]);
        check(10, 1.0, &[10, 0]);
        // The first place is for whoever comes.
        check(1, 0.5, &[1, 0]);
        check(3, 0.5, &[1, 1, 1, 0]);
    }

    #[test]
    fn the_plan_comes_first_and_places_come_back() {
        let places = places(100, 0.5);
        let free = principal(1, 2);
        let (first, _second) = (places.take(&free).unwrap(), places.take(&free).unwrap());
        assert_eq!(places.take(&free).err(), Some(PlaceError::Plan { limit: 2 }));
        assert!(places.take(&principal(2, 1)).is_ok());
        drop(first);
        assert_eq!(places.in_use(), (1, 0));
        assert!(places.take(&free).is_ok());
    }

    #[test]
    fn bytes_are_bounded_a_tenant_and_in_all() {
        let places = places(100, 0.5);
        let (one, other) = (principal(1, 10), principal(2, 10));
        let (first, second) = (places.take(&one).unwrap(), places.take_with(&one, 20).unwrap());
        first.meter().hold(30).unwrap();
        assert_eq!(second.meter().hold(1), Err(PlaceError::Full));
        assert_eq!(places.take_with(&one, 1).err(), Some(PlaceError::Full));
        let third = places.take(&other).unwrap();
        third.meter().hold(25).unwrap();
        assert_eq!(third.meter().hold(1), Err(PlaceError::Full));
        // Without bytes of its own a call needs a place alone.
        drop(places.take(&one).unwrap());
        let meter = first.meter();
        drop(first);
        assert_eq!(places.in_use(), (2, 45));
        // What is gone is charged nothing.
        meter.hold(1000).unwrap();
        second.meter().release();
        assert_eq!(places.in_use(), (2, 25));
        drop((second, third));
        assert_eq!(places.in_use(), (0, 0));
        assert!(places.state().tenants.is_empty());
    }

    /// With 100 bytes and a share of one half: much waits for what is held, little behind it waits with it,
    /// another tenant does not.
    #[test]
    fn bytes_are_held_in_turn() {
        use futures_util::FutureExt;
        let places = places(100, 0.5);
        let (one, other) = (principal(1, 10), principal(2, 10));
        let [a, b, c] = [(); 3].map(|()| places.take(&one).unwrap());
        let mut first = Box::pin(a.meter().hold_in_turn(30));
        assert_eq!(first.as_mut().now_or_never(), Some(Ok(())));
        let mut much = Box::pin(b.meter().hold_in_turn(40));
        let mut little = Box::pin(c.meter().hold_in_turn(1));
        assert_eq!(much.as_mut().now_or_never(), None);
        assert_eq!(little.as_mut().now_or_never(), None);
        let d = places.take(&other).unwrap();
        assert_eq!(d.meter().hold_in_turn(10).now_or_never(), Some(Ok(())));
        assert_eq!(places.in_use().1, 40);
        a.meter().release();
        assert_eq!(little.as_mut().now_or_never(), None);
        assert_eq!(much.as_mut().now_or_never(), Some(Ok(())));
        assert_eq!(little.as_mut().now_or_never(), Some(Ok(())));
        assert_eq!(places.in_use().1, 51);
        // Who gives up lets others by.
        let mut much = Box::pin(a.meter().hold_in_turn(40));
        let mut little = Box::pin(c.meter().hold_in_turn(2));
        assert_eq!(much.as_mut().now_or_never(), None);
        assert_eq!(little.as_mut().now_or_never(), None);
        drop(much);
        assert_eq!(little.as_mut().now_or_never(), Some(Ok(())));
        assert_eq!(b.meter().hold_in_turn(101).now_or_never(), Some(Err(PlaceError::Full)));
        drop((a, b, c, d, first, little));
        assert_eq!(places.in_use(), (0, 0));
        assert!(places.state().queues.is_empty());
    }

    #[test]
    fn whoever_waits_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let places = places(1, 1.0);
            let place = places.take(&principal(1, 1)).unwrap();
            let freed = places.freed();
            tokio::pin!(freed);
            assert!(futures_util::FutureExt::now_or_never(freed.as_mut()).is_none());
            drop(place);
            freed.await;
            assert!(places.take(&principal(1, 1)).is_ok());
        });
    }
}
