//! BERT (<https://arxiv.org/abs/1810.04805>), in the names and layout of the model hub.

use std::path::Path;

use models_core::card::{CONFIG_FILE, WEIGHTS_FILE};
use models_core::kinds::Architecture;
use models_core::spec::{EncoderSpec, HiddenActivation};
use models_core::weights::lora::Target;
use models_core::weights::{
    EmbeddingWeights, EncoderWeights, LayerWeights, Layout, LoraAdapter, TensorFile, Tensors,
};
use models_core::{ModelError, files};
use serde::Deserialize;

const LANDMARK: &str = "embeddings.word_embeddings.weight";
/// Tensors around the layers, with tables of numbers that old versions of transformers kept.
const EMBEDDINGS: [&str; 7] = [
    LANDMARK,
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
    "embeddings.LayerNorm.weight",
    "embeddings.LayerNorm.bias",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
];
const ATTENTION_NORM: &str = "attention.output.LayerNorm";
const OUTPUT_NORM: &str = "output.LayerNorm";

/// `config.json`: the sizes of an encoder. Other keys are left alone here.
#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: HiddenActivation,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

/// Rows of the table of segments, of which the first is used.
struct Bert {
    segments: usize,
}

pub(super) fn open(folder: &Path) -> Result<EncoderWeights, ModelError> {
    let config = Config::read(&folder.join(CONFIG_FILE))?;
    let segments = config.type_vocab_size;
    assemble(TensorFile::open(&folder.join(WEIGHTS_FILE))?, config.spec(), segments)
}

pub(super) fn assemble(
    tensors: TensorFile,
    spec: EncoderSpec,
    segments: usize,
) -> Result<EncoderWeights, ModelError> {
    if segments == 0 {
        let message = "type_vocab_size must be at least 1".to_owned();
        return Err(ModelError::Backend { message });
    }
    EncoderWeights::new(tensors, spec, Bert { segments })
}

impl Config {
    fn read(path: &Path) -> Result<Self, ModelError> {
        let fault = |message: String| ModelError::File { file: path.display().to_string(), message };
        let config: Self =
            serde_json::from_slice(&files::read(path)?).map_err(|error| fault(error.to_string()))?;
        let expected = Architecture::Bert.as_str();
        match (config.model_type.as_deref(), config.position_embedding_type.as_deref()) {
            (None, _) => Err(fault(format!("model_type is missing, the card says {expected:?}"))),
            (Some(model_type), _) if model_type != expected => {
                Err(fault(format!("model_type is {model_type:?}, the card says {expected:?}")))
            }
            (_, Some(positions)) if positions != "absolute" => {
                Err(fault(format!("position_embedding_type {positions:?} is not supported")))
            }
            _ => Ok(config),
        }
    }

    fn spec(self) -> EncoderSpec {
        let Self {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act,
            max_position_embeddings,
            layer_norm_eps,
            ..
        } = self;
        EncoderSpec {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act,
            max_position_embeddings,
            layer_norm_eps,
        }
    }
}

impl Layout for Bert {
    fn encoder_classes(&self) -> &'static [&'static str] {
        &["BertModel", "BertForMaskedLM", "BertForPreTraining"]
    }

    fn head_classes(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("BertForSequenceClassification", "classifier."),
            ("BertForTokenClassification", "classifier."),
            ("BertForMultipleChoice", "classifier."),
            ("BertForQuestionAnswering", "qa_outputs."),
            ("BertForNextSentencePrediction", "cls."),
            ("BertLMHeadModel", "cls."),
        ]
    }

    fn prefix(&self) -> &'static str {
        "bert."
    }

    fn landmark(&self) -> &'static str {
        LANDMARK
    }

    fn embeddings(&self, spec: &EncoderSpec, tensors: &Tensors<'_>) -> Result<EmbeddingWeights, ModelError> {
        let table =
            |table: &str, rows| tensors.get(&format!("embeddings.{table}.weight"), &[rows, spec.hidden_size]);
        let segments = table("token_type_embeddings", self.segments)?;
        let mut positions = table("position_embeddings", spec.max_position_embeddings)?;
        for row in positions.chunks_exact_mut(spec.hidden_size) {
            row.iter_mut().zip(&segments).for_each(|(value, segment)| *value += segment);
        }
        let norm = tensors.norm("embeddings.LayerNorm", spec)?;
        Ok(EmbeddingWeights { words: table("word_embeddings", spec.vocab_size)?, positions, norm })
    }

    fn layer(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
        index: usize,
        adapter: Option<&LoraAdapter>,
    ) -> Result<LayerWeights, ModelError> {
        let (hidden, intermediate) = (spec.hidden_size, spec.intermediate_size);
        let name = format!("encoder.layer.{index}");
        let linear = |target: Target, outputs: usize, inputs: usize| {
            let mut linear = tensors.linear(&format!("{name}.{}", module(target)), outputs, inputs)?;
            if let Some(adapter) = adapter {
                adapter.merge(index, target, &mut linear)?;
            }
            Ok::<_, ModelError>(linear)
        };
        let mut query_key_value = linear(Target::Query, hidden, hidden)?;
        for target in [Target::Key, Target::Value] {
            let part = linear(target, hidden, hidden)?;
            query_key_value.weight.extend(part.weight);
            query_key_value.bias.extend(part.bias);
        }
        Ok(LayerWeights {
            query_key_value,
            attention_output: linear(Target::AttentionOutput, hidden, hidden)?,
            attention_norm: tensors.norm(&format!("{name}.{ATTENTION_NORM}"), spec)?,
            intermediate: linear(Target::Intermediate, intermediate, hidden)?,
            output: linear(Target::Output, hidden, intermediate)?,
            output_norm: tensors.norm(&format!("{name}.{OUTPUT_NORM}"), spec)?,
        })
    }

    fn is_part(&self, spec: &EncoderSpec, tensor: &str) -> bool {
        let is_of_layer = || {
            let (layer, part) = tensor.strip_prefix("encoder.layer.")?.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            let part = part.strip_suffix(".weight").or_else(|| part.strip_suffix(".bias"))?;
            let is_known = [ATTENTION_NORM, OUTPUT_NORM].contains(&part) || target(part).is_some();
            Some(layer < spec.num_hidden_layers && is_known)
        };
        EMBEDDINGS.contains(&tensor) || is_of_layer().unwrap_or(false)
    }

    fn target(&self, name: &str) -> Option<(usize, Target)> {
        let place = name.strip_prefix(self.prefix()).unwrap_or(name).strip_prefix("encoder.layer.")?;
        let (layer, module) = place.split_once('.')?;
        Some((layer.parse().ok()?, target(module)?))
    }
}

/// The name of a linear layer in its transformer layer.
fn module(target: Target) -> &'static str {
    match target {
        Target::Query => "attention.self.query",
        Target::Key => "attention.self.key",
        Target::Value => "attention.self.value",
        Target::AttentionOutput => "attention.output.dense",
        Target::Intermediate => "intermediate.dense",
        Target::Output => "output.dense",
    }
}

fn target(name: &str) -> Option<Target> {
    Target::ALL.into_iter().find(|target| module(*target) == name)
}

#[cfg(test)]
mod tests {
    use models_core::weights::lora::place;

    use super::*;

    #[test]
    fn names_of_factors() {
        let check = |name: &str, expected| {
            let found = place(name, |module| Bert { segments: 2 }.target(module));
            assert_eq!(found.map(|(place, _)| place), expected, "{name}");
        };
        let prefix = "base_model.model.encoder.layer";
        check(&format!("{prefix}.3.attention.self.key.lora_A.weight"), Some((3, Target::Key)));
        check(
            &format!("{prefix}.11.attention.output.dense.lora_B.weight"),
            Some((11, Target::AttentionOutput)),
        );
        check(&format!("{prefix}.0.output.dense.lora_B.weight"), Some((0, Target::Output)));
        check(
            "base_model.model.bert.encoder.layer.1.intermediate.dense.lora_A.weight",
            Some((1, Target::Intermediate)),
        );
        check(&format!("{prefix}.x.output.dense.lora_B.weight"), None);
        check(&format!("{prefix}.0.output.dense.weight"), None);
        check("base_model.model.classifier.lora_A.weight", None);
        check("encoder.layer.0.output.dense.lora_A.weight", None);
    }
}
