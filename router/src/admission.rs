//! Admission: a reservation for each request that may run, and its one usage record.

use std::sync::Arc;
use std::time::Duration;

use units::{Clock, MonotonicClock};

use crate::authentication::Directory;
use units::MicroDollars;

use crate::ledger::{Journal, JournalError, Outcome, UsageObserver, UsageRecord};
use crate::limit::{Allotment, LimitError, Limiter, Quota};
use crate::moment::Moment;
use crate::principal::Principal;
use units::{Unit, WallTime};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The request's id, `req_…`.
    pub request_id: Arc<str>,
    /// Name of the model.
    pub model: Arc<str>,
    /// Version of the model.
    pub version: Arc<str>,
    /// Inputs in the request.
    pub inputs: u64,
    /// Price of a thousand inputs.
    pub price_per_1000: MicroDollars,
}

/// Inputs of a request that are refused while the others are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefusedInputs {
    /// Refused before any work.
    pub before_work: u64,
    /// Refused after work.
    pub after_work: u64,
}

/// What every reservation needs.
pub(crate) struct Desk {
    pub(crate) limiter: Limiter,
    pub(crate) journal: Journal,
    pub(crate) observer: Arc<dyn UsageObserver>,
    /// The time, for what ends by being dropped.
    pub(crate) clock: fn() -> WallTime,
    /// What limits are measured by.
    pub(crate) uptime: MonotonicClock,
    /// Knows the day, which does not go back.
    pub(crate) directory: Arc<Directory>,
}

/// Leave to run one request. It ends by [`finish`](Self::finish), or as cancelled when the reservation is
/// dropped, which is what happens when the caller goes away and its future with it. Once it was worked on,
/// exactly one [`UsageRecord`] follows.
///
/// | how it ends                   | counts against the limits | charged | recorded |
/// |-------------------------------|---------------------------|---------|----------|
/// | completed                     | yes                       | yes     | yes      |
/// | refused before any work       | no                        | no      | no       |
/// | refused after work            | yes                       | no      | yes      |
/// | cancelled: the caller left, or its deadline passed | yes  | no      | yes      |
/// | failed: a fault of ours       | no                        | no      | yes      |
/// | could not be recorded         | no                        | no      | no       |
///
/// An input that is refused while others of its request are answered ([`refuse`](Self::refuse)) is treated as
/// a request that is refused.
pub struct Reservation {
    desk: Arc<Desk>,
    principal: Principal,
    demand: Demand,
    tokens: u64,
    device_us: u64,
    taken: Vec<Allotment>,
    /// Not among those demanded any more.
    refused_after_work: u64,
    has_worked: bool,
    is_ended: bool,
    /// When it ended, and for which attempt, if that was told already.
    told: Option<(WallTime, Arc<str>)>,
}

/// A record that the observer sees when this is dropped.
struct ObservedRecord {
    desk: Arc<Desk>,
    record: UsageRecord,
}

impl Drop for ObservedRecord {
    fn drop(&mut self) {
        self.desk.observer.on_usage(&self.record);
    }
}

impl Desk {
    /// Takes the inputs from the tenant's limits.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        now: WallTime,
        principal: &Principal,
        demand: Demand,
    ) -> Result<Reservation, LimitError> {
        let now = self.moment(now);
        let taken = self.limiter.take(now, principal.tenant(), Unit::Inputs, demand.inputs).await?;
        Ok(Reservation {
            desk: Arc::clone(self),
            principal: principal.clone(),
            demand,
            tokens: 0,
            device_us: 0,
            taken: taken.into_iter().collect(),
            refused_after_work: 0,
            has_worked: false,
            is_ended: false,
            told: None,
        })
    }

    /// Counts a call that gets an answer which was given before: one of the tenant's limit of requests, and
    /// no charge.
    pub(crate) async fn admit_replay(
        &self,
        now: WallTime,
        principal: &Principal,
    ) -> Result<Option<Quota>, LimitError> {
        let taken = self.limiter.take(self.moment(now), principal.tenant(), Unit::Inputs, 1).await?;
        Ok(taken.map(|taken| taken.quota))
    }

    /// Asks whether anything is left of a tenant's limit, and takes nothing.
    pub(crate) async fn check_limit(&self, now: WallTime, principal: &Principal) -> Result<(), LimitError> {
        let (now, tenant) = (self.moment(now), principal.tenant());
        if let Some(taken) = self.limiter.take(now, tenant, Unit::Inputs, 1).await? {
            self.limiter.give_back(tenant, taken);
        }
        Ok(())
    }

    /// Writes the record of an answer that was kept and not recorded.
    pub(crate) async fn record(&self, record: UsageRecord) -> Result<(), JournalError> {
        self.journal.append(record.clone()).await?;
        self.observer.on_usage(&record);
        Ok(())
    }

    pub(crate) async fn exchange_limits(&self, now: WallTime) {
        self.limiter.exchange(self.moment(now)).await;
    }

    fn moment(&self, wall: WallTime) -> Moment {
        Moment { uptime: self.uptime.now(), wall: self.directory.latest(wall) }
    }
}

impl Reservation {
    /// Settles the reservation to what the request turned out to need.
    ///
    /// # Errors
    /// The plan limits tokens, and there are not so many left.
    pub async fn settle(&mut self, now: WallTime, tokens: u64) -> Result<(), LimitError> {
        let now = self.desk.moment(now);
        let taken = self.desk.limiter.take(now, self.principal.tenant(), Unit::Tokens, tokens).await?;
        self.tokens = tokens;
        self.taken.extend(taken);
        Ok(())
    }

    /// The request is worked on: from here on it counts against the limits also where it ends in a refusal,
    /// or refusals that take work could be had without end.
    pub fn work_began(&mut self) {
        self.has_worked = true;
    }

    /// Some inputs are refused and the others go on. None of the former is charged, and those refused before
    /// any work do not count against the limits.
    pub fn refuse(&mut self, refused: RefusedInputs) {
        let RefusedInputs { before_work, after_work } = refused;
        debug_assert!(before_work + after_work <= self.demand.inputs, "no more are refused than there are");
        self.demand.inputs = self.demand.inputs.saturating_sub(before_work + after_work);
        self.refused_after_work += after_work;
        for taken in self.taken.iter_mut().filter(|taken| taken.unit == Unit::Inputs) {
            let back = taken.split(before_work);
            self.desk.limiter.give_back(self.principal.tenant(), back);
        }
    }

    /// Adds time that devices spent on the request.
    pub fn computed(&mut self, time: Duration) {
        self.device_us += u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    }

    /// What is left of the tenant's limits, this request counted.
    pub fn quotas(&self) -> Vec<(Unit, Quota)> {
        self.taken.iter().map(|taken| (taken.unit, taken.quota)).collect()
    }

    /// Whether anything of the request counts against the limits if it ends like that.
    pub fn counts(&self, outcome: Outcome) -> bool {
        let inputs = self.demand.inputs + self.refused_after_work;
        !self.is_free(outcome) && outcome != Outcome::Failed && inputs > 0
    }

    /// The record that the request leaves if it ends like that, if any: to be kept with the answer of an
    /// attempt, and the same that [`finish`](Self::finish) writes.
    pub fn record(&mut self, outcome: Outcome, attempt: &str) -> Option<UsageRecord> {
        self.told = Some(((self.desk.clock)(), Arc::from(attempt)));
        (!self.is_free(outcome)).then(|| self.to_record(outcome))
    }

    /// Ends the request; resolves when its record is safe, and not before that may its answer go out.
    ///
    /// # Errors
    /// The record cannot be kept: then nothing is charged, and the answer must not go out.
    pub async fn finish(mut self, outcome: Outcome) -> Result<(), JournalError> {
        let Some(record) = self.end(outcome) else { return Ok(()) };
        // Also if nobody waits for the rest: it is written all the same.
        let mut seen = ObservedRecord { desk: Arc::clone(&self.desk), record };
        let recorded = self.desk.journal.append(seen.record.clone()).await;
        if recorded.is_err() {
            // It is not answered: that is a fault of ours, whatever it was before.
            self.give_back();
            (seen.record.outcome, seen.record.price) = (Outcome::Failed, MicroDollars(0));
        }
        recorded
    }

    fn give_back(&mut self) {
        for taken in self.taken.drain(..) {
            self.desk.limiter.give_back(self.principal.tenant(), taken);
        }
    }

    /// Its record, made once. None for what cost nothing.
    fn end(&mut self, outcome: Outcome) -> Option<UsageRecord> {
        debug_assert!(!self.is_ended, "a call has one record");
        self.is_ended = true;
        let is_free = self.is_free(outcome);
        if is_free || outcome == Outcome::Failed {
            self.give_back();
        }
        (!is_free).then(|| self.to_record(outcome))
    }

    fn is_free(&self, outcome: Outcome) -> bool {
        outcome == Outcome::Refused && !self.has_worked
    }

    fn to_record(&self, outcome: Outcome) -> UsageRecord {
        let (at, attempt) = match &self.told {
            Some((at, attempt)) => (*at, Some(Arc::clone(attempt))),
            None => ((self.desk.clock)(), None),
        };
        let price = match outcome {
            Outcome::Completed if self.principal.is_sandboxed => MicroDollars(0),
            Outcome::Completed => self.demand.price_per_1000.of_thousand(self.demand.inputs),
            Outcome::Refused | Outcome::Failed | Outcome::Cancelled => MicroDollars(0),
        };
        UsageRecord {
            at,
            request_id: Arc::clone(&self.demand.request_id),
            tenant: Arc::clone(&self.principal.tenant.name),
            key: self.principal.key.clone(),
            model: Arc::clone(&self.demand.model),
            version: Arc::clone(&self.demand.version),
            inputs: match outcome {
                Outcome::Completed => self.demand.inputs,
                _ => self.demand.inputs + self.refused_after_work,
            },
            tokens: self.tokens,
            device_us: self.device_us,
            is_cached: false,
            outcome,
            price,
            attempt,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_ended
            && let Some(record) = self.end(Outcome::Cancelled)
        {
            self.desk.observer.on_usage(&record);
            self.desk.journal.append_detached(record);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use proptest::prelude::*;
    use units::TenantId;

    use super::*;
    use crate::key::KeySecret;
    use crate::ledger::{Flush, JournalConfig};
    use crate::limit::{LimiterConfig, MemoryLimits, Outage};
    use crate::plan::{Plan, Terms};
    use crate::principal::{KeyId, Role, Tenant};

    #[derive(Default)]
    struct Ledger(Mutex<Vec<UsageRecord>>);

    impl UsageObserver for Ledger {
        fn on_usage(&self, record: &UsageRecord) {
            self.0.lock().unwrap().push(record.clone());
        }
    }

    fn principal(terms: Terms) -> Principal {
        let tenant = Tenant { id: TenantId(1), name: Arc::from("acme"), plan: Plan::Custom(terms) };
        Principal { tenant, key: KeyId(Arc::from("key_1")), role: Role::Editor, is_sandboxed: false }
    }

    fn demand(id: usize, inputs: u64, price: u64) -> Demand {
        Demand {
            request_id: Arc::from(format!("req_{id}")),
            model: Arc::from("sentiment-v3"),
            version: Arc::from("3.0.0"),
            inputs,
            price_per_1000: MicroDollars(price * 1000),
        }
    }

    fn desk(folder: &std::path::Path, ledger: &Arc<Ledger>) -> Arc<Desk> {
        let config = JournalConfig {
            folder: folder.to_owned(),
            flush: Flush::EveryMs(100),
            segment_bytes_max: 1 << 20,
            pending_max: 100,
            is_on: true,
        };
        let limits = LimiterConfig { outage: Outage::Open, servers_max: 1 };
        Arc::new(Desk {
            limiter: Limiter::new(Arc::new(MemoryLimits::default()), limits),
            journal: Journal::open(config).unwrap(),
            observer: ledger.clone(),
            clock: || WallTime(5),
            uptime: MonotonicClock::new(),
            directory: Arc::new(Directory::new(KeySecret::generate().unwrap().0, false)),
        })
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

        /// Every reservation, however it ends, is recorded once, but for what was refused before any work;
        /// only completed ones cost.
        #[test]
        fn one_record_each(ends in proptest::collection::vec((0u8..7, 1u64..200, 0u64..1000), 1..40)) {
            let folder = tempfile::tempdir().unwrap();
            let ledger = Arc::new(Ledger::default());
            let desk = desk(folder.path(), &ledger);
            let terms = Terms { requests_per_minute: 1_000_000, ..Plan::Free.terms() };
            runtime().block_on(async {
                for (i, (end, inputs, price)) in ends.iter().enumerate() {
                    let admitted = desk.admit(WallTime(0), &principal(terms), demand(i, *inputs, *price)).await;
                    let mut reservation = admitted.unwrap();
                    match end {
                        0 => drop(reservation),
                        1 => { reservation.settle(WallTime(0), 7).await.unwrap(); drop(reservation) }
                        2 => reservation.finish(Outcome::Failed).await.unwrap(),
                        3 => {
                            reservation.work_began();
                            reservation.finish(Outcome::Refused).await.unwrap();
                        }
                        6 => reservation.finish(Outcome::Refused).await.unwrap(),
                        _ => {
                            reservation.work_began();
                            reservation.settle(WallTime(0), *inputs * 3).await.unwrap();
                            reservation.computed(Duration::from_micros(11));
                            reservation.finish(Outcome::Completed).await.unwrap();
                        }
                    }
                }
            });
            desk.journal.close();
            let records = ledger.0.lock().unwrap();
            let recorded: Vec<_> = ends.iter().enumerate().filter(|(_, (end, ..))| *end != 6).collect();
            prop_assert_eq!(records.len(), recorded.len());
            prop_assert_eq!(desk.journal.written(), recorded.len() as u64);
            for ((i, (end, inputs, price)), record) in recorded.into_iter().zip(records.iter()) {
                prop_assert_eq!(&*record.request_id, format!("req_{i}"));
                let is_completed = *end >= 4;
                prop_assert_eq!(record.outcome == Outcome::Completed, is_completed);
                prop_assert_eq!(record.price.0, if is_completed { inputs * price } else { 0 });
                prop_assert_eq!(record.tokens, match end { 1 => 7, 4.. => inputs * 3, _ => 0 });
                prop_assert_eq!(record.device_us, if is_completed { 11 } else { 0 });
            }
        }
    }

    /// Of a request's inputs each is treated by itself: priced, counted, or neither.
    #[test]
    fn inputs_refused_while_others_are_answered() {
        let check = |before_work, after_work, outcome: Outcome, expected: (u64, u64, u64)| {
            let folder = tempfile::tempdir().unwrap();
            let ledger = Arc::new(Ledger::default());
            let desk = desk(folder.path(), &ledger);
            let acme = principal(Terms { requests_per_minute: 10, ..Plan::Free.terms() });
            runtime().block_on(async {
                let mut reservation = desk.admit(WallTime(0), &acme, demand(1, 7, 5)).await.unwrap();
                reservation.work_began();
                reservation.refuse(RefusedInputs { before_work, after_work });
                assert_eq!(reservation.quotas()[0].1.minute_left, 3 + before_work);
                reservation.finish(outcome).await.unwrap();
                let record = ledger.0.lock().unwrap()[0].clone();
                // What is left of ten is what may still be asked.
                let (mut left, mut refused) = (0, false);
                while !refused {
                    refused =
                        desk.admit(WallTime(0), &acme, demand(2, 1, 5)).await.map(std::mem::forget).is_err();
                    left += u64::from(!refused);
                }
                assert_eq!((record.inputs, record.price.0, left), expected);
            });
        };
        check(0, 0, Outcome::Completed, (7, 35, 3));
        check(2, 0, Outcome::Completed, (5, 25, 5));
        check(0, 3, Outcome::Completed, (4, 20, 3));
        check(2, 3, Outcome::Completed, (2, 10, 5));
        check(2, 5, Outcome::Refused, (5, 0, 5));
        check(2, 3, Outcome::Cancelled, (5, 0, 5));
        check(2, 3, Outcome::Failed, (5, 0, 10));
    }

    #[test]
    fn what_cannot_be_recorded_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::default());
        let desk = desk(folder.path(), &ledger);
        let acme = principal(Terms { requests_per_minute: 3, ..Plan::Free.terms() });
        desk.journal.close();
        runtime().block_on(async {
            for id in 0..10 {
                let mut reservation = desk.admit(WallTime(0), &acme, demand(id, 1, 1)).await.unwrap();
                reservation.work_began();
                assert!(reservation.finish(Outcome::Completed).await.is_err());
            }
        });
        let told = ledger.0.lock().unwrap();
        assert!(
            told.len() == 10
                && told.iter().all(|record| record.outcome == Outcome::Failed && record.price.0 == 0)
        );
    }

    #[test]
    fn what_counts_against_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let desk = desk(folder.path(), &Arc::default());
        let acme = principal(Terms { requests_per_minute: 3, ..Plan::Free.terms() });
        runtime().block_on(async {
            let admit = |id| desk.admit(WallTime(0), &acme, demand(id, 1, 1));
            for id in 0..10 {
                // Neither what is refused before any work counts, nor what fails.
                admit(id).await.unwrap().finish(Outcome::Refused).await.unwrap();
                let mut failed = admit(id).await.unwrap();
                failed.work_began();
                failed.finish(Outcome::Failed).await.unwrap();
            }
            assert_eq!(desk.journal.written(), 10);
            admit(20).await.unwrap().finish(Outcome::Completed).await.unwrap();
            drop(admit(21).await.unwrap());
            // What was refused after work counts.
            let mut refused = admit(23).await.unwrap();
            refused.work_began();
            refused.finish(Outcome::Refused).await.unwrap();
            assert!(matches!(admit(24).await.err(), Some(LimitError::Exceeded { limit: 3, .. })));
        });
    }
}
