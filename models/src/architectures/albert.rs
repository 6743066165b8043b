//! ALBERT (<https://arxiv.org/abs/1909.11942>): narrow embeddings, and layers with the same weights.

use models_core::ModelError;
use models_core::spec::{EncoderSpec, HiddenActivation};
use models_core::weights::Target;
use models_core::weights::layout::{LayerName, Layout, Name};
use serde_json::json;

use super::bert;
use super::config::{Config, SIZES};
use super::modules::biased;

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["albert"])?;
    config.only("position_embedding_type", &[json!("absolute")])?;
    config.only("inner_group_num", &[json!(1)])?;
    let sizes = config.sizes(&SIZES, config.positions(0, 512)?, config.or("layer_norm_eps", 1e-12)?)?;
    let (layers, groups) = (sizes.num_hidden_layers, config.or("num_hidden_groups", 1_usize)?);
    if groups == 0 || !layers.is_multiple_of(groups) {
        let message = format!("num_hidden_layers {layers} is not a multiple of num_hidden_groups {groups}");
        return Err(config.fault(message));
    }
    let spec = EncoderSpec {
        embedding_size: config.or("embedding_size", 128)?,
        hidden_act: config.or("hidden_act", HiddenActivation::GeluTanh)?,
        is_shared: groups == 1,
        ..sizes.spec()
    };
    let layout = Layout {
        segments: bert::segments(config, 2)?,
        projection: Some(Name::biased("encoder.embedding_hidden_mapping_in")),
        encoder_classes: &["AlbertModel", "AlbertForMaskedLM", "AlbertForPreTraining"],
        head_classes: &[
            ("AlbertForSequenceClassification", "classifier."),
            ("AlbertForTokenClassification", "classifier."),
            ("AlbertForMultipleChoice", "classifier."),
            ("AlbertForQuestionAnswering", "qa_outputs."),
        ],
        layer: LayerName {
            before: "encoder.albert_layer_groups.",
            behind: ".albert_layers.0.",
            together: (layers / groups).max(1),
        },
        modules: biased(&[
            (Target::Query, "attention.query"),
            (Target::Key, "attention.key"),
            (Target::Value, "attention.value"),
            (Target::AttentionOutput, "attention.dense"),
            (Target::Intermediate, "ffn"),
            (Target::Output, "ffn_output"),
        ]),
        attention_norm: Name::biased("attention.LayerNorm"),
        output_norm: Name::biased("full_layer_layer_norm"),
        ..bert::layout("albert.")
    };
    Ok((spec, layout))
}
