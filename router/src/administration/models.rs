//! How models are to be, on all servers that share a store: which are loaded, and from where. What a server
//! makes of it is the business of whoever loads models.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;
use units::WallTime;

use super::{Administration, Edit, Result};
use crate::accounts::{Accounts, Change, ModelRecord};

/// Models that are to be otherwise than their cards say, by name.
pub type Models = Arc<BTreeMap<String, ModelRecord>>;

/// A change of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelChange {
    /// Such as `model.load`.
    pub action: &'static str,
    pub name: String,
    /// Whether it is to be loaded.
    pub is_wanted: bool,
    /// As [`ModelRecord::checkpoint`]; none leaves it as it is.
    pub checkpoint: Option<String>,
    /// The model before and after, as the audit log tells it.
    pub before: Value,
    pub after: Value,
}

impl Administration {
    /// Says how a model is to be, on all servers.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn change_model(
        &self,
        now: WallTime,
        actor: &str,
        change: &ModelChange,
    ) -> Result<ModelRecord> {
        let ModelChange { action, name, is_wanted, checkpoint, before, after } = change;
        self.edit(now, actor, |accounts| {
            let known = accounts.models.get(name);
            let record = ModelRecord {
                name: name.clone(),
                is_wanted: *is_wanted,
                loads: known.map_or(0, |known| known.loads) + u64::from(*is_wanted),
                checkpoint: checkpoint.clone().or_else(|| known?.checkpoint.clone()),
                changed_at: now,
            };
            Ok(Edit {
                changes: vec![Change::Model(record.clone())],
                action,
                subject: name.clone(),
                before: Some(before.clone()),
                after: Some(after.clone()),
                result: record,
            })
        })
        .await
    }

    /// How models are to be: as the store has it, and from then on as it changes.
    pub fn models(&self) -> watch::Receiver<Models> {
        self.models.subscribe()
    }

    pub(super) fn tell_models(&self, accounts: &Accounts) {
        self.models.send_if_modified(|models| {
            let is_new = **models != accounts.models;
            if is_new {
                *models = Arc::new(accounts.models.clone());
            }
            is_new
        });
    }
}
