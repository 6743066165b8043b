//! Sums in Redis: a hash a tenant and day, and in the same hash how far each epoch is contained, how many
//! records it has and a check sum. So what is lost, restored or set back by the key is lost with its
//! positions and summed again; what is changed within is told by the check sum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use ulid::Ulid;

use super::{Batch, BatchOutcome, DayState, Sum, SumKey, TenantDay, UsageStore};
use crate::store::{RedisStore, StoreError};
use units::Day;

/// Days for which sums can be asked for at once.
const DAYS_MAX: u32 = 4_000;

/// What fields begin with that are no sums.
const OWN: char = '@';

/// KEYS: a day's sums, and how far each journal is, as an older version kept it. ARGV: the epoch, from, to,
/// records; then field and amount of each number. Returns nothing, or how far the epoch is if that is not
/// `from`. Positions are text throughout: a number in Lua is exact up to 2^53 alone, which suffices for the
/// check sum, the sum of all numbers. A day that an older version began has no count of records.
const APPLY: &str = r"
    local day, epoch = KEYS[1], '@' .. ARGV[1]
    local at = redis.call('HGET', day, epoch) or redis.call('HGET', KEYS[2], ARGV[1]) or '0'
    if at ~= ARGV[2] then return at end
    local sum = 0
    if redis.call('EXISTS', day) == 0 then
        redis.call('HSET', day, '@@records', '0')
    elseif redis.call('HEXISTS', day, '@@sum') == 0 then
        for _, number in ipairs(redis.call('HVALS', day)) do sum = sum + tonumber(number) end
    end
    for i = 5, #ARGV, 2 do
        redis.call('HINCRBY', day, ARGV[i], ARGV[i + 1])
        sum = sum + tonumber(ARGV[i + 1])
    end
    redis.call('HINCRBY', day, '@@sum', string.format('%.0f', sum))
    if redis.call('HEXISTS', day, '@@records') == 1 then redis.call('HINCRBY', day, '@@records', ARGV[4]) end
    redis.call('HSET', day, epoch, ARGV[3])
    return false
";

/// KEYS: a day's sums, and how far each journal is, as an older version kept it. ARGV: whether to look at the
/// sums, epochs. Returns how far each is, how many records there are or nothing, and whether the sums are
/// what was added.
const DAY: &str = r"
    local day, positions, is_sound = KEYS[1], {}, 1
    for i = 2, #ARGV do
        positions[i - 1] = redis.call('HGET', day, '@' .. ARGV[i]) or redis.call('HGET', KEYS[2], ARGV[i]) or '0'
    end
    local kept = redis.call('HGET', day, '@@sum')
    if ARGV[1] == '1' and kept then
        local all, sum = redis.call('HGETALL', day), 0
        for i = 1, #all, 2 do
            if string.sub(all[i], 1, 1) ~= '@' then sum = sum + (tonumber(all[i + 1]) or 0) end
        end
        if string.format('%.0f', sum) ~= kept then is_sound = 0 end
    end
    return {positions, redis.call('HGET', day, '@@records') or '', is_sound}
";

/// KEYS: a day's sums. ARGV: records. Returns whether they were forgotten.
const FORGET: &str = r"
    if redis.call('HGET', KEYS[1], '@@records') ~= ARGV[1] then return 0 end
    redis.call('DEL', KEYS[1])
    return 1
";

/// KEYS: one day's sums.
const READ: &str = "return redis.call('HGETALL', KEYS[1])";

/// KEYS: everybody who has sums. ARGV: tenants.
const LIST: &str = "for i = 1, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end";

/// KEYS: the life. ARGV: one for a store that has none.
const LIFE: &str = r"
    redis.call('SET', KEYS[1], ARGV[1], 'NX')
    return redis.call('GET', KEYS[1])
";

impl RedisStore {
    fn tenants_key(&self) -> String {
        // No tenant has this name.
        self.key("usage", ":all", "tenants")
    }

    async fn list(&self, tenants: &BTreeSet<&str>) -> Result<(), StoreError> {
        let tenants: Vec<&str> = tenants.iter().copied().collect();
        if tenants.is_empty() { Ok(()) } else { self.run(LIST, &[self.tenants_key()], &tenants).await }
    }

    /// A day's sums, and how far each journal is, as an older version kept it.
    fn day_keys(&self, place: &TenantDay) -> [String; 2] {
        let key = |name: &str| self.key("usage", &place.tenant, name);
        [key(&place.day.to_string()), key("applied")]
    }
}

#[async_trait]
impl UsageStore for RedisStore {
    async fn apply(&self, batches: &[Batch]) -> Result<Vec<BatchOutcome>, StoreError> {
        // Before the sums, so that nobody has some and is not listed.
        self.list(&batches.iter().map(|batch| batch.place.tenant.as_ref()).collect()).await?;
        let mut results = Vec::with_capacity(batches.len());
        for Batch { epoch, place, from, to, records, sums, .. } in batches {
            let mut arguments =
                vec![epoch.to_string(), from.to_string(), to.to_string(), records.to_string()];
            for (SumKey { hour, model, .. }, sum) in sums {
                for (index, number) in sum.numbers().iter().enumerate().filter(|(_, number)| **number > 0) {
                    arguments.extend([format!("{hour}|{index}|{model}"), number.to_string()]);
                }
            }
            let at: Option<u64> = self.run(APPLY, &self.day_keys(place), &arguments).await?;
            results.push(at.map_or(BatchOutcome::Yes, BatchOutcome::At));
        }
        Ok(results)
    }

    async fn life(&self) -> Result<String, StoreError> {
        self.run(LIFE, &[self.key("usage", ":all", "life")], &[Ulid::new().to_string()]).await
    }

    fn home(&self) -> &'static str {
        "redis"
    }

    async fn days(
        &self,
        asked: &[(TenantDay, Vec<Arc<str>>)],
        is_thorough: bool,
    ) -> Result<Vec<DayState>, StoreError> {
        let mut states = Vec::with_capacity(asked.len());
        let mut listed = BTreeSet::new();
        for (place, epochs) in asked {
            let mut arguments = vec![if is_thorough { "1" } else { "0" }];
            arguments.extend(epochs.iter().map(AsRef::as_ref));
            let state: (Vec<u64>, String, i64) = self.run(DAY, &self.day_keys(place), &arguments).await?;
            let (positions, records, is_sound) = state;
            if positions.iter().any(|at| *at > 0) {
                listed.insert(place.tenant.as_ref());
            }
            states.push(DayState { positions, records: records.parse().ok(), is_sound: is_sound == 1 });
        }
        // In a cluster the list may be lost by itself.
        self.list(&listed).await?;
        Ok(states)
    }

    async fn forget(&self, place: &TenantDay, records: u64) -> Result<bool, StoreError> {
        let [day, _] = self.day_keys(place);
        let forgotten: i64 = self.run(FORGET, &[day], &[records.to_string()]).await?;
        Ok(forgotten == 1)
    }

    async fn tenants(&self) -> Result<BTreeSet<String>, StoreError> {
        self.run("return redis.call('SMEMBERS', KEYS[1])", &[self.tenants_key()], &[] as &[&str]).await
    }

    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError> {
        let mut sums: BTreeMap<SumKey, [u64; 9]> = BTreeMap::new();
        let last = to.0.min(from.0.saturating_add(DAYS_MAX));
        for day in (from.0..=last).map(Day) {
            let key = self.key("usage", tenant, &day.to_string());
            let fields: Vec<(String, String)> = self.run(READ, &[key], &[] as &[&str]).await?;
            for (field, number) in fields.into_iter().filter(|(field, _)| !field.starts_with(OWN)) {
                let corrupt = || StoreError::Corrupt(format!("usage: field {field}"));
                let number = number.parse().map_err(|_| corrupt())?;
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
