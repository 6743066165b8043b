//! Admission: a reservation for each request that may run, and its one usage record.

use std::sync::Arc;

use crate::metering::{MicroDollars, Outcome, UsageRecord, UsageSink};
use crate::principal::Principal;

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
    /// Price of one input.
    pub price: MicroDollars,
}

/// Leave to run one request. Whatever happens to it, exactly one [`UsageRecord`] follows: by
/// [`finish`](Self::finish), or as cancelled when the reservation is dropped, which is what happens
/// when the caller goes away and its future with it.
pub struct Reservation {
    principal: Principal,
    demand: Demand,
    tokens: u64,
    outcome: Outcome,
    usage: Arc<dyn UsageSink>,
}

impl Reservation {
    pub(crate) fn new(principal: Principal, demand: Demand, usage: Arc<dyn UsageSink>) -> Self {
        Self { principal, demand, tokens: 0, outcome: Outcome::Cancelled, usage }
    }

    /// Settles the reservation to what the request turned out to need.
    pub fn settle(&mut self, tokens: u64) {
        self.tokens = tokens;
    }

    /// Ends the request and records it.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let price = match self.outcome {
            Outcome::Completed => self.demand.price.times(self.demand.inputs),
            Outcome::Refused | Outcome::Failed | Outcome::Cancelled => MicroDollars(0),
        };
        self.usage.record(UsageRecord {
            request_id: Arc::clone(&self.demand.request_id),
            tenant: Arc::clone(&self.principal.tenant.name),
            key: self.principal.key.clone(),
            model: Arc::clone(&self.demand.model),
            version: Arc::clone(&self.demand.version),
            inputs: self.demand.inputs,
            tokens: self.tokens,
            outcome: self.outcome,
            price,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::IpAddr;
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::{DEVELOPMENT_KEY, Directory, Router};

    #[derive(Default)]
    struct Ledger(Mutex<Vec<UsageRecord>>);

    impl UsageSink for Ledger {
        fn record(&self, record: UsageRecord) {
            self.0.lock().unwrap().push(record);
        }
    }

    fn demand(id: usize, inputs: u64, price: u64) -> Demand {
        Demand {
            request_id: Arc::from(format!("req_{id}")),
            model: Arc::from("sentiment-v3"),
            version: Arc::from("3.0.0"),
            inputs,
            price: MicroDollars(price),
        }
    }

    proptest! {
        /// Every reservation, however it ends, is recorded once, and only completed ones cost.
        #[test]
        fn one_record_each(ends in proptest::collection::vec((0u8..6, 1u64..200, 0u64..1000), 1..40)) {
            let ledger = Arc::new(Ledger::default());
            let router = Router::new(Directory::development(), ledger.clone());
            let header = format!("Bearer {DEVELOPMENT_KEY}");
            let principal = router.authenticate(Some(&header), IpAddr::from([127, 0, 0, 1])).unwrap();
            for (i, (end, inputs, price)) in ends.iter().enumerate() {
                let mut reservation = router.admit(&principal, demand(i, *inputs, *price));
                match end {
                    0 => drop(reservation),
                    1 => { reservation.settle(7); drop(reservation) }
                    2 => reservation.finish(Outcome::Failed),
                    3 => reservation.finish(Outcome::Refused),
                    _ => { reservation.settle(*inputs * 3); reservation.finish(Outcome::Completed) }
                }
            }
            let records = ledger.0.lock().unwrap();
            prop_assert_eq!(records.len(), ends.len());
            for (i, ((end, inputs, price), record)) in ends.iter().zip(records.iter()).enumerate() {
                prop_assert_eq!(&*record.request_id, format!("req_{i}"));
                let is_completed = *end >= 4;
                prop_assert_eq!(record.outcome == Outcome::Completed, is_completed);
                prop_assert_eq!(record.price.0, if is_completed { inputs * price } else { 0 });
                prop_assert_eq!(record.tokens, match end { 1 => 7, 4.. => inputs * 3, _ => 0 });
            }
        }
    }
}
