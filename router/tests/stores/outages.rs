//! Stores that die, hang, come late, are demoted or full.

use super::*;

#[tokio::test]
async fn a_redis_that_dies_is_left_alone_and_taken_up_again() {
    let mut server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    assert_eq!(store.version().await.unwrap(), Version::default());
    server.kill();
    until("left alone", async || store.version().await.is_err() && store.is_left_alone()).await;
    let left_alone = store.version().await.unwrap_err().to_string();
    assert!(left_alone.contains("left alone"), "{left_alone}");
    server.restart();
    until("taken up", async || store.version().await.is_ok()).await;
    assert!(!store.is_left_alone());
}

#[tokio::test]
async fn a_redis_that_hangs_is_waited_for_a_few_times_and_taken_up_when_it_goes_on() {
    let server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_millis(100)).await;
    store.version().await.unwrap();
    server.hang(true);
    for _ in 0..3 {
        assert!(store.version().await.is_err());
    }
    let refused = store.version().await.unwrap_err().to_string();
    assert!(refused.contains("left alone"), "nobody waits any more: {refused}");
    server.hang(false);
    // Probed by the store itself, without any call.
    until("taken up", async || !store.is_left_alone()).await;
    until("answered", async || store.version().await.is_ok()).await;
}

#[tokio::test]
async fn a_redis_that_comes_after_the_server_is_taken_up() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    assert!(store.is_left_alone() && store.version().await.is_err());
    server.restart();
    until("taken up", async || store.version().await.is_ok()).await;
}

/// The address leads to a server that is demoted while the connection lives, and then to the new master.
#[tokio::test]
async fn a_demoted_redis_is_left_for_the_one_at_its_address() {
    let (old, new) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let address = redis_server::Address::new(old.port());
    // Longer than the failover takes: no call fails.
    let timeout = Duration::from_secs(20);
    let config = RedisConfig { breaker: QUICK, timeout, ..redis_config(vec![address.url()], false) };
    let store = RedisStore::connect(config).await.unwrap();
    let answers = Idempotency::new(
        Arc::new(RedisStore::connect(redis_config(vec![address.url()], false)).await.unwrap()),
        KeySecret::generate().unwrap().0,
        Duration::from_secs(10),
        1000,
    );
    store.version().await.unwrap();
    let port = new.port().to_string();
    assert_eq!(old.command(&["replicaof", "127.0.0.1", &port]), "OK");
    address.lead_to(new.port());
    // Reads too: the old one would answer them.
    store.version().await.unwrap();
    let keyed = KeyedRequest { tenant: "acme", principal: "key_1", key: "a", route: "/", body: b"one" };
    assert!(matches!(answers.begin(WallTime::now(), &keyed).await, Ok(KeyState::First(_))));
    assert!(address.connections() >= 4, "each made another connection");
    assert_eq!(new.command(&["keys", "test:idempotency:*"]).lines().count(), 1);
}

/// One that answers, but may not write, is not used at all; nor is one that does not know us.
#[tokio::test]
async fn a_redis_that_may_not_write_is_left_alone() {
    let server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    store.version().await.unwrap();
    for (worse, better) in [
        (["replicaof", "127.0.0.1", "1"].as_slice(), ["replicaof", "no", "one"].as_slice()),
        (&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"]),
        (&["config", "set", "min-replicas-to-write", "1"], &["config", "set", "min-replicas-to-write", "0"]),
    ] {
        assert_eq!(server.command(worse), "OK");
        until("left alone", async || store.version().await.is_err() && store.is_left_alone()).await;
        assert_eq!(server.command(better), "OK");
        until("taken up", async || store.version().await.is_ok()).await;
    }
}

/// It takes no writes while it cannot keep what it has (MISCONF), and answers reads.
#[tokio::test]
async fn a_redis_that_cannot_persist_is_left_alone() {
    let disk = SmallDisk::mount();
    let folder = disk.path().display().to_string();
    let server = RedisServer::start(&["--dir", &folder, "--save", "3600 1000000"]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    store.version().await.unwrap();
    disk.fill();
    until("left alone", async || {
        server.command(&["bgsave"]);
        store.version().await.is_err() && store.is_left_alone()
    })
    .await;
    assert!(store.fault().is_some_and(|fault| fault.contains("MISCONF")), "{:?}", store.fault());
    disk.make_room();
    until("taken up", async || {
        server.command(&["bgsave"]);
        store.version().await.is_ok()
    })
    .await;
    assert_eq!((store.fault(), store.is_left_alone()), (None, false));
}

/// The database takes nothing after an error until it is opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_opens_again_after_a_full_disk() {
    let disk = SmallDisk::mount();
    let store = Arc::new(EmbeddedStore::open(&disk.path().join("store.redb")).unwrap());
    let secret = KeySecret::generate().unwrap().0;
    let lease = Duration::from_secs(60);
    let answers = Idempotency::new(store.clone(), secret.clone(), lease, 1 << 20);
    let directory = Arc::new(Directory::new(secret, false));
    let administration = Administration::new(store.clone(), directory, Duration::from_secs(1));
    let name = |n: u32| format!("tenant-{n}").parse().unwrap();
    administration.create_tenant(WallTime(1), "operator", &name(0), Plan::Free).await.unwrap();
    let large = Answer { status: 200, body: vec![b'x'; 1 << 18] };
    let body = b"one";
    let keyed =
        |key: &'static str| KeyedRequest { tenant: "acme", principal: "key_1", key, route: "/", body };
    let Ok(KeyState::First(early)) = answers.begin(WallTime::now(), &keyed("early")).await else { panic!() };
    answers.keep(WallTime::now(), &early, &Answer { status: 200, body: vec![1] }, None).await.unwrap();
    disk.fill();
    // Answers are kept until there is no room: which is not an error, but something that is tried again.
    let mut n = 0;
    until("the store failed", async || {
        n += 1;
        let key: &'static str = Box::leak(n.to_string().into_boxed_str());
        if let Ok(KeyState::First(attempt)) = answers.begin(WallTime::now(), &keyed(key)).await {
            let _ = answers.keep(WallTime::now(), &attempt, &large, None).await;
        }
        store.fault().is_some()
    })
    .await;
    disk.make_room();
    until("accounts", async || {
        administration.create_tenant(WallTime(2), "operator", &name(1), Plan::Free).await.is_ok()
    })
    .await;
    assert_eq!(store.fault(), None);
    let Ok(KeyState::First(last)) = answers.begin(WallTime::now(), &keyed("last")).await else { panic!() };
    answers.keep(WallTime::now(), &last, &large, None).await.unwrap();
    for key in ["early", "last"] {
        assert!(matches!(answers.begin(WallTime::now(), &keyed(key)).await, Ok(KeyState::Again(_))), "{key}");
    }
    assert_eq!(administration.tenants(WallTime(3)).await.unwrap().len(), 2);
    // What was not known to be kept is kept by now.
    until("the answer that did not fit", async || {
        let key: &'static str = Box::leak(n.to_string().into_boxed_str());
        matches!(
            answers.begin(WallTime::now(), &keyed(key)).await,
            Ok(KeyState::Again(_) | KeyState::First(_))
        )
    })
    .await;
}

/// A disk of four megabytes in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test has to be root to mount a tmpfs");
        Self(folder)
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn the_store_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(EmbeddedStore::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(EmbeddedStore::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
}

/// The password is asked for with every connection, and what is the matter meanwhile is told.
#[tokio::test]
async fn a_password_that_is_changed_is_read_again() {
    let server = RedisServer::start(&["--requirepass", "first"]);
    let password = Arc::new(std::sync::Mutex::new("first".to_owned()));
    let shared = Arc::clone(&password);
    let read = Password::new(move || Ok(shared.lock().unwrap().clone()));
    let config =
        RedisConfig { password: Some(read), breaker: QUICK, ..redis_config(vec![server.url()], false) };
    let store = RedisStore::connect(config).await.unwrap();
    store.version().await.unwrap();
    assert_eq!((store.fault(), store.eviction()), (None, None));
    assert_eq!(server.command(&["-a", "first", "config", "set", "requirepass", "second"]), "OK");
    server.command(&["-a", "second", "client", "kill", "type", "normal", "skipme", "yes"]);
    until("left alone", async || store.version().await.is_err() && store.is_left_alone()).await;
    assert!(store.fault().is_some_and(|fault| fault.contains("Authentication")), "{:?}", store.fault());
    "second".clone_into(&mut password.lock().unwrap());
    until("taken up", async || store.version().await.is_ok()).await;
    assert_eq!(store.fault(), None);
}

#[tokio::test]
async fn what_a_redis_refuses_and_evicts_is_told() {
    let mut server = RedisServer::start(&["--maxmemory-policy", "volatile-lru"]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    store.version().await.unwrap();
    assert_eq!((store.fault(), store.eviction().as_deref()), (None, Some("volatile-lru")));
    server.command(&["config", "set", "maxmemory-policy", "noeviction"]);
    for (setting, bad, good, told) in
        [("maxmemory", "1", "0", "OOM"), ("min-replicas-to-write", "2", "0", "NOREPLICAS")]
    {
        server.command(&["config", "set", setting, bad]);
        let is_told = || store.fault().is_some_and(|fault| fault.contains(told));
        until(told, async || store.version().await.is_err() && is_told()).await;
        server.command(&["config", "set", setting, good]);
        until("taken up", async || store.version().await.is_ok()).await;
        assert_eq!((store.fault(), store.eviction()), (None, None));
    }
    server.kill();
    until("a fault", async || store.version().await.is_err() && store.fault().is_some()).await;
}

/// A damaged record is lost as one that is gone: who knows it gives it back, and else it is named and stands
/// in nobody's way.
#[tokio::test]
async fn damaged_records_stop_nothing() {
    let server = RedisServer::start(&[]);
    let config = || redis_config(vec![server.url()], false);
    let (secret, _) = KeySecret::generate().unwrap();
    let administration = async || {
        let store = Arc::new(RedisStore::connect(config()).await.unwrap());
        let directory = Arc::new(Directory::new(secret.clone(), false));
        (Administration::new(store, Arc::clone(&directory), Duration::from_secs(86_400)), directory)
    };
    let now = WallTime::now();
    let (knows, directory) = administration().await;
    for name in ["acme", "globex"] {
        knows.create_tenant(now, "test", &name.parse().unwrap(), Plan::Free).await.unwrap();
    }
    let damage = [
        vec!["HSET", "{test:accounts}:tenants", "acme", "{\"name\":\"ac"],
        vec!["HSET", "{test:accounts}:tenants", "globex", "\u{1}"],
        vec!["SET", "{test:accounts}:version", "abc"],
    ];
    for (number, command) in damage.iter().enumerate() {
        server.command(command);
        // A server that does not know the record can be used all the same.
        let (other, found) = administration().await;
        other.follow(now).await.unwrap();
        assert!(found.lost().is_some(), "{command:?}");
        other.create_tenant(now, "test", &format!("new{number}").parse().unwrap(), Plan::Free).await.unwrap();
        knows.follow(now).await.unwrap();
        assert_eq!(directory.lost(), None);
        let (again, found) = administration().await;
        let names: Vec<_> =
            again.tenants(now).await.unwrap().into_iter().map(|tenant| tenant.name.to_string()).collect();
        assert_eq!(found.lost(), None, "{command:?}");
        assert!(["acme", "globex", "new0"].iter().all(|name| names.iter().any(|found| found == name)));
    }
}
