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
    answers.keep(now, &attempt, &answer).await.unwrap();
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
    assert!(matches!(answers.keep(now, &failed, &answer).await, Err(IdempotencyError::Lost)));
    let large = Answer { status: 200, body: vec![b'x'; 1001] };
    answers.keep(now, &second, &large).await.unwrap();
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
    assert!(matches!(answers.keep(later, &lost, &answer).await, Err(IdempotencyError::Lost)));
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
    answers.keep(WallTime::now(), &attempt, &answer).await.unwrap();
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
