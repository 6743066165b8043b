//! The board in Redis: a hash of servers, whose lines go stale.

use std::time::Duration;

use async_trait::async_trait;

use super::{Load, LoadBoard};
use crate::store::{RedisStore, StoreError, parse, to_text};

/// KEYS: the board. ARGV: the server, its load, and the age in milliseconds from which on a line is stale.
/// Returns the loads of the other servers. Redis' own clock counts, so that the servers' clocks need not
/// agree.
const EXCHANGE: &str = r"
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3] * 10)
    local lines, loads = redis.call('HGETALL', KEYS[1]), {}
    for i = 1, #lines, 2 do
        local at, load = string.match(lines[i + 1], '^(%d+) (.*)$')
        if now - at > tonumber(ARGV[3]) then
            redis.call('HDEL', KEYS[1], lines[i])
        elseif lines[i] ~= ARGV[1] then
            loads[#loads + 1] = load
        end
    end
    return loads
";

#[async_trait]
impl LoadBoard for RedisStore {
    async fn exchange(&self, server: &str, load: &Load, age_max: Duration) -> Result<Vec<Load>, StoreError> {
        let keys = [self.key("scaling", "board", "loads")];
        let arguments = [server.to_owned(), to_text(load)?, age_max.as_millis().to_string()];
        let loads: Vec<String> = self.run(EXCHANGE, &keys, &arguments).await?;
        loads.iter().map(|load| parse(load)).collect()
    }
}
