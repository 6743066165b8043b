//! Counts in Redis: one script, one round trip, one key a tenant and unit, so that a cluster has it in one
//! slot; and the board, another key with a field for each server.

use std::time::Duration;

use async_trait::async_trait;

use super::{Board, Grant, LIMIT_MAX, Left, LimitStore, LimitUse, Limits, Slot, Take, WINDOW_SLOTS};
use crate::moment::Moment;
use crate::store::{RedisStore, StoreError, parse, to_text};
use units::{Day, Period, Unit};

/// Length of a day.
const DAY_SECONDS: u64 = 86_400;

/// KEYS: the counts. ARGV: need, wish, owed, limit of the minute, limit of the day or -1, slots, what is owed
/// to the day alone, the counts' life when the rest was taken, or 0, and one for counts that have none; the
/// server; then slot and amount of what is given back. The clock is Redis's, so that servers need not agree
/// on one. The counts are a hash: slot -> taken, `day:<day>` -> taken, `by:<day>:<server>` -> taken, `life`.
/// If that clock was set back, what was counted in the future moves to the present: it leaves the window a
/// minute later, not when the clock has caught up; and sums of the days around today stay, so that neither
/// way is a new day. The same in Rust is `limit/memory.rs`. Returns 1, amount, slot, left in the minute, left
/// in the day or -1, life, what this server took of the day; or 0, 1 for the day and 0 for the minute,
/// milliseconds until there may be enough, left in the minute, left in the day or -1.
const TAKE: &str = r"
    local need, wish, owed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local minute_max, day_max, slots_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
    local owed_day = tonumber(ARGV[7])
    redis.call('HSETNX', KEYS[1], 'life', ARGV[9])
    local life = redis.call('HGET', KEYS[1], 'life')
    local time = redis.call('TIME')
    local slot = tonumber(time[1])
    local now_ms = slot * 1000 + math.floor(tonumber(time[2]) / 1000)
    local day = math.floor(slot / 86400)
    local unused, unused_today = {}, 0
    local by, own = 'by:' .. day .. ':' .. ARGV[10], 0
    for i = 11, life == ARGV[8] and #ARGV or 0, 2 do
        local given_back = tonumber(ARGV[i + 1])
        unused[tonumber(ARGV[i])] = given_back
        if math.floor(tonumber(ARGV[i]) / 86400) == day then unused_today = unused_today + given_back end
    end
    local fields = redis.call('HGETALL', KEYS[1])
    local slots, minute, today, moved = {}, 0, 0, 0
    for i = 1, #fields, 2 do
        local name, count = fields[i], tonumber(fields[i + 1])
        local number = tonumber(name)
        if name == 'life' then
            -- No count.
        elseif string.sub(name, 1, 3) == 'by:' then
            local other = tonumber(string.match(name, '^by:(%d+):'))
            if name == by then
                own = count
            elseif other == nil or math.abs(other - day) > 2 then
                redis.call('HDEL', KEYS[1], name)
            end
        elseif number == nil then
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
        end
    end
    add(owed)
    if owed_day > 0 then
        redis.call('HINCRBY', KEYS[1], 'day:' .. day, owed_day)
    end
    own = math.max(0, own - unused_today) + owed + owed_day
    redis.call('HSET', KEYS[1], by, own)
    redis.call('EXPIRE', KEYS[1], 172800)
    minute, today = minute + owed, today + owed + owed_day
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
    own = own + amount
    redis.call('HSET', KEYS[1], by, own)
    if day_left >= 0 then day_left = day_left - amount end
    return {1, amount, slot, minute_left - amount, day_left, tonumber(life), own}
";

/// KEYS: the board, a hash: server -> second in which it told, number of the word, what it told, with blanks
/// between. ARGV: server, what it tells, seconds that counts, number of the word. Returns whether the
/// server's own last word was there, and what the others told.
const EXCHANGE: &str = r"
    local now, has_own, others = tonumber(redis.call('TIME')[1]), 0, {}
    local fields = redis.call('HGETALL', KEYS[1])
    for i = 1, #fields, 2 do
        local at, number, told = string.match(fields[i + 1], '^(%d+) (%d+) (.*)$')
        if fields[i] == ARGV[1] then
            if number and tonumber(number) + 1 >= tonumber(ARGV[4]) then has_own = 1 end
        elseif at and math.abs(now - tonumber(at)) < tonumber(ARGV[3]) then
            others[#others + 1] = told
        else
            redis.call('HDEL', KEYS[1], fields[i])
        end
    end
    redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[4] .. ' ' .. ARGV[2])
    redis.call('EXPIRE', KEYS[1], 86400)
    return {has_own, others}
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
        let key = self.key("limits", tenant, super::key(unit));
        let bounded = |limit: u64| i64::try_from(limit.min(LIMIT_MAX)).unwrap_or(i64::MAX);
        let day = limits.day.map_or(-1, bounded);
        let Take { server, need, wish, owed, owed_day, unused, life, new_life } = take;
        let mut numbers = [*need, *wish, *owed, limits.minute].map(bounded).to_vec();
        numbers.extend([day, WINDOW_SLOTS as i64, bounded(*owed_day)]);
        numbers.extend([bounded(life.unwrap_or(0)), bounded(*new_life)]);
        let mut arguments: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        arguments.push(server.to_string());
        let unused = unused.iter().flat_map(|(slot, amount)| [bounded(slot.number), bounded(*amount)]);
        arguments.extend(unused.map(|number| number.to_string()));
        let answer: Vec<i64> = self.run(TAKE, &[key], &arguments).await?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let left = |minute: i64, day: i64| Left { minute: number(minute), day: u64::try_from(day).ok() };
        match answer[..] {
            [1, amount, slot, minute_left, day_left, life, own_today] => Ok(Grant::Taken {
                amount: number(amount),
                slot: Slot { number: number(slot), day: Day((number(slot) / DAY_SECONDS) as u32) },
                left: left(minute_left, day_left),
                own_today: number(own_today),
                life: number(life),
            }),
            [0, by, wait_ms, minute_left, day_left] => Ok(Grant::Refused {
                by: if by == 1 { Period::Day } else { Period::Minute },
                retry_after: Duration::from_millis(number(wait_ms)),
                left: left(minute_left, day_left),
            }),
            _ => Err(StoreError::Corrupt(format!("limits: {} numbers from the script", answer.len()))),
        }
    }

    async fn exchange(&self, server: &str, number: u64, own: &[LimitUse]) -> Result<Board, StoreError> {
        // No tenant has this name.
        let key = self.key("limits", ":all", "board");
        let arguments = [server.to_owned(), to_text(&own)?, WINDOW_SLOTS.to_string(), number.to_string()];
        let (has_own, others): (i64, Vec<String>) = self.run(EXCHANGE, &[key], &arguments).await?;
        let others = others.iter().map(|told| parse::<Vec<LimitUse>>(told)).collect::<Result<Vec<_>, _>>()?;
        Ok(Board::new(has_own == 1, others.into_iter().flatten()))
    }
}
