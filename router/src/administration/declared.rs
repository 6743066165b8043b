//! Tenants and keys that are declared, in a file, rather than made one by one: the accounts are changed to
//! what is declared.

use super::{Administration, Edit, Result, tenant_edit, to_value};
use crate::accounts::{Accounts, Change, KeyRecord, KeyState, TenantName, TenantRecord};
use crate::key::ApiKey;
use crate::plan::Plan;
use crate::principal::Role;
use units::WallTime;

/// What ids of declared keys begin with; keys that were made have a ULID instead.
const ID_PREFIX: &str = "key_declared";

#[derive(Debug, Clone)]
pub struct DeclaredTenant {
    pub name: TenantName,
    /// What it may use.
    pub plan: Plan,
    /// Whether its credentials are refused.
    pub is_suspended: bool,
    /// Its declared keys. It may have others, which are made through the administration.
    pub keys: Vec<DeclaredKey>,
}

#[derive(Debug, Clone)]
pub struct DeclaredKey {
    /// What it is called; unique among the tenant's declared keys.
    pub label: String,
    /// What it may do.
    pub role: Role,
    pub key: ApiKey,
}

impl Administration {
    /// Makes the accounts agree with what is declared: makes and changes tenants and keys, and revokes keys
    /// that were declared once and are no longer. Tenants that are not declared are left alone. Returns how
    /// much was changed; each change is a line in the audit log.
    ///
    /// # Errors
    /// A plan makes no sense, or the store does not answer; what was changed until then stays.
    pub async fn declare(&self, now: WallTime, actor: &str, tenants: &[DeclaredTenant]) -> Result<usize> {
        let mut changes = 0;
        for tenant in tenants {
            tenant.plan.check()?;
            changes +=
                self.declare_each(now, actor, |accounts| declared_tenant(accounts, now, tenant)).await?;
            for key in &tenant.keys {
                let edit = |accounts: &Accounts| self.declared_key(accounts, now, &tenant.name, key);
                changes += self.declare_each(now, actor, edit).await?;
            }
            loop {
                let withdrawn = self
                    .declare_each(now, actor, |accounts| self.withdrawn_key(accounts, now, tenant))
                    .await?;
                changes += withdrawn;
                if withdrawn == 0 {
                    break;
                }
            }
        }
        Ok(changes)
    }

    /// Stores what `edit` finds to be different, if anything. Returns how many records that changed.
    async fn declare_each(
        &self,
        now: WallTime,
        actor: &str,
        edit: impl Fn(&Accounts) -> Option<Edit<()>>,
    ) -> Result<usize> {
        if edit(&*self.current(now).await?).is_none() {
            return Ok(0);
        }
        // Another server may make the same change meanwhile.
        self.edit(now, actor, |accounts| Ok(edit(accounts).unwrap_or_default())).await?;
        Ok(1)
    }

    fn declared_key(
        &self,
        accounts: &Accounts,
        now: WallTime,
        tenant: &TenantName,
        declared: &DeclaredKey,
    ) -> Option<Edit<()>> {
        let id = key_id(tenant, &declared.label);
        let before = accounts.keys.get(&id);
        let hash = declared.key.hash(self.directory.secret());
        let after = KeyRecord {
            id: id.clone(),
            tenant: tenant.clone(),
            label: declared.label.clone(),
            mode: declared.key.mode(),
            role: declared.role,
            hash,
            ending: declared.key.ending(),
            // Another key under the same name is a new key.
            created_at: before.filter(|key| key.hash == hash).map_or(now, |key| key.created_at),
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            changed_at: before.map_or(now, |key| key.changed_at),
        };
        if before == Some(&after) {
            return None;
        }
        let view = before.map(|key| self.view(key, now));
        Some(Edit {
            action: if before.is_none() { "key.create" } else { "key.change" },
            subject: id,
            before: view.as_ref().and_then(to_value),
            after: to_value(&self.view(&after, now)),
            changes: vec![Change::Key(after)],
            result: (),
        })
    }

    /// One of the tenant's keys that is no longer declared, to be revoked.
    fn withdrawn_key(
        &self,
        accounts: &Accounts,
        now: WallTime,
        declared: &DeclaredTenant,
    ) -> Option<Edit<()>> {
        let prefix = key_id(&declared.name, "");
        let is_declared = |key: &KeyRecord| declared.keys.iter().any(|kept| kept.label == key.label);
        let before = accounts.keys.values().find(|key| {
            key.id.starts_with(&prefix) && key.state(now) == KeyState::Active && !is_declared(key)
        })?;
        let after = KeyRecord { revoked_at: Some(now), ..before.clone() };
        Some(Edit {
            action: "key.revoke",
            subject: before.id.clone(),
            before: to_value(&self.view(before, now)),
            after: to_value(&self.view(&after, now)),
            changes: vec![Change::Key(after)],
            result: (),
        })
    }
}

fn declared_tenant(accounts: &Accounts, now: WallTime, declared: &DeclaredTenant) -> Option<Edit<()>> {
    let before = accounts.tenants.get(&declared.name);
    let after = TenantRecord {
        name: declared.name.clone(),
        plan: declared.plan,
        is_suspended: declared.is_suspended,
        created_at: before.map_or(now, |tenant| tenant.created_at),
        plan_set_at: before.map_or(now, |tenant| tenant.plan_set_at),
        suspension_set_at: before.map_or(now, |tenant| tenant.suspension_set_at),
    };
    if before == Some(&after) {
        return None;
    }
    let action = if before.is_none() { "tenant.create" } else { "tenant.change" };
    let Edit { changes, action, subject, before, after, .. } = tenant_edit(action, before, after);
    Some(Edit { changes, action, subject, before, after, result: () })
}

/// Whether a key of this id is declared.
pub(super) fn is_declared(id: &str) -> bool {
    id.starts_with(ID_PREFIX)
}

/// Id of a declared key: the same on every server.
fn key_id(tenant: &TenantName, label: &str) -> String {
    format!("{ID_PREFIX}_{tenant}_{label}")
}
