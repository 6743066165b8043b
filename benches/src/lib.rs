//! What the benches share: the real catalog, and texts of a wanted length.

pub mod autoscaling;
pub mod parallel;
pub mod simulation;

use std::path::PathBuf;
use std::sync::Arc;

use models::{Catalog, CatalogConfig, LoadError, NoProgress, TextTokenizer};

/// Sequence lengths measured, in tokens with the special ones.
pub const LENGTHS: [usize; 4] = [16, 64, 128, 256];

/// The five models of this repository, fetched if they are not there.
///
/// # Errors
/// Weights that can neither be found nor fetched.
pub fn catalog() -> Result<Arc<Catalog>, LoadError> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let data_dir = std::env::var_os("ML_INFERENCE_DATA_DIR").map_or_else(|| root.join("data"), PathBuf::from);
    let config = CatalogConfig { cards_dir: root.join("model-cards"), data_dir, ..CatalogConfig::default() };
    Ok(Arc::new(Catalog::load(&config, &NoProgress)?))
}

/// A text of exactly `tokens` tokens, special tokens included.
pub fn text_of(tokenizer: &TextTokenizer, tokens: usize) -> String {
    // One token each in the vocabulary of every English WordPiece model.
    const WORDS: [&str; 8] = ["the", "new", "report", "was", "sent", "to", "our", "office"];
    let count = tokens.saturating_sub(tokenizer.special_tokens_count());
    WORDS.iter().copied().cycle().take(count).collect::<Vec<_>>().join(" ")
}
