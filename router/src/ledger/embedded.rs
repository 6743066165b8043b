//! Sums in the embedded store.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::{Applied, Batch, Sum, SumKey, UsageStore};
use crate::store::{EmbeddedStore, StoreError, USAGE_APPLIED, USAGE_SUMS, unavailable};
use crate::wall_time::Day;

#[async_trait]
impl UsageStore for EmbeddedStore {
    async fn apply(&self, journal: &str, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
        let (journal, batches) = (journal.to_owned(), batches.to_vec());
        self.run(move |database| apply(database, &journal, &batches)).await
    }

    async fn tenants(&self) -> Result<BTreeSet<String>, StoreError> {
        self.run(tenants).await
    }

    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError> {
        let tenant = tenant.to_owned();
        self.run(move |database| sums(database, &tenant, from, to)).await
    }
}

fn apply(database: &Database, journal: &str, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
    let write = database.begin_write().map_err(unavailable)?;
    let mut results = Vec::with_capacity(batches.len());
    {
        let mut applied = write.open_table(USAGE_APPLIED).map_err(unavailable)?;
        let mut table = write.open_table(USAGE_SUMS).map_err(unavailable)?;
        for Batch { tenant, from, to, sums } in batches {
            let key = (tenant.as_str(), journal);
            let at = applied.get(key).map_err(unavailable)?.map_or(0, |at| at.value());
            if at != *from {
                results.push(Applied::At(at));
                continue;
            }
            for (SumKey { day, hour, model }, sum) in sums {
                let key = (tenant.as_str(), day.0, *hour, model.as_str());
                let mut total = table
                    .get(key)
                    .map_err(unavailable)?
                    .map_or_else(Sum::default, |numbers| Sum::from_numbers(numbers.value()));
                total += *sum;
                table.insert(key, total.numbers()).map_err(unavailable)?;
            }
            applied.insert(key, *to).map_err(unavailable)?;
            results.push(Applied::Yes);
        }
    }
    write.commit().map_err(unavailable)?;
    Ok(results)
}

fn tenants(database: &Database) -> Result<BTreeSet<String>, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let table = read.open_table(USAGE_APPLIED).map_err(unavailable)?;
    let rows = table.iter().map_err(unavailable)?;
    rows.map(|row| row.map(|(key, _)| key.value().0.to_owned()).map_err(unavailable)).collect()
}

fn sums(database: &Database, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let table = read.open_table(USAGE_SUMS).map_err(unavailable)?;
    let range = (tenant, from.0, 0, "")..(tenant, to.next().0, 0, "");
    let rows = table.range(range).map_err(unavailable)?;
    rows.map(|row| {
        let (key, numbers) = row.map_err(unavailable)?;
        let (_, day, hour, model) = key.value();
        Ok((SumKey { day: Day(day), hour, model: model.to_owned() }, Sum::from_numbers(numbers.value())))
    })
    .collect()
}
