//! Sums in the embedded store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use ulid::Ulid;

use super::{Batch, BatchOutcome, DayState, Sum, SumKey, TenantDay, UsageStore};
use crate::store::{
    EmbeddedStore, StoreError, USAGE_APPLIED, USAGE_POSITIONS, USAGE_RECORDS, USAGE_SUMS, unavailable,
};
use units::Day;

/// One row: the store's life.
const LIFE: TableDefinition<&str, &str> = TableDefinition::new("usage_life");
const LIFE_ROW: &str = "life";

#[async_trait]
impl UsageStore for EmbeddedStore {
    async fn apply(&self, batches: &[Batch]) -> Result<Vec<BatchOutcome>, StoreError> {
        let batches = batches.to_vec();
        self.run(move |database| apply(database, &batches)).await
    }

    async fn life(&self) -> Result<String, StoreError> {
        self.run(life).await
    }

    fn home(&self) -> &'static str {
        "embedded"
    }

    async fn days(
        &self,
        asked: &[(TenantDay, Vec<Arc<str>>)],
        _is_thorough: bool,
    ) -> Result<Vec<DayState>, StoreError> {
        let asked = asked.to_vec();
        self.run(move |database| days(database, &asked)).await
    }

    async fn forget(&self, place: &TenantDay, records: u64) -> Result<bool, StoreError> {
        let place = place.clone();
        self.run(move |database| forget(database, &place, records)).await
    }

    async fn tenants(&self) -> Result<BTreeSet<String>, StoreError> {
        self.run(tenants).await
    }

    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError> {
        let tenant = tenant.to_owned();
        self.run(move |database| sums(database, &tenant, from, to)).await
    }
}

fn apply(database: &Database, batches: &[Batch]) -> Result<Vec<BatchOutcome>, StoreError> {
    let write = database.begin_write().map_err(unavailable)?;
    let mut results = Vec::with_capacity(batches.len());
    {
        let applied = write.open_table(USAGE_APPLIED).map_err(unavailable)?;
        let mut positions = write.open_table(USAGE_POSITIONS).map_err(unavailable)?;
        let mut counts = write.open_table(USAGE_RECORDS).map_err(unavailable)?;
        let mut table = write.open_table(USAGE_SUMS).map_err(unavailable)?;
        for Batch { epoch, place, from, to, records, sums, .. } in batches {
            let (tenant, day) = (place.tenant.as_ref(), place.day.0);
            let at = position(&positions, &applied, place, epoch)?;
            if at != *from {
                results.push(BatchOutcome::At(at));
                continue;
            }
            let mut is_new = true;
            for (SumKey { day, hour, model }, sum) in sums {
                let key = (tenant, day.0, *hour, model.as_str());
                let had = table.get(key).map_err(unavailable)?.map(|had| Sum::from_numbers(had.value()));
                let mut total = had.unwrap_or_default();
                is_new &= had.is_none();
                total += *sum;
                table.insert(key, total.numbers()).map_err(unavailable)?;
            }
            let counted = counts.get((tenant, day)).map_err(unavailable)?.map(|count| count.value());
            // Where an older version summed records it did not count them.
            if let Some(counted) = counted.or((is_new && !has_sums(&table, place, sums)?).then_some(0)) {
                counts.insert((tenant, day), counted + records).map_err(unavailable)?;
            }
            positions.insert((tenant, day, epoch.as_ref()), *to).map_err(unavailable)?;
            results.push(BatchOutcome::Yes);
        }
    }
    write.commit().map_err(unavailable)?;
    Ok(results)
}

/// Whether a place has sums beside these.
fn has_sums(
    table: &impl ReadableTable<(&'static str, u32, u8, &'static str), [u64; 9]>,
    place: &TenantDay,
    sums: &BTreeMap<SumKey, Sum>,
) -> Result<bool, StoreError> {
    let (tenant, day) = (place.tenant.as_ref(), place.day);
    for row in table.range((tenant, day.0, 0, "")..(tenant, day.next().0, 0, "")).map_err(unavailable)? {
        let key = row.map_err(unavailable)?.0;
        let (_, _, hour, model) = key.value();
        if !sums.contains_key(&SumKey { day, hour, model: model.to_owned() }) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How far an epoch is in a place. An older version kept it by tenant alone.
fn position(
    positions: &impl ReadableTable<(&'static str, u32, &'static str), u64>,
    applied: &impl ReadableTable<(&'static str, &'static str), u64>,
    place: &TenantDay,
    epoch: &str,
) -> Result<u64, StoreError> {
    let tenant = place.tenant.as_ref();
    if let Some(at) = positions.get((tenant, place.day.0, epoch)).map_err(unavailable)? {
        return Ok(at.value());
    }
    Ok(applied.get((tenant, epoch)).map_err(unavailable)?.map_or(0, |at| at.value()))
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

fn days(database: &Database, asked: &[(TenantDay, Vec<Arc<str>>)]) -> Result<Vec<DayState>, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let applied = read.open_table(USAGE_APPLIED).map_err(unavailable)?;
    let positions = read.open_table(USAGE_POSITIONS).map_err(unavailable)?;
    let counts = read.open_table(USAGE_RECORDS).map_err(unavailable)?;
    let state = |(place, epochs): &(TenantDay, Vec<Arc<str>>)| {
        let positions: Result<_, StoreError> =
            epochs.iter().map(|epoch| position(&positions, &applied, place, epoch)).collect();
        let counted = counts.get((place.tenant.as_ref(), place.day.0)).map_err(unavailable)?;
        // One file, written in transactions and with sums of its own, has all of it or nothing.
        Ok(DayState { positions: positions?, records: counted.map(|count| count.value()), is_sound: true })
    };
    asked.iter().map(state).collect()
}

fn forget(database: &Database, place: &TenantDay, records: u64) -> Result<bool, StoreError> {
    let (tenant, day) = (place.tenant.as_ref(), place.day);
    let write = database.begin_write().map_err(unavailable)?;
    {
        let mut counts = write.open_table(USAGE_RECORDS).map_err(unavailable)?;
        if counts.get((tenant, day.0)).map_err(unavailable)?.is_none_or(|count| count.value() != records) {
            return Ok(false);
        }
        counts.remove((tenant, day.0)).map_err(unavailable)?;
        let mut positions = write.open_table(USAGE_POSITIONS).map_err(unavailable)?;
        positions
            .retain_in((tenant, day.0, "")..(tenant, day.next().0, ""), |_, _| false)
            .map_err(unavailable)?;
        let mut sums = write.open_table(USAGE_SUMS).map_err(unavailable)?;
        sums.retain_in((tenant, day.0, 0, "")..(tenant, day.next().0, 0, ""), |_, _| false)
            .map_err(unavailable)?;
    }
    write.commit().map_err(unavailable)?;
    Ok(true)
}

fn tenants(database: &Database) -> Result<BTreeSet<String>, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let mut tenants = BTreeSet::new();
    for row in read.open_table(USAGE_APPLIED).map_err(unavailable)?.iter().map_err(unavailable)? {
        tenants.insert(row.map_err(unavailable)?.0.value().0.to_owned());
    }
    for row in read.open_table(USAGE_POSITIONS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let key = row.map_err(unavailable)?.0;
        if !tenants.contains(key.value().0) {
            tenants.insert(key.value().0.to_owned());
        }
    }
    Ok(tenants)
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
