//! Counts in Redis: one script, one round trip, one key a tenant and unit, so that a cluster has it in one slot.

use std::time::Duration;

use async_trait::async_trait;

use super::{Grant, Left, LimitStore, Limits, Slot, Take, Unit, WINDOW_SLOTS, Window};
use crate::moment::Moment;
use crate::store::{RedisStore, StoreError};
use crate::wall_time::Day;

/// Length of a day.
const DAY_SECONDS: u64 = 86_400;

/// KEYS: the counts. ARGV: need, wish, owed, limit of the minute, limit of the day or -1, slots; then slot and amount of what
/// is given back.
/// The clock is Redis's, so that servers need not agree on one. The counts are a hash: slot -> taken, `day:<day>` -> taken.
/// If that clock was set back, what was counted in the future moves to the present: it leaves the window a minute later, not
/// when the clock has caught up; and sums of the days around today stay, so that neither way is a new day.
/// The same in Rust is `limit/memory.rs`. Returns 1, amount, slot, left in the minute, left in the day or -1; or 0, 1 for the
/// day and 0 for the minute, milliseconds until there may be enough, left in the minute, left in the day or -1.
const TAKE: &str = r"
    local need, wish, owed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local minute_max, day_max, slots_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
    local time = redis.call('TIME')
    local slot = tonumber(time[1])
    local now_ms = slot * 1000 + math.floor(tonumber(time[2]) / 1000)
    local day = math.floor(slot / 86400)
    local unused, unused_today = {}, 0
    for i = 7, #ARGV, 2 do
        local given_back = tonumber(ARGV[i + 1])
        unused[tonumber(ARGV[i])] = given_back
        if math.floor(tonumber(ARGV[i]) / 86400) == day then unused_today = unused_today + given_back end
    end
    local fields = redis.call('HGETALL', KEYS[1])
    local slots, minute, today, moved = {}, 0, 0, 0
    for i = 1, #fields, 2 do
        local name, count = fields[i], tonumber(fields[i + 1])
        local number = tonumber(name)
        if number == nil then
            local other = tonumber(string.sub(name, 5))
            if other == day then
                today = count
            elseif other == nil or math.abs(other - day) > 2 then
                redis.call('HDEL', KEYS[1], name)
            end
        elseif number <= slot - slots_max then
            redis.call('HDEL', KEYS[1], name)
        else
            if unused[number] then
                count = math.max(0, count - unused[number])
                redis.call('HSET', KEYS[1], name, count)
            end
            minute = minute + count
            if number > slot then
                moved = moved + count
                redis.call('HDEL', KEYS[1], name)
                number = slot
            end
            slots[#slots + 1] = {number, count}
        end
    end
    if moved > 0 then redis.call('HINCRBY', KEYS[1], slot, moved) end
    if unused_today > 0 then
        today = math.max(0, today - unused_today)
        redis.call('HSET', KEYS[1], 'day:' .. day, today)
    end
    local function add(amount)
        if amount > 0 then
            redis.call('HINCRBY', KEYS[1], slot, amount)
            redis.call('HINCRBY', KEYS[1], 'day:' .. day, amount)
            redis.call('EXPIRE', KEYS[1], 172800)
        end
    end
    add(owed)
    minute, today = minute + owed, today + owed
    local minute_left = math.max(0, minute_max - minute)
    local day_left = -1
    if day_max >= 0 then
        day_left = math.max(0, day_max - today)
        if day_left < need then return {0, 1, (day + 1) * 86400000 - now_ms, minute_left, day_left} end
    end
    if minute_left < need then
        table.sort(slots, function(a, b) return a[1] < b[1] end)
        local short = need - minute_left
        for _, entry in ipairs(slots) do
            short = short - entry[2]
            if short <= 0 then
                return {0, 0, (entry[1] + slots_max) * 1000 - now_ms, minute_left, day_left}
            end
        end
        return {0, 0, slots_max * 1000, minute_left, day_left}
    end
    local amount = math.min(wish, minute_left)
    if day_left >= 0 then amount = math.min(amount, day_left) end
    amount = math.max(amount, need)
    add(amount)
    if day_left >= 0 then day_left = day_left - amount end
    return {1, amount, slot, minute_left - amount, day_left}
";

#[async_trait]
impl LimitStore for RedisStore {
    async fn take(
        &self,
        _now: Moment,
        tenant: &str,
        unit: Unit,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError> {
        let key = self.key("limits", tenant, unit.key());
        // Numbers in Lua are exact to 2^53.
        let bounded = |limit: u64| i64::try_from(limit.min(1 << 52)).unwrap_or(i64::MAX);
        let day = limits.day.map_or(-1, bounded);
        let Take { need, wish, owed, unused } = take;
        let mut arguments = [*need, *wish, *owed, limits.minute].map(bounded).to_vec();
        arguments.extend([day, WINDOW_SLOTS as i64]);
        arguments.extend(unused.iter().flat_map(|(slot, amount)| [bounded(slot.number), bounded(*amount)]));
        let answer: Vec<i64> = self.run(TAKE, &[key], &arguments).await?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let left = |minute: i64, day: i64| Left { minute: number(minute), day: u64::try_from(day).ok() };
        match answer[..] {
            [1, amount, slot, minute_left, day_left] => Ok(Grant::Taken {
                amount: number(amount),
                slot: Slot { number: number(slot), day: Day((number(slot) / DAY_SECONDS) as u32) },
                left: left(minute_left, day_left),
            }),
            [0, by, wait_ms, minute_left, day_left] => Ok(Grant::Refused {
                by: if by == 1 { Window::Day } else { Window::Minute },
                retry_after: Duration::from_millis(number(wait_ms)),
                left: left(minute_left, day_left),
            }),
            _ => Err(StoreError::Corrupt(format!("limits: {} numbers from the script", answer.len()))),
        }
    }
}
