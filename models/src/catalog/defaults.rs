//! Which model answers where the caller names none.

use std::collections::BTreeMap;
use std::sync::Arc;

use models_core::card::{Card, Task};
use units::ModelId;

use super::cards::{RejectedCard, names};
use super::error::LoadError;

/// The model that answers for a task where the caller names none. It is never replaced by another.
pub(super) enum TaskDefault {
    Model(ModelId),
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
            let default = match cards.iter().position(|card| card.name == *name) {
                Some(index) if cards[index].task != task => {
                    let (model, offers) = (name.clone(), cards[index].task);
                    return Err(LoadError::DefaultTask { task, model, offers });
                }
                Some(index) => TaskDefault::Model(ModelId(index as u16)),
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
        let mut stated = cards.iter().enumerate().filter(|(_, card)| card.task == task && card.is_default);
        if let Some((index, first)) = stated.next() {
            if let Some((_, second)) = stated.next() {
                let (first, second) = (first.name.clone(), second.name.clone());
                return Err(LoadError::TwoDefaults { task, first, second });
            }
            defaults.insert(task, TaskDefault::Model(ModelId(index as u16)));
        }
    }
    Ok(defaults)
}
