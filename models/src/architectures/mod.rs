//! Architectures of encoders: each a file that reads a checkpoint's `config.json` into an [`EncoderSpec`] and
//! a [`Layout`], which says what its tensors are called. Nothing else knows an architecture by name.

mod bert;
mod config;

use std::path::Path;

use models_core::ModelError;
use models_core::card::CONFIG_FILE;
use models_core::kinds::Architecture;
use models_core::spec::EncoderSpec;
use models_core::weights::{EncoderWeights, Layout, TensorFile};

use config::Config;

/// Opens an encoder's weights in a folder of a checkpoint's files.
///
/// # Errors
/// When a file cannot be read, is of another architecture, or asks for what nothing here computes.
pub fn open(architecture: Architecture, folder: &Path) -> Result<EncoderWeights, ModelError> {
    let (spec, layout) = read(architecture, &Config::read(&folder.join(CONFIG_FILE))?)?;
    EncoderWeights::new(TensorFile::open_folder(folder)?, spec, layout)
}

/// Joins tensors with the bytes of a `config.json`, as a checkpoint's folder does.
///
/// # Errors
/// As [`open`].
pub fn assemble(
    architecture: Architecture,
    tensors: TensorFile,
    config: &[u8],
) -> Result<EncoderWeights, ModelError> {
    let (spec, layout) = read(architecture, &Config::parse(Path::new(CONFIG_FILE), config)?)?;
    EncoderWeights::new(tensors, spec, layout)
}

fn read(architecture: Architecture, config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    match architecture {
        Architecture::Bert => bert::read(config),
    }
}
