//! How much a tenant may keep under idempotency keys, in both homes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "only a single server is needed")]
mod redis_server;

use std::sync::Arc;
use std::time::Duration;

use redis_server::RedisServer;
use router::idempotency::{
    Answer, AnswerRoom, AnswerStore, Attempt, Idempotency, IdempotencyError, KEPT, KeyState, KeyedRequest,
    Room,
};
use router::store::{BreakerConfig, EmbeddedStore, RedisConfig, RedisStore};
use router::{KeySecret, WallTime};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn embedded() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&folder.path().join("store.redb")).unwrap());
    check(store).await;
}

#[tokio::test]
async fn redis() {
    let server = RedisServer::start(&[]);
    let config = RedisConfig {
        password: None,
        urls: vec![server.url()],
        is_cluster: false,
        prefix: "test".to_owned(),
        timeout: Duration::from_secs(2),
        breaker: BreakerConfig::default(),
    };
    check(Arc::new(RedisStore::connect(config).await.unwrap())).await;
}

async fn check<S: AnswerStore + AnswerRoom + 'static>(store: Arc<S>) {
    hours_are_left_out_when_they_are_past(store.as_ref()).await;
    a_tenant_at_its_bound_is_refused(store).await;
}

async fn hours_are_left_out_when_they_are_past(store: &impl AnswerRoom) {
    let now = WallTime::now();
    let room = |answers, bytes| Room { answers, bytes };
    assert_eq!(store.used(now, "acme").await.unwrap(), Room::default());
    assert_eq!(store.add(now, "acme", now.plus(KEPT), 10).await.unwrap(), room(1, 10));
    assert_eq!(store.add(now.plus(HOUR), "acme", now.plus(KEPT + HOUR), 5).await.unwrap(), room(2, 15));
    assert_eq!(store.used(now, "acme").await.unwrap(), room(2, 15));
    assert_eq!(store.used(now, "acm").await.unwrap(), Room::default(), "another tenant's");
    // The first is forgotten within an hour of its end, and then the second.
    assert_eq!(store.used(now.plus(KEPT), "acme").await.unwrap(), room(2, 15));
    assert_eq!(store.used(now.plus(KEPT + HOUR), "acme").await.unwrap(), room(1, 5));
    assert_eq!(
        store.add(now.plus(KEPT + 2 * HOUR), "acme", now.plus(KEPT * 2), 7).await.unwrap(),
        room(1, 7)
    );
}

async fn a_tenant_at_its_bound_is_refused<S: AnswerStore + AnswerRoom + 'static>(store: Arc<S>) {
    let (secret, _) = KeySecret::generate().unwrap();
    let with = |answers, bytes| {
        Idempotency::new(store.clone(), secret.clone(), Duration::from_secs(10), 1000)
            .with_room(store.clone(), Room { answers, bytes })
    };
    let now = WallTime::now();
    let keyed = |tenant: &'static str, key: &'static str| KeyedRequest {
        tenant,
        principal: "key_1",
        key,
        route: "/v1/ml/sentiment",
        body: b"text",
    };
    let first = |begun| -> Attempt {
        let Ok(KeyState::First(attempt)) = begun else { panic!("{begun:?}") };
        attempt
    };
    let answer = Answer { status: 200, body: b"kept".to_vec() };
    let two = with(2, 1 << 20);
    for key in ["a", "b"] {
        let attempt = first(two.begin(now, &keyed("two", key)).await);
        two.keep(now, &attempt, &answer, None).await.unwrap();
    }
    // What failed is not kept and does not count; what is kept is given again.
    let refused = two.begin(now, &keyed("two", "c")).await;
    assert!(matches!(refused, Err(IdempotencyError::Full(Room { answers: 2, .. }))), "{refused:?}");
    assert!(
        matches!(two.begin(now, &keyed("two", "a")).await, Ok(KeyState::Again(found)) if found == answer)
    );
    // Who was refused holds nothing: there is room for the same request where more is allowed.
    let attempt = first(with(3, 1 << 20).begin(now, &keyed("two", "c")).await);
    two.release(&attempt).await;
    // Another server finds what this one kept; another tenant has room of its own.
    let elsewhere = with(2, 1 << 20).begin(now, &keyed("two", "d")).await;
    assert!(matches!(elsewhere, Err(IdempotencyError::Full(_))), "{elsewhere:?}");
    first(two.begin(now, &keyed("other", "a")).await);
    // A day later there is room again.
    first(two.begin(now.plus(KEPT + HOUR), &keyed("two", "c")).await);
    // Bytes are bounded, too: the answer, its status, nonce and tag are 34.
    let bytes = with(100, 34);
    let attempt = first(bytes.begin(now, &keyed("bytes", "a")).await);
    bytes.keep(now, &attempt, &answer, None).await.unwrap();
    let refused = bytes.begin(now, &keyed("bytes", "b")).await;
    assert!(matches!(refused, Err(IdempotencyError::Full(_))), "{refused:?}");
}
