//! Sums in the embedded store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use ulid::Ulid;

use super::{Applied, Batch, Sum, SumKey, UsageStore};
use crate::store::{EmbeddedStore, StoreError, USAGE_APPLIED, USAGE_SUMS, unavailable};
use crate::wall_time::Day;

/// One row: the store's life.
const LIFE: TableDefinition<&str, &str> = TableDefinition::new("usage_life");
const LIFE_ROW: &str = "life";

#[async_trait]
impl UsageStore for EmbeddedStore {
    async fn apply(&self, journal: &str, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
        let (journal, batches) = (journal.to_owned(), batches.to_vec());
        self.run(move |database| apply(database, &journal, &batches)).await
    }

    async fn life(&self) -> Result<String, StoreError> {
        self.run(life).await
    }

    async fn positions(&self, journal: &str, tenants: &[Arc<str>]) -> Result<Vec<u64>, StoreError> {
        let (journal, tenants) = (journal.to_owned(), tenants.to_vec());
        self.run(move |database| positions(database, &journal, &tenants)).await
    }

    async fn end(&self, journal: &str) -> Result<u64, StoreError> {
        let journal = journal.to_owned();
        self.run(move |database| end(database, &journal)).await
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

fn life(database: &Database) -> Result<String, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    match read.open_table(LIFE) {
        Ok(table) => {
            if let Some(life) = table.get(LIFE_ROW).map_err(unavailable)? {
                return Ok(life.value().to_owned());
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(unavailable(error)),
    }
    let life = Ulid::new().to_string();
    let write = database.begin_write().map_err(unavailable)?;
    write.open_table(LIFE).map_err(unavailable)?.insert(LIFE_ROW, life.as_str()).map_err(unavailable)?;
    write.commit().map_err(unavailable)?;
    Ok(life)
}

fn positions(database: &Database, journal: &str, tenants: &[Arc<str>]) -> Result<Vec<u64>, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let applied = read.open_table(USAGE_APPLIED).map_err(unavailable)?;
    let position = |tenant: &Arc<str>| {
        let at = applied.get((tenant.as_ref(), journal)).map_err(unavailable)?;
        Ok(at.map_or(0, |at| at.value()))
    };
    tenants.iter().map(position).collect()
}

fn end(database: &Database, journal: &str) -> Result<u64, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let applied = read.open_table(USAGE_APPLIED).map_err(unavailable)?;
    let mut end = 0;
    for row in applied.iter().map_err(unavailable)? {
        let (key, at) = row.map_err(unavailable)?;
        if key.value().1 == journal {
            end = end.max(at.value());
        }
    }
    Ok(end)
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
