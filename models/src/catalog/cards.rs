//! The folder of cards: reading it, and changing cards as the configuration says.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path};
use std::sync::Arc;

use models_core::card::{Card, CardError, ZeroShot};
use models_core::{Dtype, RuntimeKind};

use super::candidacy::Candidacy;
use super::config::{CardOverride, CatalogConfig};
use super::error::LoadError;
use super::infer::InferError;
use super::wanted::Wanted;

/// Name of a card's file in its folder.
const CARD_FILE: &str = "README.md";

/// A folder whose card could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCard {
    /// Name of the card's folder.
    pub name: String,
    /// What is wrong with the card, naming the file and the field.
    pub reason: String,
    /// Whether the server is not ready without it, as far as the configuration says: what the card says is
    /// not known.
    pub is_required: bool,
    /// What it says of being a default.
    pub(super) candidacy: Candidacy,
}

/// The cards of a catalog, written and inferred, as [`read`] gives them. A checkpoint of which no card can be
/// made is listed with the reason, as one whose card cannot be read.
pub(super) fn of(
    config: &CatalogConfig,
    mut infer: impl FnMut(&Wanted) -> Result<Card, InferError>,
) -> Result<(Vec<Arc<Card>>, Vec<RejectedCard>), LoadError> {
    let (mut cards, mut rejected) = match config.skips_cards {
        true => (Vec::new(), Vec::new()),
        false => read(&config.cards_dir)?,
    };
    for wanted in &config.wanted {
        let is_taken = cards.iter().any(|card| card.name == wanted.name());
        let inferred = match is_taken {
            true => Err("there is a card of this name: add name=… to the model".to_owned()),
            false => catch_unwind(AssertUnwindSafe(|| infer(wanted)))
                .map_err(|_| "reading its files panicked".to_owned())
                .and_then(|card| card.map_err(|error| error.to_string())),
        };
        match inferred {
            Ok(card) => cards.push(Arc::new(card)),
            Err(reason) => rejected.push(RejectedCard::wanted(wanted, reason)),
        }
    }
    cards.sort_by(|left, right| left.name.cmp(&right.name));
    rejected.sort_by(|left, right| left.name.cmp(&right.name));
    Ok((cards, rejected))
}

/// Leaves the model of a name, where there is one, and what it needs of others.
pub(super) fn keep(
    only: Option<&str>,
    cards: &mut Vec<Arc<Card>>,
    rejected: &mut Vec<RejectedCard>,
) -> Result<(), LoadError> {
    let Some(only) = only else { return Ok(()) };
    let needed = cards.iter().find(|card| card.name == only).map(|card| {
        let scorer = card.zero_shot.as_ref().and_then(ZeroShot::model);
        [Some(only), scorer].map(|name| name.map(str::to_owned))
    });
    rejected.retain(|card| card.name == only);
    if needed.is_none() && rejected.is_empty() {
        return Err(LoadError::UnknownModel { model: only.to_owned(), known: names(cards) });
    }
    let needed = needed.unwrap_or_default();
    cards.retain(|card| needed.iter().flatten().any(|name| *name == card.name));
    Ok(())
}

/// Cards in the order of their names, and folders whose card cannot be read. A folder without a card is no
/// model.
pub(super) fn read(folder: &Path) -> Result<(Vec<Arc<Card>>, Vec<RejectedCard>), LoadError> {
    let name = || folder.display().to_string();
    let failed = |source| LoadError::Cards { folder: name(), source };
    let mut cards = Vec::new();
    let mut rejected = Vec::new();
    let mut has_card = false;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !is_of_model(&path) {
            continue;
        }
        if holds_something_else(&path) {
            tracing::warn!(folder = %path.display(), "this folder among the cards has no README.md, and is no model");
            continue;
        }
        let file = path.join(CARD_FILE);
        has_card |= file.symlink_metadata().is_ok();
        match Card::from_file(&file) {
            Ok(card) => cards.push(Arc::new(card)),
            // Also where there is none: a link to what is not mounted is a model that is missing.
            Err(error) => rejected.push(RejectedCard::new(&path, &error)),
        }
    }
    if !has_card {
        return Err(LoadError::NoCards { folder: name() });
    }
    let limit = usize::from(u16::MAX);
    if cards.len() > limit {
        return Err(LoadError::TooManyModels { models: cards.len(), limit });
    }
    cards.sort_by(|left, right| left.name.cmp(&right.name));
    rejected.sort_by(|left, right| left.name.cmp(&right.name));
    Ok((cards, rejected))
}

/// Whether an entry of the folder of cards stands for a model: a folder, or a link whose target is gone; not
/// what orchestrators (`..data` of a mounted ConfigMap) and file systems keep there.
fn is_of_model(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let is_kept_by_others = name.starts_with('.') || name == "lost+found";
    !is_kept_by_others && (path.is_dir() || !path.exists())
}

/// Whether a folder without a card is something else, rather than a model that is missing: it is not empty,
/// as one is where nothing was mounted, or no model can have its name.
fn holds_something_else(path: &Path) -> bool {
    let has_card = path.join(CARD_FILE).symlink_metadata().is_ok();
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let is_model_name = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_empty = || std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
    !has_card && (!is_model_name || !is_empty())
}

/// Changes cards as the overrides say: first what is for all, then what is for one.
pub(super) fn apply(
    all: &CardOverride,
    overrides: &BTreeMap<String, CardOverride>,
    cards: &mut [Arc<Card>],
    rejected: &mut [RejectedCard],
) -> Result<(), LoadError> {
    let is_known = |name: &String| {
        cards.iter().any(|card| card.name == *name) || rejected.iter().any(|card| card.name == *name)
    };
    if let Some(model) = overrides.keys().find(|name| !is_known(name)) {
        return Err(LoadError::UnknownModel { model: model.clone(), known: names(cards) });
    }
    for card in rejected {
        let stated = overrides.get(&card.name).and_then(|card| card.is_required).or(all.is_required);
        card.is_required = stated.unwrap_or(true);
    }
    for card in cards {
        let of_card = overrides.get(&card.name);
        apply_to(Arc::make_mut(card), all, of_card);
    }
    Ok(())
}

/// A card's bfloat16 is for speed. On a CPU without products of it float32 takes two fifths of the time, and
/// is nearer to what the authors compute; who wants the memory says so in the configuration.
fn fastest(of_card: Dtype, is_fast: bool) -> Dtype {
    match of_card {
        Dtype::Bfloat16 if !is_fast => Dtype::Float32,
        other => other,
    }
}

/// Changes one card: first as is said for all, then as is said for it.
pub(super) fn apply_to(card: &mut Card, all: &CardOverride, of_card: Option<&CardOverride>) {
    for CardOverride { runtime, dtype, p99_target_is_deadline, is_required } in
        [Some(all), of_card].into_iter().flatten()
    {
        if let Some(runtime) = *runtime {
            (card.runtime, card.dtype) = (runtime, runtime.default_dtype());
        }
        card.dtype = dtype.unwrap_or(card.dtype);
        card.p99_target_is_deadline = p99_target_is_deadline.unwrap_or(card.p99_target_is_deadline);
        card.is_required = is_required.unwrap_or(card.is_required);
    }
    let is_stated = of_card.and_then(|of_card| of_card.dtype).or(all.dtype).is_some();
    if !is_stated && card.runtime == RuntimeKind::Fused {
        card.dtype = fastest(card.dtype, runtime_fused::is_fast_in(card.dtype));
    }
}

/// The card of a model, from the folder of cards. None where there is none of that name.
///
/// # Errors
/// It cannot be read.
pub(super) fn named(folder: &Path, name: &str) -> Option<Result<Card, CardError>> {
    // Names come from callers: one that is no folder's leads nowhere.
    let is_name = Path::new(name).components().eq([Component::Normal(name.as_ref())]);
    let path = folder.join(name);
    let is_there = is_name && is_of_model(&path) && !holds_something_else(&path);
    (is_there && path.symlink_metadata().is_ok()).then(|| Card::from_file(&path.join(CARD_FILE)))
}

pub(super) fn names(cards: &[Arc<Card>]) -> String {
    cards.iter().map(|card| card.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl RejectedCard {
    /// A checkpoint that is asked for. It is no default where others are.
    fn wanted(wanted: &Wanted, reason: String) -> Self {
        let candidacy = Candidacy::none(wanted.task);
        Self { name: wanted.name(), reason, is_required: true, candidacy }
    }

    fn new(folder: &Path, error: &CardError) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read(folder.join(CARD_FILE)).unwrap_or_default();
        let candidacy = Candidacy::of(&String::from_utf8_lossy(&text));
        Self { name, reason: error.to_string(), is_required: true, candidacy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_for_cpus_that_multiply_it() {
        for is_fast in [true, false] {
            for dtype in [Dtype::Float32, Dtype::Float16] {
                assert_eq!(fastest(dtype, is_fast), dtype);
            }
        }
        assert_eq!(
            [true, false].map(|is_fast| fastest(Dtype::Bfloat16, is_fast)),
            [Dtype::Bfloat16, Dtype::Float32]
        );
    }
}
