//! Answers are kept for who sends a request again.

use super::*;

pub(super) async fn answers_are_kept(home: &Home) {
    let lease = Duration::from_secs(10);
    let (secret, _) = KeySecret::generate().unwrap();
    let kept = |secret: &KeySecret| Idempotency::new(home.answers.clone(), secret.clone(), lease, 1000);
    let answers = kept(&secret);
    let now = WallTime::now();
    fn request(key: &'static str, body: &'static str) -> KeyedRequest<'static> {
        KeyedRequest {
            tenant: "acme",
            principal: "key_1",
            key,
            route: "/v1/ml/sentiment",
            body: body.as_bytes(),
        }
    }
    let begin = async |keyed: KeyedRequest<'_>| answers.begin(now, &keyed).await.unwrap();
    let first = async |keyed: KeyedRequest<'_>| match begin(keyed).await {
        KeyState::First(attempt) => attempt,
        other => panic!("{keyed:?}: {other:?}"),
    };
    let attempt = first(request("a", "one")).await;
    let running = begin(request("a", "one")).await;
    assert!(
        matches!(running, KeyState::Running { is_here: true, left } if left <= lease && left > lease / 2),
        "{running:?}"
    );
    // Whether whoever answers elsewhere still lives is not known.
    let elsewhere = kept(&secret).begin(now, &request("a", "one")).await.unwrap();
    assert!(
        matches!(elsewhere, KeyState::Running { is_here: false, left } if left <= lease && left > lease / 2),
        "{elsewhere:?}"
    );
    assert!(matches!(begin(request("a", "two")).await, KeyState::Different));
    // Another key, another tenant, are another request.
    answers.release(&first(request("b", "one")).await).await;
    answers.release(&first(KeyedRequest { tenant: "globex", ..request("a", "one") }).await).await;
    let answer = Answer { status: 200, body: b"very secret".to_vec() };
    answers.keep(now, &attempt, &answer, None).await.unwrap();
    assert!(matches!(begin(request("a", "one")).await, KeyState::Again(found) if found == answer));
    assert!(matches!(begin(request("a", "two")).await, KeyState::Different));
    let elsewhere = KeyedRequest { route: "/v1/ml/classify", ..request("a", "one") };
    assert!(matches!(begin(elsewhere).await, KeyState::Different));
    let by_another = KeyedRequest { principal: "key_2", ..request("a", "one") };
    assert!(matches!(begin(by_another).await, KeyState::Different));
    // What is kept can be read under the same secret alone.
    assert!(matches!(
        kept(&KeySecret::generate().unwrap().0).begin(now, &request("a", "one")).await,
        Ok(KeyState::First(_))
    ));
    // A request that failed may be sent again, by whoever owned it.
    let failed = first(request("c", "one")).await;
    answers.release(&failed).await;
    let second = first(request("c", "one")).await;
    answers.release(&failed).await;
    assert!(matches!(begin(request("c", "one")).await, KeyState::Running { is_here: true, .. }));
    assert!(matches!(answers.keep(now, &failed, &answer, None).await, Err(IdempotencyError::Lost)));
    let large = Answer { status: 200, body: vec![b'x'; 1001] };
    answers.keep(now, &second, &large, None).await.unwrap();
    assert!(matches!(begin(request("c", "one")).await, KeyState::TooLarge));
    // Of many at once one is first.
    let many = (0..16).map(|_| begin(request("d", "one")));
    let firsts = futures_util::future::join_all(many).await;
    assert_eq!(firsts.iter().filter(|begun| matches!(begun, KeyState::First(_))).count(), 1);
    // A lease that is over is free again, and so is an answer whose day is over.
    let short = Idempotency::new(home.answers.clone(), secret.clone(), Duration::from_millis(50), 1000);
    let KeyState::First(lost) = short.begin(WallTime::now(), &request("e", "one")).await.unwrap() else {
        panic!()
    };
    // Begun after it, and over after it.
    short.begin(WallTime::now(), &request("f", "one")).await.unwrap();
    until("a later lease is over", async || {
        matches!(answers.begin(WallTime::now(), &request("f", "one")).await, Ok(KeyState::First(_)))
    })
    .await;
    let later = WallTime::now();
    assert!(matches!(answers.keep(later, &lost, &answer, None).await, Err(IdempotencyError::Lost)));
    assert!(matches!(answers.begin(later, &request("e", "one")).await, Ok(KeyState::First(_))));
}

/// Whatever becomes of the store in between: an answer that is there is one that was said to be kept.
#[tokio::test]
async fn an_answer_that_is_not_known_to_be_kept_is_kept_in_the_end() {
    let server = RedisServer::start(&[]);
    let store = Arc::new(connect(&server, QUICK, Duration::from_millis(100)).await);
    let answers = Idempotency::new(store, KeySecret::generate().unwrap().0, Duration::from_secs(60), 1000);
    let keyed = |key: &'static str| KeyedRequest {
        tenant: "acme",
        principal: "key_1",
        key,
        route: "/",
        body: b"one",
    };
    let answer = Answer { status: 200, body: b"charged".to_vec() };
    let Ok(KeyState::First(attempt)) = answers.begin(WallTime::now(), &keyed("a")).await else { panic!() };
    let Ok(KeyState::First(failed)) = answers.begin(WallTime::now(), &keyed("b")).await else { panic!() };
    server.hang(true);
    // It is charged: so it must not fail.
    answers.keep(WallTime::now(), &attempt, &answer, None).await.unwrap();
    answers.release(&failed).await;
    // Entered by a Redis that hangs, for a request that fails.
    assert!(answers.begin(WallTime::now(), &keyed("c")).await.is_err());
    server.hang(false);
    until("kept", async || {
        matches!(answers.begin(WallTime::now(), &keyed("a")).await, Ok(KeyState::Again(found)) if found == answer)
    })
    .await;
    for key in ["b", "c"] {
        until("free", async || {
            matches!(answers.begin(WallTime::now(), &keyed(key)).await, Ok(KeyState::First(_)))
        })
        .await;
    }
    assert_eq!(answers.unkept(), 0);
}

/// What is owed for an answer stands with it until it is recorded, and is changed by who knows it alone.
pub(super) async fn what_is_owed_stands_with_the_answer(home: &Home) {
    let (secret, _) = KeySecret::generate().unwrap();
    let lease = Duration::from_secs(10);
    let answers = Arc::new(Idempotency::new(home.answers.clone(), secret, lease, 1000));
    let now = WallTime::now();
    let keyed = |key: &'static str| KeyedRequest {
        tenant: "owing",
        principal: "key_1",
        key,
        route: "/",
        body: b"one",
    };
    let answer = Answer { status: 200, body: b"kept".to_vec() };
    let begin = async |key| answers.begin(now, &keyed(key)).await.unwrap();
    let owed = |number: u64| Owed {
        journal: "journal".to_owned(),
        epoch: "epoch".to_owned(),
        from: number,
        record: record(number),
    };
    for (key, owed) in [("a", Some(owed(1))), ("b", None)] {
        let KeyState::First(attempt) = begin(key).await else { panic!() };
        answers.keep(now, &attempt, &answer, owed.as_ref()).await.unwrap();
        match (begin(key).await, owed) {
            (KeyState::Unrecorded(found), Some(owed)) => {
                assert_eq!((found.answer.as_ref(), &found.owed.owed), (Some(&answer), &owed));
                assert!(found.until > now && found.until <= now.plus(lease));
                // An attempt that failed after all.
                answers.release(&attempt).await;
                let KeyState::First(attempt) = begin(key).await else { panic!() };
                assert!(!home.answers.owe(&found.owed.name, b"other", None).await.unwrap());
                answers.keep(now, &attempt, &answer, Some(&owed)).await.unwrap();
                answers.attempt_recorded(attempt.clone(), owed).await;
                until(
                    "noted",
                    async || matches!(begin(key).await, KeyState::Again(found) if found == answer),
                )
                .await;
                // It was recorded, so it stays.
                answers.release(&attempt).await;
                assert!(matches!(begin(key).await, KeyState::Again(_)));
                let name = &found.owed.name;
                assert!(!home.answers.owe(name, b"gone", Some(b"new")).await.unwrap());
                if home.answers.handed_over("journal").await.unwrap().is_empty() {
                    home.answers.hand_over("journal", name, b"first").await.unwrap();
                    home.answers.hand_over("journal", name, b"second").await.unwrap();
                    let found = home.answers.handed_over("journal").await.unwrap();
                    // The embedded store has nobody to tell.
                    assert!(found.is_empty() || found == [(name.clone(), b"second".to_vec())]);
                    home.answers.taken_over("journal", name).await.unwrap();
                    assert!(home.answers.handed_over("journal").await.unwrap().is_empty());
                }
            }
            (KeyState::Again(found), None) => assert_eq!(found, answer),
            other => panic!("{other:?}"),
        }
    }
}

fn record(inputs: u64) -> UsageRecord {
    UsageRecord {
        at: WallTime(1_795_219_200_000),
        request_id: Arc::from("req_1"),
        tenant: Arc::from("owing"),
        key: KeyId(Arc::from("key_1")),
        model: Arc::from("sentiment-v3"),
        version: Arc::from("3.0.0"),
        inputs,
        tokens: 7,
        device_us: 900,
        is_cached: false,
        outcome: Outcome::Completed,
        price: MicroDollars(50),
        attempt: Some(Arc::from("0123")),
    }
}
