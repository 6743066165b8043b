//! Which model answers where the caller names none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use models_core::card::{Card, Task};

use super::candidacy::StatedDefault;
use super::cards::{RejectedCard, names};
use super::error::LoadError;
use super::wanted::Wanted;

/// The model that answers for a task where the caller names none. It is never replaced by another.
#[derive(Clone)]
pub(super) enum TaskDefault {
    /// Its name, whichever of its versions is there.
    Model(String),
    /// It is, or may be, one whose card could not be read: an index into the rejected.
    Rejected(usize),
}

/// Why a call that names no model has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDefault {
    /// No model is stated to be the task's default.
    #[error("no default model is configured for {task}")]
    Unstated {
        task: Task,
        /// Models that do it.
        candidates: Vec<String>,
    },
    /// The card of the default, or of what may be it, could not be read.
    #[error("model {name} is not available: {reason}")]
    Rejected {
        name: String,
        /// What is wrong with its card.
        reason: String,
    },
}

/// Which model answers for which task where the caller names none: as configured, else as the cards say.
///
/// A card that cannot be read claims what it says, as if it could be. Where it does not say which task it is
/// the default of, none that it may be meant for is another's; where it does not say whether it is one, those
/// are not that nobody else claims.
pub(super) fn defaults(
    configured: &BTreeMap<Task, String>,
    cards: &[Arc<Card>],
    rejected: &[RejectedCard],
) -> Result<BTreeMap<Task, TaskDefault>, LoadError> {
    let mut defaults = BTreeMap::new();
    for task in Task::ALL {
        let default = match configured.get(&task) {
            Some(name) => Some(named(task, name, cards, rejected)?),
            None => stated(task, cards, rejected)?,
        };
        defaults.extend(default.map(|default| (task, default)));
    }
    let claimed: BTreeSet<Task> = defaults.keys().copied().collect();
    for (index, RejectedCard { candidacy, .. }) in rejected.iter().enumerate() {
        let is_free = |task: &&Task| !claimed.contains(task);
        let mut doubtful: Vec<Task> = candidacy.tasks.iter().filter(is_free).copied().collect();
        match candidacy.stated {
            StatedDefault::No => continue,
            StatedDefault::Yes if candidacy.is_exact => continue,
            // It claims what another claims too, unless that is configured.
            StatedDefault::Yes if doubtful.is_empty() => {
                let is_moot = candidacy.tasks.iter().any(|task| configured.contains_key(task));
                doubtful.extend(candidacy.tasks.iter().filter(|_| !is_moot));
            }
            StatedDefault::Yes | StatedDefault::Unknown => {}
        }
        for task in doubtful {
            match defaults.get(&task) {
                Some(TaskDefault::Rejected(_)) => {}
                _ => _ = defaults.insert(task, TaskDefault::Rejected(index)),
            }
        }
    }
    Ok(defaults)
}

/// Makes a model that is served without a card its task's default, where nothing else is and no other does
/// the task.
pub(super) fn complete(
    defaults: &mut BTreeMap<Task, TaskDefault>,
    wanted: &[Wanted],
    cards: &[Arc<Card>],
    rejected: &[RejectedCard],
) {
    for name in wanted.iter().map(Wanted::name) {
        let Some(card) = cards.iter().find(|card| card.name == name) else { continue };
        // Whoever answers must not depend on whether another can be read.
        let is_alone = cards.iter().filter(|other| other.task == card.task).count() == 1
            && !rejected.iter().any(|other| other.candidacy.tasks.contains(&card.task));
        if is_alone {
            defaults.entry(card.task).or_insert(TaskDefault::Model(name));
        }
    }
}

/// The default that the configuration names.
fn named(
    task: Task,
    name: &str,
    cards: &[Arc<Card>],
    rejected: &[RejectedCard],
) -> Result<TaskDefault, LoadError> {
    let other = |offers| LoadError::DefaultTask { task, model: name.to_owned(), offers };
    if let Some(card) = cards.iter().find(|card| card.name == name) {
        let is_its = card.task == task;
        return is_its.then(|| TaskDefault::Model(name.to_owned())).ok_or_else(|| other(card.task));
    }
    let index = rejected.iter().position(|card| card.name == name).ok_or_else(|| {
        let known = names(cards);
        LoadError::UnknownDefault { task, model: name.to_owned(), known }
    })?;
    match *rejected[index].candidacy.tasks {
        [offers] if rejected[index].candidacy.is_exact && offers != task => Err(other(offers)),
        _ => Ok(TaskDefault::Rejected(index)),
    }
}

/// The default that a card says to be.
fn stated(
    task: Task,
    cards: &[Arc<Card>],
    rejected: &[RejectedCard],
) -> Result<Option<TaskDefault>, LoadError> {
    let readable = cards.iter().filter(|card| card.task == task && card.is_default);
    let readable = readable.map(|card| (card.name.as_str(), TaskDefault::Model(card.name.clone())));
    let unreadable = rejected.iter().enumerate().filter(|(_, RejectedCard { candidacy, .. })| {
        candidacy.is_exact && candidacy.tasks == [task] && candidacy.stated == StatedDefault::Yes
    });
    let unreadable = unreadable.map(|(index, card)| (card.name.as_str(), TaskDefault::Rejected(index)));
    let mut candidates: Vec<_> = readable.chain(unreadable).collect();
    candidates.sort_unstable_by_key(|(name, _)| *name);
    if let [(first, _), (second, _), ..] = candidates[..] {
        let (first, second) = (first.to_owned(), second.to_owned());
        return Err(LoadError::TwoDefaults { task, first, second });
    }
    Ok(candidates.pop().map(|(_, default)| default))
}
