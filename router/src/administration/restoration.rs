//! What a store lost and this server knows: found record by record when the store's accounts do not descend
//! from those known here, because it was set back to a backup, emptied, or lost its last changes when another
//! server took its place.
//!
//! Both sides may have changed since, so neither is simply taken. The result is a join: the same on every
//! server, whatever the order, so that servers which restore at the same time agree and nobody undoes
//! another's work. Records are never deleted, so what is on one side alone is kept. Of a tenant, plan and
//! suspension are each as they were set last; if that cannot be told, it is suspended. A key that one side
//! revoked is revoked, whatever happened to it on the other; but a declared key, which may be declared again
//! after it was withdrawn, is as it was changed last; so is a model.

use super::declared;
use crate::accounts::{Accounts, AuditEntry, Change, KeyRecord, ModelRecord, TenantRecord, Version};
use serde_json::Value;
use units::WallTime;

/// What has to be changed in the store, so that it contains what is known.
pub(super) fn lost(known: &Accounts, store: &Accounts) -> Vec<Change> {
    let tenants = known.tenants.values().filter_map(|ours| {
        let theirs = store.tenants.get(&ours.name);
        let joined = theirs.map_or_else(|| ours.clone(), |theirs| join_tenants(theirs, ours));
        (theirs != Some(&joined)).then_some(Change::Tenant(joined))
    });
    let keys = known.keys.values().filter_map(|ours| {
        let theirs = store.keys.get(&ours.id);
        let joined = theirs.map_or_else(|| ours.clone(), |theirs| join_keys(theirs, ours));
        (theirs != Some(&joined)).then_some(Change::Key(joined))
    });
    let models = known.models.values().filter_map(|ours| {
        let theirs = store.models.get(&ours.name);
        let joined = theirs.map_or(ours, |theirs| join_models(theirs, ours));
        (theirs != Some(joined)).then(|| Change::Model(joined.clone()))
    });
    tenants.chain(keys).chain(models).collect()
}

/// As it was changed last; if that cannot be told, all servers take the same.
fn join_models<'a>(theirs: &'a ModelRecord, ours: &'a ModelRecord) -> &'a ModelRecord {
    let age = |model: &'a ModelRecord| (model.changed_at, model.loads, model.is_wanted, &model.checkpoint);
    if age(ours) > age(theirs) { ours } else { theirs }
}

fn join_tenants(theirs: &TenantRecord, ours: &TenantRecord) -> TenantRecord {
    let mut joined = theirs.clone();
    if ours.plan_set_at > theirs.plan_set_at {
        (joined.plan, joined.plan_set_at) = (ours.plan, ours.plan_set_at);
    }
    let suspension = |tenant: &TenantRecord| (tenant.suspension_set_at, tenant.is_suspended);
    (joined.suspension_set_at, joined.is_suspended) = suspension(ours).max(suspension(theirs));
    joined.created_at = ours.created_at.min(theirs.created_at);
    joined
}

fn join_keys(theirs: &KeyRecord, ours: &KeyRecord) -> KeyRecord {
    let age = |key: &KeyRecord| (key.changed_at, key.revoked_at.is_some());
    let (newer, older) = if age(ours) > age(theirs) { (ours, theirs) } else { (theirs, ours) };
    let mut joined = newer.clone();
    if declared::is_declared(&newer.id) {
        return joined;
    }
    let earliest = |one: Option<WallTime>, other: Option<WallTime>| one.into_iter().chain(other).min();
    joined.revoked_at = earliest(newer.revoked_at, older.revoked_at);
    joined.expires_at = earliest(newer.expires_at, older.expires_at);
    joined.replaced_by = newer.replaced_by.clone().or_else(|| older.replaced_by.clone());
    joined
}

/// Names of restored records that the audit log tells of, of each kind.
const RESTORED_NAMES_MAX: usize = 100;

/// The line of the audit log that tells of a restoration.
pub(super) fn entry(now: WallTime, known: &Accounts, store: &Version, changes: &[Change]) -> AuditEntry {
    let tenants = changes.iter().filter_map(|change| match change {
        Change::Tenant(tenant) => Some(tenant.name.as_str()),
        Change::Key(_) | Change::Model(_) => None,
    });
    let keys = changes.iter().filter_map(|change| match change {
        Change::Key(key) => Some(key.id.as_str()),
        Change::Tenant(_) | Change::Model(_) => None,
    });
    let models = changes.iter().filter_map(|change| match change {
        Change::Model(model) => Some(model.name.as_str()),
        Change::Tenant(_) | Change::Key(_) => None,
    });
    let names = |names: &mut dyn Iterator<Item = &str>| -> Vec<Value> {
        names.take(RESTORED_NAMES_MAX).map(Value::from).collect()
    };
    let (mut tenants, mut keys, mut models) = (tenants, keys, models);
    let after = serde_json::json!({
        "records": changes.len(),
        "tenants": names(&mut tenants),
        "keys": names(&mut keys),
        "models": names(&mut models),
    });
    let before = serde_json::json!({
        "version_lost": known.version.to_string(),
        "version_found": store.to_string(),
    });
    AuditEntry {
        at: now,
        actor: "server".to_owned(),
        action: "accounts.restore".to_owned(),
        subject: "accounts".to_owned(),
        before: Some(before),
        after: Some(after),
    }
}

/// Notes on records that change when they do, always later than before, whatever the clock says.
pub(super) fn stamp(changes: &mut [Change], accounts: &Accounts, now: WallTime) {
    let after = |earlier: WallTime| WallTime(now.0.max(earlier.0.saturating_add(1)));
    for change in changes {
        match change {
            Change::Tenant(tenant) => match accounts.tenants.get(&tenant.name) {
                None => (tenant.plan_set_at, tenant.suspension_set_at) = (now, now),
                Some(before) => {
                    let is_same = tenant.plan == before.plan;
                    tenant.plan_set_at = if is_same { before.plan_set_at } else { after(before.plan_set_at) };
                    let is_same = tenant.is_suspended == before.is_suspended;
                    tenant.suspension_set_at =
                        if is_same { before.suspension_set_at } else { after(before.suspension_set_at) };
                }
            },
            Change::Key(key) => {
                key.changed_at = accounts.keys.get(&key.id).map_or(now, |before| after(before.changed_at));
            }
            Change::Model(model) => {
                let before = accounts.models.get(&model.name);
                model.changed_at = before.map_or(now, |before| after(before.changed_at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::accounts::TenantName;
    use crate::key::{ApiKey, KeySecret, Mode};
    use crate::plan::Plan;
    use crate::principal::Role;

    fn tenant(plan: Plan, plan_set_at: u64, is_suspended: bool, suspension_set_at: u64) -> TenantRecord {
        TenantRecord {
            name: "acme".parse().unwrap(),
            plan,
            is_suspended,
            created_at: WallTime(1),
            plan_set_at: WallTime(plan_set_at),
            suspension_set_at: WallTime(suspension_set_at),
        }
    }

    fn key(id: &str, changed_at: u64, revoked_at: Option<u64>) -> KeyRecord {
        let secret = KeySecret::new(vec![7; 32]).unwrap();
        let key = ApiKey::generate(Mode::Live).unwrap();
        KeyRecord {
            id: id.to_owned(),
            tenant: "acme".parse().unwrap(),
            label: String::new(),
            mode: Mode::Live,
            role: Role::Editor,
            hash: key.hash(&secret),
            ending: String::new(),
            created_at: WallTime(1),
            expires_at: None,
            revoked_at: revoked_at.map(WallTime),
            replaced_by: None,
            changed_at: WallTime(changed_at),
        }
    }

    fn accounts(tenants: &[TenantRecord], keys: &[KeyRecord]) -> Accounts {
        let mut accounts = Accounts::default();
        accounts.tenants.extend(tenants.iter().map(|tenant| (tenant.name.clone(), tenant.clone())));
        accounts.keys.extend(keys.iter().map(|key| (key.id.clone(), key.clone())));
        accounts
    }

    #[test]
    fn tenants_are_as_they_were_set_last() {
        let check = |ours: TenantRecord, theirs: TenantRecord, expected: TenantRecord| {
            let joined = join_tenants(&theirs, &ours);
            assert_eq!(joined, expected, "{ours:?} known, {theirs:?} stored");
        };
        let (free, starter) = (Plan::Free, Plan::Starter);
        // A suspension that was lost, beside a plan that was changed after the loss.
        check(tenant(free, 1, true, 10), tenant(starter, 12, false, 1), tenant(starter, 12, true, 10));
        // Let in again after the loss.
        check(tenant(free, 1, true, 10), tenant(free, 1, false, 12), tenant(free, 1, false, 12));
        // Let in again, and that was lost.
        check(tenant(free, 1, false, 12), tenant(free, 1, true, 10), tenant(free, 1, false, 12));
        // It cannot be told.
        check(tenant(free, 0, true, 0), tenant(free, 0, false, 0), tenant(free, 0, true, 0));
        check(tenant(free, 0, false, 0), tenant(starter, 0, true, 0), tenant(starter, 0, true, 0));
    }

    #[test]
    fn keys_stay_revoked() {
        let check =
            |id: &str, ours: (u64, Option<u64>), theirs: (u64, Option<u64>), expected: Option<u64>| {
                let ours = key(id, ours.0, ours.1);
                let theirs = KeyRecord {
                    changed_at: WallTime(theirs.0),
                    revoked_at: theirs.1.map(WallTime),
                    ..ours.clone()
                };
                assert_eq!(
                    join_keys(&theirs, &ours).revoked_at,
                    expected.map(WallTime),
                    "{id} {ours:?} {theirs:?}"
                );
            };
        check("key_1", (10, Some(10)), (1, None), Some(10));
        // Whatever else happened to it after the loss.
        check("key_1", (10, Some(10)), (12, None), Some(10));
        check("key_1", (1, None), (10, Some(10)), Some(10));
        check("key_1", (10, Some(10)), (12, Some(12)), Some(10));
        // A declared key may be declared again.
        check("key_declared_acme_ci", (10, Some(10)), (12, None), None);
        check("key_declared_acme_ci", (10, Some(10)), (1, None), Some(10));
        check("key_declared_acme_ci", (10, Some(10)), (10, None), Some(10));
    }

    #[test]
    fn models_are_as_they_were_changed_last() {
        let model = |is_wanted: bool, loads: u64, changed_at: u64| {
            let (name, checkpoint) = ("m".to_owned(), None);
            ModelRecord { name, is_wanted, loads, checkpoint, changed_at: WallTime(changed_at) }
        };
        let check = |ours: ModelRecord, theirs: ModelRecord, expected: Option<ModelRecord>| {
            let (mut known, mut store) = (Accounts::default(), Accounts::default());
            known.models.insert(ours.name.clone(), ours);
            store.models.insert(theirs.name.clone(), theirs);
            let expected: Vec<Change> = expected.map(Change::Model).into_iter().collect();
            assert_eq!(lost(&known, &store), expected);
        };
        check(model(false, 1, 10), model(true, 1, 5), Some(model(false, 1, 10)));
        check(model(false, 1, 10), model(true, 2, 12), None);
        check(model(false, 1, 10), model(true, 1, 10), None);
        check(model(true, 1, 10), model(false, 1, 10), Some(model(true, 1, 10)));
    }

    #[test]
    fn what_is_on_one_side_is_kept() {
        let known = accounts(&[tenant(Plan::Free, 1, true, 1)], &[key("key_1", 1, None)]);
        assert_eq!(lost(&known, &Accounts::default()).len(), 2);
        let mut store = accounts(&[], &[key("key_2", 1, None)]);
        store.apply(&lost(&known, &store));
        assert_eq!(store.keys.len(), 2);
        assert!(store.tenants["acme".parse::<TenantName>().as_ref().unwrap()].is_suspended);
        assert_eq!(lost(&known, &store), [], "nothing is lost any more");
    }

    #[test]
    fn changes_are_later_than_those_before_whatever_the_clock_says() {
        let before = accounts(&[tenant(Plan::Free, 50, false, 60)], &[key("key_1", 70, None)]);
        let suspended = tenant(Plan::Free, 0, true, 0);
        let mut changes = [Change::Tenant(suspended), Change::Key(key("key_1", 0, Some(20)))];
        stamp(&mut changes, &before, WallTime(20));
        let [Change::Tenant(tenant), Change::Key(key)] = &changes else { unreachable!() };
        assert_eq!((tenant.plan_set_at, tenant.suspension_set_at), (WallTime(50), WallTime(61)));
        assert_eq!(key.changed_at, WallTime(71));
    }

    proptest! {
        /// Three servers restore in any order what each knows: all come to the same, and nothing is changed
        /// twice.
        #[test]
        fn restoring_converges(
            sides in proptest::collection::vec(
                (any::<bool>(), 0u64..4, any::<bool>(), 0u64..4, proptest::option::of((0u64..4, proptest::option::of(1u64..4)))),
                4,
            ),
        ) {
            let secret_key = key("key_1", 0, None);
            let sides: Vec<_> = sides.iter().map(|(is_starter, plan_at, is_suspended, suspended_at, revoked)| {
                let plan = if *is_starter { Plan::Starter } else { Plan::Free };
                // Of one moment there is one plan, as there is one change.
                let plan_at = plan_at * 2 + u64::from(*is_starter);
                let tenants = [tenant(plan, plan_at, *is_suspended, *suspended_at)];
                let keys: Vec<_> = revoked.iter().map(|(changed, revoked)| KeyRecord {
                    changed_at: WallTime(*changed), revoked_at: revoked.map(WallTime), ..secret_key.clone()
                }).collect();
                accounts(&tenants, &keys)
            }).collect();
            let restore = |order: [usize; 3]| {
                let mut store = sides[3].clone();
                for server in order {
                    let changes = lost(&sides[server], &store);
                    store.apply(&changes);
                    prop_assert_eq!(lost(&sides[server], &store), vec![]);
                }
                for side in &sides {
                    prop_assert_eq!(lost(side, &store), vec![], "no ping-pong");
                }
                Ok(store)
            };
            let first = restore([0, 1, 2])?;
            prop_assert_eq!(&restore([2, 1, 0])?, &first);
            prop_assert_eq!(&restore([1, 2, 0])?, &first);
            let is_revoked = sides.iter().any(|side| side.keys.values().any(|key| key.revoked_at.is_some()));
            prop_assert_eq!(first.keys.values().any(|key| key.revoked_at.is_some()), is_revoked);
        }
    }
}
