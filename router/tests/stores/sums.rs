//! Sums take each record once.

use super::*;

/// Batches of two days.
fn batches(epoch: &str, from: u64, to: u64) -> Vec<Batch> {
    let batch = |(day, model): (u32, &str)| {
        let key = SumKey { day: Day(day), hour: 3, model: model.to_owned() };
        let sum =
            Sum { completed: 1, inputs: to - from, price: MicroDollars(5 * (to - from)), ..Sum::default() };
        let place = TenantDay { tenant: Arc::from("acme"), day: Day(day) };
        let sums = BTreeMap::from([(key, sum)]);
        Batch { epoch: Arc::from(epoch), place, from, to, first: from, records: 1, sums }
    };
    [(20_000, "a"), (20_001, "b|c")].map(batch).to_vec()
}

pub(super) async fn all_sums(store: &dyn UsageStore) -> BTreeMap<SumKey, Sum> {
    store.sums("acme", Day(19_999), Day(20_005)).await.unwrap()
}

pub(super) async fn sums_take_each_record_once(home: &Home) {
    let store = home.usage.as_ref();
    let apply = async |epoch: &str, from, to| {
        let applied = store.apply(&batches(epoch, from, to)).await.unwrap();
        assert_eq!(applied[0], applied[1]);
        applied[0]
    };
    assert_eq!(apply("one", 0, 10).await, BatchOutcome::Yes);
    assert_eq!(apply("one", 0, 10).await, BatchOutcome::At(10), "told twice, counted once");
    assert_eq!(apply("one", 12, 15).await, BatchOutcome::At(10), "nothing is skipped");
    assert_eq!(apply("one", 10, 12).await, BatchOutcome::Yes);
    assert_eq!(apply("two", 0, 3).await, BatchOutcome::Yes, "each epoch by itself");
    let sums = all_sums(store).await;
    assert_eq!(sums.len(), 2);
    for (key, sum) in &sums {
        assert_eq!((sum.completed, sum.inputs, sum.price), (3, 15, MicroDollars(75)), "{key:?}");
    }
    assert_eq!(store.sums("acme", Day(20_001), Day(20_001)).await.unwrap().len(), 1);
    assert!(store.sums("other", Day(0), Day(3)).await.unwrap().is_empty());
}
