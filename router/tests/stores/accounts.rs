//! Tenants and keys change together with their log, and what a store lost comes back.

use super::*;

pub(super) async fn accounts_change_together_with_their_log(home: &Home) {
    let store = &home.accounts;
    let start = store.version().await.unwrap();
    let tenant = TenantRecord {
        name: "first".parse().unwrap(),
        plan: Plan::Free,
        is_suspended: false,
        created_at: WallTime(1),
        plan_set_at: WallTime(1),
        suspension_set_at: WallTime(1),
    };
    let change = [Change::Tenant(tenant.clone())];
    let commit = async |expected: &Version, next: &Version, restored: Option<&Version>, line: &str| {
        store.commit(Commit { expected, next, restored, changes: &change, audit: &audit(line) }).await
    };
    let second = start.next().unwrap();
    assert_ne!(second, start.next().unwrap(), "no version is given twice");
    commit(&start, &second, None, "one").await.unwrap();
    // Who did not see that change cannot make another.
    let late = commit(&start, &start.next().unwrap(), None, "late").await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    // Nor who saw another one of that number.
    let other = start.next().unwrap();
    let late = commit(&other, &other.next().unwrap(), None, "late").await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    assert_eq!(store.version().await.unwrap(), second);
    let AccountsSnapshot { accounts, is_descendant } = store.load(&start).await.unwrap();
    assert!(is_descendant);
    assert_eq!((&accounts.version, accounts.tenants.get(&tenant.name)), (&second, Some(&tenant)));
    // A version that it never had, of a number that it had; until it is restored.
    assert!(!store.load(&other).await.unwrap().is_descendant);
    assert!(store.load(&second).await.unwrap().is_descendant);
    let third = second.next().unwrap();
    commit(&second, &third, Some(&other), "restored").await.unwrap();
    assert!(store.load(&other).await.unwrap().is_descendant);
    assert!(store.load(&second).await.unwrap().is_descendant);
    let log = store.audit(10).await.unwrap();
    assert_eq!((&log[0], &log[1]), (&audit("restored"), &audit("one")));
    assert!(log.iter().all(|entry| entry.action != "late"));
    // Many at once: each of the changes that were confirmed has a version of its own.
    let racers = (0..8).map(|_| {
        let (store, change, third) = (Arc::clone(store), change.clone(), third.clone());
        tokio::spawn(async move {
            let (next, audit) = (third.next().unwrap(), audit("race"));
            let commit =
                Commit { expected: &third, next: &next, restored: None, changes: &change, audit: &audit };
            store.commit(commit).await.is_ok().then_some(next)
        })
    });
    let mut won = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        won.extend(racer.await.unwrap());
    }
    assert_eq!(won, [store.version().await.unwrap()]);
}

/// Servers over one store, each with what it knows.
struct Fleet {
    servers: Vec<(Arc<Directory>, Administration)>,
}

impl Fleet {
    fn new(store: &Arc<RedisStore>, servers: usize) -> Self {
        let secret = KeySecret::generate().unwrap().0;
        let server = || {
            let directory = Arc::new(Directory::new(secret.clone(), false));
            let administration =
                Administration::new(store.clone(), Arc::clone(&directory), Duration::from_secs(1));
            (directory, administration)
        };
        Self { servers: (0..servers).map(|_| server()).collect() }
    }

    async fn follow(&self) {
        for (_, administration) in &self.servers {
            administration.follow(WallTime::now()).await.unwrap();
        }
    }

    /// What each server says of a key.
    async fn check(&self, key: &ApiKey, expected: Result<(), router::AuthenticationError>) {
        let credential = Credential::parse(Some(&format!("Bearer {}", key.expose()))).unwrap();
        for (n, (directory, _)) in self.servers.iter().enumerate() {
            let found = directory.authenticate(&credential, &elsewhere(), WallTime::now()).await.map(|_| ());
            assert_eq!(found, expected, "server {n}");
        }
    }
}

/// The store comes back as it was before, or empty, under servers that run: nothing that any of them knows is
/// lost, revoked keys stay revoked, suspended tenants suspended, new keys become known; and they come to
/// rest.
#[tokio::test]
async fn a_store_that_lost_changes_gets_them_back() {
    let server = RedisServer::start(&["--enable-debug-command", "yes"]);
    let store = Arc::new(connect(&server, QUICK, Duration::from_secs(5)).await);
    let fleet = Fleet::new(&store, 3);
    let [(_, first), (_, second), (_, third)] = &fleet.servers[..] else { panic!() };
    let now = WallTime::now();
    let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let new = |tenant: &router::accounts::TenantName| NewKey {
        tenant: tenant.clone(),
        label: String::new(),
        mode: Mode::Live,
        role: Role::Editor,
        expires_at: None,
    };
    first.create_tenant(now, "operator", &acme, Plan::Starter).await.unwrap();
    second.create_tenant(now, "operator", &globex, Plan::Starter).await.unwrap();
    let kept = first.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    let revoked = first.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    let suspended = first.create_key(now, "operator", None, &new(&globex)).await.unwrap();
    fleet.follow().await;
    assert_eq!(server.command(&["save"]), "OK");

    // Changes that are lost: a revocation, a suspension, a new key.
    first.revoke_key(now, "operator", None, &revoked.view.id).await.unwrap();
    first.change_tenant(now, "operator", &globex, None, Some(true)).await.unwrap();
    let late = first.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    second.follow(now).await.unwrap();
    assert_eq!(server.command(&["debug", "reload", "nosave"]), "OK");
    // The third did not see them, and changes what it sees: as many changes as were lost, so that the number
    // is the same.
    let mut latest = Vec::new();
    for _ in 0..3 {
        latest.push(third.create_key(now, "operator", None, &new(&acme)).await.unwrap());
    }
    third.change_tenant(now, "operator", &globex, Some(Plan::Free), None).await.unwrap();
    let settled = async || {
        fleet.follow().await;
        fleet.follow().await;
        fleet.check(&kept.key, Ok(())).await;
        fleet.check(&late.key, Ok(())).await;
        fleet.check(&revoked.key, Err(router::AuthenticationError::RevokedKey)).await;
        fleet.check(&suspended.key, Err(router::AuthenticationError::Suspended)).await;
        for key in &latest {
            fleet.check(&key.key, Ok(())).await;
        }
        let version = store.version().await.unwrap();
        fleet.follow().await;
        assert_eq!(store.version().await.unwrap(), version, "nobody changes anything any more");
        assert_eq!(all_accounts(store.as_ref()).await.tenants[&globex].plan, Plan::Free);
    };
    settled().await;
    let log = first.audit(20).await.unwrap();
    let told = log.iter().find(|entry| entry.action == "accounts.restore").expect("it is told");
    assert_eq!(told.after.as_ref().unwrap()["records"], 3, "{told:?}");

    // Emptied, and a change of the number that was before.
    server.command(&["flushall"]);
    settled().await;
    server.command(&["flushall"]);
    let made = second.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    first.revoke_key(now, "operator", None, &kept.view.id).await.unwrap();
    fleet.follow().await;
    fleet.check(&made.key, Ok(())).await;
    fleet.check(&kept.key, Err(router::AuthenticationError::RevokedKey)).await;
    fleet.check(&revoked.key, Err(router::AuthenticationError::RevokedKey)).await;
    fleet.check(&suspended.key, Err(router::AuthenticationError::Suspended)).await;
    assert!(fleet.servers.iter().map(|(_, server)| server.restorations()).sum::<u64>() >= 3);
}
