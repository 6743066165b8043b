//! Keys are managed and declared.

use super::*;

pub(super) async fn keys_are_managed(home: &Home) {
    let (secret, _) = KeySecret::generate().unwrap();
    let server = || {
        let directory = Arc::new(Directory::new(secret.clone(), false));
        let rotate_after = Duration::from_secs(90 * 86_400);
        let administration = Administration::new(home.accounts.clone(), Arc::clone(&directory), rotate_after);
        (directory, administration)
    };
    let ((here, administration), (there, follower)) = (server(), server());
    let name = "acme".parse().unwrap();
    let now = WallTime(1_000_000);
    administration.create_tenant(now, "operator", &name, Plan::Starter).await.unwrap();
    let again = administration.create_tenant(now, "operator", &name, Plan::Starter).await;
    assert_eq!(again.unwrap_err().to_string(), "there is a tenant of that name already");
    let new = NewKey {
        tenant: name.clone(),
        label: "ci".into(),
        mode: Mode::Live,
        role: Role::Editor,
        expires_at: None,
    };
    let made = administration.create_key(now, "operator", None, &new).await.unwrap();
    let is_known = async |directory: &Directory, key: &router::ApiKey, now: WallTime| {
        let credential = Credential::parse(Some(&format!("Bearer {}", key.expose()))).unwrap();
        directory.authenticate(&credential, &elsewhere(), now).await.is_ok()
    };
    assert!(is_known(&here, &made.key, now).await && !is_known(&there, &made.key, now).await);
    follower.follow(now).await.unwrap();
    assert!(is_known(&there, &made.key, now).await, "known to the other server once it has looked");
    // Two keys are good during the overlap.
    let admin = Scope { tenant: name.clone(), role: Role::Admin };
    let overlap = Duration::from_secs(60);
    let rotated =
        administration.rotate_key(now, "acme/key", Some(&admin), &made.view.id, overlap).await.unwrap();
    let (before, after) = (now.plus(overlap / 2), now.plus(overlap));
    assert!(is_known(&here, &made.key, before).await && is_known(&here, &rotated.key, before).await);
    assert!(!is_known(&here, &made.key, after).await && is_known(&here, &rotated.key, after).await);
    let twice = administration.rotate_key(now, "acme/key", Some(&admin), &made.view.id, overlap).await;
    assert!(twice.is_err(), "a key has one successor");
    // Another tenant's administrator cannot touch it.
    let other = Scope { tenant: "first".parse().unwrap(), role: Role::Owner };
    assert!(administration.revoke_key(now, "x", Some(&other), &rotated.view.id).await.is_err());
    administration.revoke_key(now, "operator", None, &rotated.view.id).await.unwrap();
    follower.follow(now).await.unwrap();
    assert!(!is_known(&here, &rotated.key, before).await && !is_known(&there, &rotated.key, before).await);
    // An administrator gets no hold of a key that may do more than its own: by no way.
    let owner = NewKey { role: Role::Owner, ..new.clone() };
    let owners = administration.create_key(now, "operator", None, &owner).await.unwrap().view.id;
    let refused = [
        administration.create_key(now, "acme/key", Some(&admin), &owner).await.err(),
        administration.rotate_key(now, "acme/key", Some(&admin), &owners, overlap).await.err(),
        administration.revoke_key(now, "acme/key", Some(&admin), &owners).await.err(),
    ];
    assert!(refused.iter().all(|error| matches!(error, Some(AdministrationError::AboveRole))), "{refused:?}");
    administration.revoke_key(now, "operator", None, &owners).await.unwrap();
    // Old keys are shown as due.
    let old = administration.keys(now.plus(Duration::from_secs(91 * 86_400)), Some(&name)).await.unwrap();
    assert!(old.iter().all(|key| !key.is_rotation_due), "none of these is accepted any more");
    administration.create_key(now, "operator", None, &new).await.unwrap();
    let old = administration.keys(now.plus(Duration::from_secs(91 * 86_400)), Some(&name)).await.unwrap();
    assert_eq!(old.iter().filter(|key| key.is_rotation_due).count(), 1);
    // The log says who, what, and before and after, and no secret.
    let log = administration.audit(100).await.unwrap();
    let actions: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).take(7).collect();
    assert_eq!(
        actions,
        ["key.create", "key.revoke", "key.create", "key.revoke", "key.rotate", "key.create", "tenant.create"]
    );
    assert!(
        log[1].before.as_ref().unwrap()["state"] == "active"
            && log[1].after.as_ref().unwrap()["state"] == "revoked"
    );
    let text = serde_json::to_string(&log).unwrap();
    assert!(!text.contains("hash") && !text.contains(made.key.expose()));
}

/// While it is not certain that the store is this server's, nothing is read of it or written to it, whatever
/// asks, so that no key is taken for unknown.
pub(super) async fn held_accounts_are_left_alone(home: &Home) {
    let directory = Arc::new(Directory::new(KeySecret::generate().unwrap().0, false));
    let administration =
        Administration::new(home.accounts.clone(), Arc::clone(&directory), Duration::from_secs(1));
    let (now, name) = (WallTime(1_000_000), "held".parse().unwrap());
    let before = all_accounts(home.accounts.as_ref()).await;
    administration.hold(Some("another secret".to_owned()));
    let refused = [
        administration.follow(now).await.err(),
        administration.keys(now, None).await.err(),
        administration.tenants(now).await.err(),
        administration.create_tenant(now, "operator", &name, Plan::Starter).await.err(),
    ];
    for error in &refused {
        assert!(error.as_ref().unwrap().to_string().contains("another secret"), "{refused:?}");
    }
    assert!(!directory.has_accounts());
    assert_eq!(all_accounts(home.accounts.as_ref()).await, before);
    administration.hold(None);
    administration.create_tenant(now, "operator", &name, Plan::Starter).await.unwrap();
    assert!(directory.has_accounts());
}

pub(super) async fn tenants_are_declared(home: &Home) {
    let directory = Arc::new(Directory::new(KeySecret::generate().unwrap().0, false));
    let administration =
        Administration::new(home.accounts.clone(), Arc::clone(&directory), Duration::from_secs(1));
    let key = || ApiKey::generate(Mode::Live).unwrap();
    let (ci, batch, rotated) = (key(), key(), key());
    let declared = |plan, keys: &[(&str, &ApiKey)]| DeclaredTenant {
        name: "declared".parse().unwrap(),
        plan,
        is_suspended: false,
        keys: keys
            .iter()
            .map(|(label, key)| DeclaredKey {
                label: (*label).to_owned(),
                role: Role::Editor,
                key: (*key).clone(),
            })
            .collect(),
    };
    let is_known = async |key: &ApiKey| {
        let credential = Credential::parse(Some(&format!("Bearer {}", key.expose()))).unwrap();
        directory.authenticate(&credential, &elsewhere(), WallTime(9)).await.is_ok()
    };
    let declare = async |tenant: DeclaredTenant| {
        administration.declare(WallTime(5), "tenants_file", &[tenant]).await.unwrap()
    };
    assert_eq!(declare(declared(Plan::Free, &[("ci", &ci), ("batch", &batch)])).await, 3);
    assert!(is_known(&ci).await && is_known(&batch).await);
    // The same again changes nothing, and leaves no line in the log.
    let lines = administration.audit(1000).await.unwrap().len();
    assert_eq!(declare(declared(Plan::Free, &[("ci", &ci), ("batch", &batch)])).await, 0);
    assert_eq!(administration.audit(1000).await.unwrap().len(), lines);
    // A key made by the administration stays; another key under a label takes its place; what is withdrawn is
    // revoked.
    let tenant = "declared".parse().unwrap();
    let new = NewKey { tenant, label: String::new(), mode: Mode::Live, role: Role::Editor, expires_at: None };
    let made = administration.create_key(WallTime(6), "operator", None, &new).await.unwrap();
    assert_eq!(declare(declared(Plan::Starter, &[("ci", &rotated)])).await, 3);
    assert!(is_known(&rotated).await && is_known(&made.key).await);
    assert!(!is_known(&ci).await && !is_known(&batch).await);
    let log = administration.audit(3).await.unwrap();
    let actions: Vec<_> =
        log.iter().map(|entry| (entry.actor.as_str(), entry.action.as_str(), &*entry.subject)).collect();
    let expected = [
        ("tenants_file", "key.revoke", "key_declared_declared_batch"),
        ("tenants_file", "key.change", "key_declared_declared_ci"),
        ("tenants_file", "tenant.change", "declared"),
    ];
    assert_eq!(actions, expected);
    // And back.
    assert_eq!(declare(declared(Plan::Starter, &[("ci", &rotated), ("batch", &batch)])).await, 1);
    assert!(is_known(&batch).await);
}
