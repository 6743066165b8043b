//! Architectures of encoders: each a file that reads a checkpoint's `config.json` into an [`EncoderSpec`] and
//! knows what its tensors are called. Nothing else knows an architecture by name.

mod bert;

use std::path::Path;

use models_core::ModelError;
use models_core::kinds::Architecture;
use models_core::spec::EncoderSpec;
use models_core::weights::{EncoderWeights, TensorFile};

/// Opens an encoder's weights in a folder of a checkpoint's files.
///
/// # Errors
/// When a file cannot be read, is of another architecture, or asks for what nothing here computes.
pub fn open(architecture: Architecture, folder: &Path) -> Result<EncoderWeights, ModelError> {
    match architecture {
        Architecture::Bert => bert::open(folder),
    }
}

/// Joins tensors and sizes as a checkpoint of an architecture does, with `segments` rows in its table of
/// segments.
///
/// # Errors
/// When the sizes make no sense.
pub fn assemble(
    architecture: Architecture,
    tensors: TensorFile,
    spec: EncoderSpec,
    segments: usize,
) -> Result<EncoderWeights, ModelError> {
    match architecture {
        Architecture::Bert => bert::assemble(tensors, spec, segments),
    }
}
