//! Sums in Redis: a hash a tenant and day, and beside it, in the same slot of a cluster, how far each journal is contained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use ulid::Ulid;

use super::{Applied, Batch, Sum, SumKey, UsageStore};
use crate::store::{RedisStore, StoreError};
use crate::wall_time::Day;

/// Days for which sums can be asked for at once.
const DAYS_MAX: u32 = 4_000;

/// KEYS: how far each journal is, then the days' sums. ARGV: the journal, from, to; then for each number: which of the keys,
/// field and amount. Returns nothing, or how far the journal is if that is not `from`. Positions are text throughout: a number
/// in Lua is exact up to 2^53 alone.
const APPLY: &str = r"
    local at = redis.call('HGET', KEYS[1], ARGV[1]) or '0'
    if at ~= ARGV[2] then return at end
    for i = 4, #ARGV, 3 do redis.call('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]) end
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
    return false
";

/// KEYS: one day's sums.
const READ: &str = "return redis.call('HGETALL', KEYS[1])";

/// KEYS: everybody who has sums, and the ends of journals. ARGV: the journal, an end of it, tenants. An end only grows.
const LIST: &str = r"
    local at, new = redis.call('HGET', KEYS[2], ARGV[1]) or '0', ARGV[2]
    if #new > #at or (#new == #at and new > at) then redis.call('HSET', KEYS[2], ARGV[1], new) end
    for i = 3, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
";

/// KEYS: the life. ARGV: one for a store that has none.
const LIFE: &str = r"
    redis.call('SET', KEYS[1], ARGV[1], 'NX')
    return redis.call('GET', KEYS[1])
";

/// KEYS: how far each journal is. ARGV: the journal.
const POSITION: &str = "return redis.call('HGET', KEYS[1], ARGV[1]) or '0'";

impl RedisStore {
    fn tenants_key(&self) -> String {
        // No tenant has this name.
        self.key("usage", ":all", "tenants")
    }

    /// Lists tenants, and keeps that the journal has records up to `end`.
    async fn list(&self, journal: &str, end: u64, tenants: &[&str]) -> Result<(), StoreError> {
        let keys = [self.tenants_key(), self.key("usage", ":all", "ends")];
        let end = end.to_string();
        let arguments: Vec<&str> = [journal, &end].into_iter().chain(tenants.iter().copied()).collect();
        self.run(LIST, &keys, &arguments).await
    }
}

#[async_trait]
impl UsageStore for RedisStore {
    async fn apply(&self, journal: &str, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
        // Before the sums, so that nobody has some and is not listed.
        let tenants: Vec<&str> = batches.iter().map(|batch| batch.tenant.as_str()).collect();
        let end = batches.iter().map(|batch| batch.to).max().unwrap_or(0);
        self.list(journal, end, &tenants).await?;
        let mut results = Vec::with_capacity(batches.len());
        for Batch { tenant, from, to, sums } in batches {
            let mut keys = vec![self.key("usage", tenant, "applied")];
            let mut arguments = vec![journal.to_owned(), from.to_string(), to.to_string()];
            for (SumKey { day, hour, model }, sum) in sums {
                let key = self.key("usage", tenant, &day.to_string());
                let position = keys.iter().position(|other| *other == key).unwrap_or_else(|| {
                    keys.push(key);
                    keys.len() - 1
                });
                for (index, number) in sum.numbers().iter().enumerate().filter(|(_, number)| **number > 0) {
                    // Keys are counted from 1 in Lua.
                    let field = format!("{hour}|{index}|{model}");
                    arguments.extend([(position + 1).to_string(), field, number.to_string()]);
                }
            }
            let at: Option<u64> = self.run(APPLY, &keys, &arguments).await?;
            results.push(at.map_or(Applied::Yes, Applied::At));
        }
        Ok(results)
    }

    async fn life(&self) -> Result<String, StoreError> {
        self.run(LIFE, &[self.key("usage", ":all", "life")], &[Ulid::new().to_string()]).await
    }

    async fn positions(&self, journal: &str, tenants: &[Arc<str>]) -> Result<Vec<u64>, StoreError> {
        let mut positions = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            positions.push(self.run(POSITION, &[self.key("usage", tenant, "applied")], &[journal]).await?);
        }
        // In a cluster the list may be lost by itself.
        let listed: Vec<&str> = tenants
            .iter()
            .zip(&positions)
            .filter(|(_, at)| **at > 0)
            .map(|(tenant, _)| tenant.as_ref())
            .collect();
        self.list(journal, positions.iter().copied().max().unwrap_or(0), &listed).await?;
        Ok(positions)
    }

    async fn end(&self, journal: &str) -> Result<u64, StoreError> {
        self.run(POSITION, &[self.key("usage", ":all", "ends")], &[journal]).await
    }

    async fn tenants(&self) -> Result<BTreeSet<String>, StoreError> {
        self.run("return redis.call('SMEMBERS', KEYS[1])", &[self.tenants_key()], &[] as &[&str]).await
    }

    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError> {
        let mut sums: BTreeMap<SumKey, [u64; 9]> = BTreeMap::new();
        let last = to.0.min(from.0.saturating_add(DAYS_MAX));
        for day in (from.0..=last).map(Day) {
            let key = self.key("usage", tenant, &day.to_string());
            let fields: Vec<(String, u64)> = self.run(READ, &[key], &[] as &[&str]).await?;
            for (field, number) in fields {
                let corrupt = || StoreError::Corrupt(format!("usage: field {field}"));
                let mut parts = field.splitn(3, '|');
                let hour = parts.next().and_then(|hour| hour.parse().ok()).ok_or_else(corrupt)?;
                let index: usize = parts.next().and_then(|index| index.parse().ok()).ok_or_else(corrupt)?;
                let model = parts.next().ok_or_else(corrupt)?.to_owned();
                let numbers = sums.entry(SumKey { day, hour, model }).or_default();
                *numbers.get_mut(index).ok_or_else(corrupt)? = number;
            }
        }
        Ok(sums.into_iter().map(|(key, numbers)| (key, Sum::from_numbers(numbers))).collect())
    }
}
