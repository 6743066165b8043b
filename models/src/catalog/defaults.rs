//! Which model answers where the caller names none.

use std::collections::BTreeMap;
use std::sync::Arc;

use models_core::card::{Card, Task};

use super::cards::{RejectedCard, names};
use super::error::LoadError;

/// The model that answers for a task where the caller names none. It is never replaced by another.
pub(super) enum TaskDefault {
    /// Its name, whichever of its versions is there.
    Model(String),
    /// Its card could not be read: an index into the rejected.
    Rejected(usize),
}

/// Why a call that names no model has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDefault {
    /// No model is stated to be the task's default.
    #[error("no default model is configured for {task}")]
    Unstated {
        /// The task.
        task: Task,
        /// Models that do it.
        candidates: Vec<String>,
    },
    /// The default's card could not be read.
    #[error("model {name} is not available: {reason}")]
    Rejected {
        /// The model.
        name: String,
        /// What is wrong with its card.
        reason: String,
    },
}

/// Which model answers for which task where the caller names none: as configured, else as the cards say.
pub(super) fn defaults(
    configured: &BTreeMap<Task, String>,
    cards: &[Arc<Card>],
    rejected: &[RejectedCard],
) -> Result<BTreeMap<Task, TaskDefault>, LoadError> {
    let mut defaults = BTreeMap::new();
    for task in Task::ALL {
        if let Some(name) = configured.get(&task) {
            let default = match cards.iter().find(|card| card.name == *name) {
                Some(card) if card.task != task => {
                    let (model, offers) = (name.clone(), card.task);
                    return Err(LoadError::DefaultTask { task, model, offers });
                }
                Some(_) => TaskDefault::Model(name.clone()),
                None => match rejected.iter().position(|card| card.name == *name) {
                    Some(index) => TaskDefault::Rejected(index),
                    None => {
                        let (model, known) = (name.clone(), names(cards));
                        return Err(LoadError::UnknownDefault { task, model, known });
                    }
                },
            };
            defaults.insert(task, default);
            continue;
        }
        let mut stated = cards.iter().filter(|card| card.task == task && card.is_default);
        if let Some(first) = stated.next() {
            if let Some(second) = stated.next() {
                let (first, second) = (first.name.clone(), second.name.clone());
                return Err(LoadError::TwoDefaults { task, first, second });
            }
            defaults.insert(task, TaskDefault::Model(first.name.clone()));
        } else if let Some(index) =
            rejected.iter().position(|card| card.is_default && card.task == Some(task))
        {
            defaults.insert(task, TaskDefault::Rejected(index));
        }
    }
    Ok(defaults)
}
