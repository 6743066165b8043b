//! Answers in Redis: a hash for each request, which Redis forgets by itself.

use async_trait::async_trait;
use redis::Value;

use super::{AnswerStore, Kept, Name};
use crate::store::{RedisStore, StoreError};
use units::WallTime;

/// KEYS: the request. ARGV: its hash, owner, and milliseconds to live. Returns nothing if it is new, else its
/// hash, milliseconds left, the answer and what is owed for it, if there is one.
const BEGIN: &str = r"
    local found = redis.call('HMGET', KEYS[1], 'print', 'answer', 'owed')
    if found[1] then return {found[1], redis.call('PTTL', KEYS[1]), found[2], found[3]} end
    redis.call('HSET', KEYS[1], 'print', ARGV[1], 'owner', ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return {}
";

/// KEYS: the request. ARGV: its owner, the answer, milliseconds to live, and what is owed, if anything is.
const KEEP: &str = r"
    if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'answer', ARGV[2])
    if ARGV[4] then redis.call('HSET', KEYS[1], 'owed', ARGV[4]) end
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return 1
";

/// KEYS: the request. ARGV: its owner. An answer of which nothing is owed was recorded.
const RELEASE: &str = r"
    local found = redis.call('HMGET', KEYS[1], 'owner', 'answer', 'owed')
    if found[1] == ARGV[1] and (not found[2] or found[3]) then redis.call('DEL', KEYS[1]) end
";

/// KEYS: the request. ARGV: what is owed, and what is owed instead, if anything is.
const OWE: &str = r"
    if redis.call('HGET', KEYS[1], 'owed') ~= ARGV[1] then return 0 end
    if ARGV[2] then redis.call('HSET', KEYS[1], 'owed', ARGV[2]) else redis.call('HDEL', KEYS[1], 'owed') end
    return 1
";

/// KEYS: what is owed to a journal. ARGV: tenant and digest, what is owed, and milliseconds to live.
const HAND_OVER: &str = r"
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
";

/// KEYS: what is owed to a journal.
const HANDED_OVER: &str = "return redis.call('HGETALL', KEYS[1])";

/// KEYS: the request.
const OWED: &str = "return redis.call('HGET', KEYS[1], 'owed')";

/// KEYS: what is owed to a journal. ARGV: tenant and digest.
const TAKEN_OVER: &str = "redis.call('HDEL', KEYS[1], ARGV[1])";

/// How long it is remembered what is owed to a journal whose server does not come back, in milliseconds.
const HANDED_OVER_KEPT_MS: u64 = 30 * 86_400_000;

impl RedisStore {
    /// No tenant has such a name.
    fn owed_key(&self, journal: &str) -> [String; 1] {
        [self.key("idempotency", &format!(":journal {journal}"), "owed")]
    }

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
        let mut text = || match found.next() {
            Some(Value::BulkString(text)) => Some(text),
            _ => None,
        };
        let (answer, owed) = (text(), text());
        let print = print.try_into().map_err(|_| corrupt())?;
        let left = std::time::Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Ok(Some(Kept { print, until: now.plus(left), answer, owed }))
    }

    async fn keep(
        &self,
        now: WallTime,
        name: &Name,
        owner: [u8; 16],
        (answer, owed): (&[u8], Option<&[u8]>),
        until: WallTime,
    ) -> Result<bool, StoreError> {
        let life = until.since(now).as_millis().to_string().into_bytes();
        let mut arguments = vec![owner.to_vec(), answer.to_vec(), life];
        arguments.extend(owed.map(<[u8]>::to_vec));
        let kept: i64 = self.run(KEEP, &self.request_key(name), &arguments).await?;
        Ok(kept == 1)
    }

    async fn owe(&self, name: &Name, before: &[u8], after: Option<&[u8]>) -> Result<bool, StoreError> {
        let arguments: Vec<_> = std::iter::once(before).chain(after).collect();
        let is_owed: i64 = self.run(OWE, &self.request_key(name), &arguments).await?;
        Ok(is_owed == 1)
    }

    async fn hand_over(&self, journal: &str, name: &Name, owed: &[u8]) -> Result<(), StoreError> {
        let place = format!("{}/{}", name.tenant, name.digest).into_bytes();
        let arguments = [place, owed.to_vec(), HANDED_OVER_KEPT_MS.to_string().into_bytes()];
        self.run(HAND_OVER, &self.owed_key(journal), &arguments).await
    }

    async fn handed_over(&self, journal: &str) -> Result<Vec<(Name, Vec<u8>)>, StoreError> {
        let nothing: [&str; 0] = [];
        let found: Vec<(String, Vec<u8>)> = self.run(HANDED_OVER, &self.owed_key(journal), &nothing).await?;
        let named = found.into_iter().filter_map(|(place, owed)| {
            let (tenant, digest) = place.rsplit_once('/')?;
            Some((Name { tenant: tenant.to_owned(), digest: digest.to_owned() }, owed))
        });
        Ok(named.collect())
    }

    async fn owed(&self, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let nothing: [&str; 0] = [];
        self.run(OWED, &self.request_key(name), &nothing).await
    }

    async fn taken_over(&self, journal: &str, name: &Name) -> Result<(), StoreError> {
        let place = format!("{}/{}", name.tenant, name.digest);
        self.run(TAKEN_OVER, &self.owed_key(journal), &[place]).await
    }

    async fn release(&self, name: &Name, owner: [u8; 16]) -> Result<(), StoreError> {
        self.run(RELEASE, &self.request_key(name), &[owner.to_vec()]).await
    }
}
