//! Architectures of encoders: each a file that reads a checkpoint's `config.json` into an [`EncoderSpec`] and
//! a [`Layout`], which says what its tensors are called. Nothing else knows an architecture by name.

mod albert;
mod bert;
mod config;
mod deberta_v2;
mod distilbert;
mod electra;
mod gte;
mod jina_bert;
mod modernbert;
mod modules;
mod mpnet;
mod nomic_bert;
mod qwen;
mod roberta;
mod rope;

use std::path::Path;

use models_core::card::CONFIG_FILE;
use models_core::kinds::Architecture;
use models_core::spec::EncoderSpec;
use models_core::weights::{EncoderWeights, Layout, TensorFile};
use models_core::{ModelError, Unsupported};

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

/// The architecture of a checkpoint, from the bytes of its `config.json`.
///
/// # Errors
/// When it is none of those that are known, or the bytes are no configuration.
pub fn detect(config: &[u8]) -> Result<Architecture, ModelError> {
    let config = Config::parse(Path::new(CONFIG_FILE), config)?;
    let name: String = config.need("model_type")?;
    let is_alibi = config.get::<String>("position_embedding_type")?.as_deref() == Some("alibi");
    match name.as_str() {
        "bert" if is_alibi => Ok(Architecture::JinaBert),
        "gte" => Ok(Architecture::Gte),
        name if roberta::MODEL_TYPES.contains(&name) => Ok(Architecture::Roberta),
        name => name.parse().map_err(|_| {
            let names = roberta::MODEL_TYPES.iter().copied().skip(1).chain(["gte"]);
            let names = Architecture::ALL.iter().map(|known| known.as_str()).chain(names);
            Unsupported::new("model_type", name, &names.collect::<Vec<_>>()).into()
        }),
    }
}

/// What a `config.json` of an architecture, given by its bytes, says of an encoder.
///
/// # Errors
/// As [`open`], but for the tensors.
pub fn spec(architecture: Architecture, config: &[u8]) -> Result<EncoderSpec, ModelError> {
    Ok(read(architecture, &Config::parse(Path::new(CONFIG_FILE), config)?)?.0)
}

fn read(architecture: Architecture, config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    match architecture {
        Architecture::Bert => bert::read(config),
        Architecture::Roberta => roberta::read(config),
        Architecture::DistilBert => distilbert::read(config),
        Architecture::MpNet => mpnet::read(config),
        Architecture::Electra => electra::read(config),
        Architecture::Albert => albert::read(config),
        Architecture::DebertaV2 => deberta_v2::read(config),
        Architecture::ModernBert => modernbert::read(config),
        Architecture::NomicBert => nomic_bert::read(config),
        Architecture::Gte => gte::read(config),
        Architecture::JinaBert => jina_bert::read(config),
        Architecture::Qwen2 | Architecture::Qwen3 => qwen::read(config, architecture),
    }
}
