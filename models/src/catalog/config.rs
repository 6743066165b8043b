//! What a catalog is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use models_core::GpuRuntime;
use models_core::card::Task;
use models_core::kinds::{Dtype, RuntimeKind};
use runtime_onnx::OnnxConfig;

use super::wanted::Wanted;

/// Where a catalog comes from.
#[derive(Debug, Clone, Default)]
pub struct CatalogConfig {
    /// Holds one folder per model, with a card in it.
    pub cards_dir: PathBuf,
    /// Whether these cards are left alone.
    pub skips_cards: bool,
    /// Models that are served without a card.
    pub wanted: Vec<Wanted>,
    /// The name of the one model that matters, with those that it needs. None: all do.
    pub only: Option<String>,
    /// Where fetched files are kept.
    pub data_dir: PathBuf,
    /// Fetch nothing: use only what the data folder holds.
    pub offline: bool,
    /// How ONNX Runtime is found and used, by models that name it.
    pub onnx: OnnxConfig,
    /// What computes on GPUs, where the build has it.
    pub gpu_runtime: Option<&'static dyn GpuRuntime>,
    /// What differs from every card, unless the next says otherwise.
    pub all: CardOverride,
    /// What differs from the cards, by model.
    pub overrides: BTreeMap<String, CardOverride>,
    /// Which model answers where the caller names none, by task, whatever the cards say.
    pub defaults: BTreeMap<Task, String>,
    /// Models that are not to be loaded.
    pub unloaded: BTreeSet<String>,
}

/// What differs from a model's card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CardOverride {
    pub runtime: Option<RuntimeKind>,
    /// The number format. With a runtime and without this it is [the runtime's](RuntimeKind::default_dtype).
    pub dtype: Option<Dtype>,
    /// Whether the p99 target is a deadline.
    pub p99_target_is_deadline: Option<bool>,
    /// Whether the server is not ready without it.
    pub is_required: Option<bool>,
}
