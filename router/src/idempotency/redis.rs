//! Answers in Redis: a hash for each request, which Redis forgets by itself.

use async_trait::async_trait;
use redis::Value;

use super::{AnswerStore, Kept, Name};
use crate::store::{RedisStore, StoreError};
use units::WallTime;

/// KEYS: the request. ARGV: its hash, owner, and milliseconds to live. Returns nothing if it is new, else its
/// hash, milliseconds left, and the answer if there is one.
const BEGIN: &str = r"
    local found = redis.call('HMGET', KEYS[1], 'print', 'answer')
    if found[1] then return {found[1], redis.call('PTTL', KEYS[1]), found[2]} end
    redis.call('HSET', KEYS[1], 'print', ARGV[1], 'owner', ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return {}
";

/// KEYS: the request. ARGV: its owner, the answer, and milliseconds to live.
const KEEP: &str = r"
    if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'answer', ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return 1
";

/// KEYS: the request. ARGV: its owner.
const RELEASE: &str = r"
    if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('DEL', KEYS[1]) end
";

impl RedisStore {
    fn request_key(&self, name: &Name) -> [String; 1] {
        [self.key("idempotency", &name.tenant, &name.digest)]
    }
}

#[async_trait]
impl AnswerStore for RedisStore {
    async fn begin(
        &self,
        now: WallTime,
        name: &Name,
        print: [u8; 32],
        owner: [u8; 16],
        until: WallTime,
    ) -> Result<Option<Kept>, StoreError> {
        let life = until.since(now).as_millis().to_string().into_bytes();
        let arguments = [print.to_vec(), owner.to_vec(), life];
        let found: Vec<Value> = self.run(BEGIN, &self.request_key(name), &arguments).await?;
        let corrupt = || StoreError::Corrupt("an idempotency key".to_owned());
        let mut found = found.into_iter();
        let Some(first) = found.next() else { return Ok(None) };
        let (Value::BulkString(print), Some(Value::Int(left))) = (first, found.next()) else {
            return Err(corrupt());
        };
        let answer = match found.next() {
            Some(Value::BulkString(answer)) => Some(answer),
            _ => None,
        };
        let print = print.try_into().map_err(|_| corrupt())?;
        let left = std::time::Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Ok(Some(Kept { print, until: now.plus(left), answer }))
    }

    async fn keep(
        &self,
        now: WallTime,
        name: &Name,
        owner: [u8; 16],
        answer: &[u8],
        until: WallTime,
    ) -> Result<bool, StoreError> {
        let life = until.since(now).as_millis().to_string().into_bytes();
        let arguments = [owner.to_vec(), answer.to_vec(), life];
        let kept: i64 = self.run(KEEP, &self.request_key(name), &arguments).await?;
        Ok(kept == 1)
    }

    async fn release(&self, name: &Name, owner: [u8; 16]) -> Result<(), StoreError> {
        self.run(RELEASE, &self.request_key(name), &[owner.to_vec()]).await
    }
}
