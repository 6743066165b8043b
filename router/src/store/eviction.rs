//! Whether a Redis may drop keys by itself when its memory is full: it is asked, and where asking is
//! forbidden nothing is said.

use redis::aio::ConnectionLike;
use redis::{FromRedisValue, Value};

/// What is said of a policy that may.
pub(super) const WARNING: &str = "Redis may evict what is kept in it when its memory is full (maxmemory-policy): tenants, keys, \
                                  sums, the counts of limits and answers under idempotency keys can be lost; set it to noeviction";

/// The policy by which keys may be evicted. None: there is none, or it is not told.
pub(super) async fn policy(connection: &mut impl ConnectionLike) -> Option<String> {
    let configured = redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").to_owned();
    let answer: Result<Value, _> = configured.query_async(connection).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(_) => redis::cmd("INFO").arg("memory").to_owned().query_async(connection).await.ok()?,
    };
    find(&answer)
}

/// A policy that evicts, wherever it is in an answer: a cluster has one of each node.
fn find(answer: &Value) -> Option<String> {
    match answer {
        Value::Array(values) | Value::Set(values) => values.iter().find_map(find),
        Value::Map(pairs) => pairs.iter().find_map(|(_, value)| find(value)),
        value => {
            let text = String::from_redis_value_ref(value).ok()?;
            let mut words = text.lines().map(|line| line.trim().trim_start_matches("maxmemory_policy:"));
            words
                .find(|word| word.starts_with("allkeys-") || word.starts_with("volatile-"))
                .map(str::to_owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_evict() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let check = |answer: &Value, expected: Option<&str>| {
            assert_eq!(find(answer).as_deref(), expected, "{answer:?}");
        };
        let config = |policy: &str| Value::Array(vec![text("maxmemory-policy"), text(policy)]);
        check(&config("noeviction"), None);
        check(&config("allkeys-lru"), Some("allkeys-lru"));
        check(&Value::Map(vec![(text("maxmemory-policy"), text("volatile-ttl"))]), Some("volatile-ttl"));
        let node = |name: &str, policy: &str| (text(name), config(policy));
        check(
            &Value::Map(vec![node("one:1", "noeviction"), node("two:2", "volatile-lru")]),
            Some("volatile-lru"),
        );
        let info =
            |policy: &str| text(&format!("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\nx:1\r\n"));
        check(&info("allkeys-random"), Some("allkeys-random"));
        check(&info("noeviction"), None);
        check(&Value::Nil, None);
    }
}
