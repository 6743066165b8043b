//! `config.json` of a checkpoint, read field by field, so that whatever is wrong is named by its field.

use std::path::{Path, PathBuf};

use models_core::spec::{EncoderSizes, HiddenActivation};
use models_core::{ModelError, files};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Largest whole number of a field: products of three of them and of heads are numbers yet.
const NUMBER_MAX: u64 = 1 << 24;
/// Largest sizes of an encoder, some way above those there are.
const WIDTH_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 1 << 10;
const HEADS_MAX: usize = 1 << 12;
pub(super) const HEAD_MAX: usize = 1 << 12;
const POSITIONS_MAX: usize = 1 << 20;

/// The fields of a `config.json`.
pub(super) struct Config {
    path: PathBuf,
    fields: Map<String, Value>,
}

/// What an architecture calls the sizes that all have.
pub(super) struct SizeNames {
    pub(super) hidden: &'static str,
    pub(super) layers: &'static str,
    pub(super) heads: &'static str,
    pub(super) intermediate: &'static str,
    pub(super) activation: &'static str,
}

/// As most call them.
pub(super) const SIZES: SizeNames = SizeNames {
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    intermediate: "intermediate_size",
    activation: "hidden_act",
};

impl Config {
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        Self::parse(path, &files::read(path)?)
    }

    /// Takes the bytes of a file; `path` is what errors call it.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let fields = serde_json::from_slice(bytes);
        let fields = fields.map_err(|error| ModelError::File {
            file: path.display().to_string(),
            message: error.to_string(),
        })?;
        Ok(Self { path: path.to_path_buf(), fields })
    }

    pub(super) fn fault(&self, message: String) -> ModelError {
        ModelError::File { file: self.path.display().to_string(), message }
    }

    /// A field, if it is there and not null.
    pub(super) fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ModelError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                // Bases of rotations are large, and no sizes.
                let is_size = !name.contains("theta");
                if let Some(number) = value.as_u64().filter(|number| is_size && *number > NUMBER_MAX) {
                    return Err(self.fault(format!("{name} {number} is above {NUMBER_MAX}")));
                }
                let read = serde_json::from_value(value.clone());
                read.map(Some).map_err(|error| self.fault(format!("{name}: {error}")))
            }
        }
    }

    /// A field that must be there.
    pub(super) fn need<T: DeserializeOwned>(&self, name: &str) -> Result<T, ModelError> {
        self.get(name)?.ok_or_else(|| self.fault(format!("{name} is missing")))
    }

    /// A field, or what transformers takes where it is not there.
    pub(super) fn or<T: DeserializeOwned>(&self, name: &str, default: T) -> Result<T, ModelError> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// Refuses a field that is there with another value than these.
    pub(super) fn only(&self, name: &str, computed: &[Value]) -> Result<(), ModelError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if computed.contains(value) => Ok(()),
            Some(value) => {
                let computed: Vec<String> = computed.iter().map(Value::to_string).collect();
                Err(self
                    .fault(format!("{name} {value} is not supported; supported: {}", computed.join(", "))))
            }
        }
    }

    /// Refuses fields that are true.
    pub(super) fn not(&self, names: &[&str]) -> Result<(), ModelError> {
        names.iter().try_for_each(|name| self.only(name, &[Value::Bool(false)]))
    }

    /// Refuses a checkpoint of another architecture.
    pub(super) fn is_of(&self, expected: &[&str]) -> Result<(), ModelError> {
        let expected_names =
            || expected.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        match self.get::<String>("model_type")? {
            None => Err(self.fault(format!("model_type is missing, the card says {}", expected_names()))),
            Some(name) if !expected.contains(&name.as_str()) => {
                Err(self.fault(format!("model_type is {name:?}, the card says {}", expected_names())))
            }
            Some(_) => Ok(()),
        }
    }

    /// Refuses a size that is larger than this.
    pub(super) fn at_most(&self, name: &str, size: usize, largest: usize) -> Result<usize, ModelError> {
        let message = || format!("{name} {size} is above {largest}");
        if size > largest { Err(self.fault(message())) } else { Ok(size) }
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// Tokens of the longest sequence: the rows of the table of positions, real or not, less those before the
    /// first token's.
    pub(super) fn positions(&self, offset: usize, default: usize) -> Result<usize, ModelError> {
        let rows = self.or("max_position_embeddings", default)?;
        self.at_most("max_position_embeddings", rows, POSITIONS_MAX)?;
        let message =
            || format!("max_position_embeddings {rows} leaves no position behind the first {offset}");
        rows.checked_sub(offset).filter(|rows| *rows > 0).ok_or_else(|| self.fault(message()))
    }

    /// As [`Self::free_sizes`], where the heads share the hidden size.
    pub(super) fn sizes(
        &self,
        names: &SizeNames,
        max_position_embeddings: usize,
        layer_norm_eps: f64,
    ) -> Result<EncoderSizes, ModelError> {
        let sizes = self.free_sizes(names, max_position_embeddings, layer_norm_eps)?;
        let (hidden, heads) = (sizes.hidden_size, sizes.num_attention_heads);
        if heads == 0 || !hidden.is_multiple_of(heads) {
            let message = format!("{} {hidden} is not a multiple of {} {heads}", names.hidden, names.heads);
            return Err(self.fault(message));
        }
        Ok(sizes)
    }

    /// The sizes that all have; the longest sequence and what is added to variances are the caller's.
    pub(super) fn free_sizes(
        &self,
        names: &SizeNames,
        max_position_embeddings: usize,
        layer_norm_eps: f64,
    ) -> Result<EncoderSizes, ModelError> {
        if !(layer_norm_eps.is_finite() && layer_norm_eps > 0.0) {
            return Err(self.fault("what is added to variances must be finite and above 0".to_owned()));
        }
        let need = |name, largest| self.need(name).and_then(|size| self.at_most(name, size, largest));
        Ok(EncoderSizes {
            vocab_size: self.need("vocab_size")?,
            hidden_size: need(names.hidden, WIDTH_MAX)?,
            num_hidden_layers: need(names.layers, LAYERS_MAX)?,
            num_attention_heads: need(names.heads, HEADS_MAX)?,
            intermediate_size: need(names.intermediate, WIDTH_MAX)?,
            hidden_act: self.or(names.activation, HiddenActivation::Gelu)?,
            max_position_embeddings,
            layer_norm_eps,
        })
    }
}
