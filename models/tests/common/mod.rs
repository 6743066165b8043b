//! What the tests that need real weights share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::path::PathBuf;

use models::card::Card;
use models::source::{self, Store};
use models::{CardOverride, CatalogConfig, Device, DeviceConfig, Progress, open_device};

/// Shows what is being fetched in the test's output.
pub struct Shown;

impl Progress for Shown {
    fn message(&self, text: &str) {
        eprintln!("{text}");
    }

    fn bytes(&self, _file: &str, _completed: u64, _total: u64) {}
}

/// The folder of the workspace, found from the crate's: as cargo says while it runs the test, so that a test
/// can run elsewhere than it was built.
pub fn root() -> PathBuf {
    let of_crate = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    of_crate.ancestors().find(|folder| folder.join("model-cards").is_dir()).unwrap().to_path_buf()
}

/// The data folder: `ML_INFERENCE_DATA_DIR`, else `data` in the workspace.
pub fn data_dir() -> PathBuf {
    let default = || root().join("data");
    std::env::var_os("ML_INFERENCE_DATA_DIR").map_or_else(default, PathBuf::from)
}

pub fn cards_dir() -> PathBuf {
    root().join("model-cards")
}

pub fn config() -> CatalogConfig {
    CatalogConfig { cards_dir: cards_dir(), data_dir: data_dir(), ..CatalogConfig::default() }
}

/// Runtimes that must give the same answers, all in float32.
pub const RUNTIMES: [&str; 3] = ["candle", "fused", "onnx"];

const MODELS: [&str; 5] = ["embeddings-v2", "ner-v2", "sentiment-v3", "summarizer-v1", "text-classifier-v2"];

/// All models on one runtime, in one number format.
pub fn config_with(runtime: &str, dtype: &str) -> CatalogConfig {
    let change = CardOverride {
        runtime: Some(runtime.parse().unwrap()),
        dtype: Some(dtype.parse().unwrap()),
        ..CardOverride::default()
    };
    let overrides = MODELS.map(|model| (model.to_owned(), change.clone())).into();
    CatalogConfig { overrides, ..config() }
}

pub fn device() -> Device {
    open_device(DeviceConfig::default()).unwrap()
}

pub fn card(name: &str) -> Card {
    Card::from_file(&cards_dir().join(name).join("README.md")).unwrap()
}

/// The folder of a card's source, fetched if it is not there.
pub fn source_folder(card: &Card) -> PathBuf {
    let store = Store { data_dir: data_dir(), offline: false };
    source::ensure(&card.source, &card.folder, &store, &Shown).unwrap()
}
