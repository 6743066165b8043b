//! The encoder of GTE since its version 1.5, whose `model_type` is `new`, and `gte` in transformers
//! (<https://huggingface.co/Alibaba-NLP/new-impl>, <https://arxiv.org/abs/2407.19669>): rotations and gated
//! feed-forward blocks.

use models_core::ModelError;
use models_core::spec::{EncoderSpec, FeedForward, LayerSpec, Positions};
use models_core::weights::Target;
use models_core::weights::layout::{Layout, Name, SegmentTable};
use serde_json::json;

use super::bert;
use super::config::{Config, SIZES};
use super::modules::module;
use super::rope::{Kind, Rope};

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["new", "gte"])?;
    config.only("layer_norm_type", &[json!("layer_norm")])?;
    config.only("position_embedding_type", &[json!("rope"), json!("absolute")])?;
    config.not(&["logn_attention_scale", "logn_attention_clip1"])?;
    let sizes = config.sizes(&SIZES, config.positions(0, 8192)?, config.or("layer_norm_eps", 1e-12)?)?;
    let is_turned = config.or("position_embedding_type", "rope".to_owned())? == "rope";
    let rope = Rope::read(config, Kind::Full, "rope_theta", default_base(config)?)?;
    let spec = EncoderSpec { feed_forward: FeedForward::Gated, ..sizes.spec() };
    let spec = match is_turned {
        true => EncoderSpec {
            positions: Positions::None,
            rotary: vec![rope.rotary(spec.head_size)],
            layers: vec![LayerSpec { window: None, rotary: Some(0) }; spec.num_hidden_layers],
            ..spec
        },
        false => spec,
    };
    let segments = config.or("type_vocab_size", 1)?;
    let mut modules = match config.or("pack_qkv", true)? {
        true => vec![module(Target::QueryKeyValue, "attention.qkv_proj", true)],
        false => vec![
            module(Target::Query, "attention.q_proj", true),
            module(Target::Key, "attention.k_proj", true),
            module(Target::Value, "attention.v_proj", true),
        ],
    };
    modules.extend([
        module(Target::AttentionOutput, "attention.o_proj", true),
        module(Target::Intermediate, "mlp.up_gate_proj", false),
        module(Target::Output, "mlp.down_proj", true),
    ]);
    let own = bert::layout("new.");
    let layout = Layout {
        other_prefix: Some("gte."),
        positions: own.positions.filter(|_| !is_turned),
        segments: (segments > 0)
            .then_some(SegmentTable { name: "embeddings.token_type_embeddings", rows: segments }),
        encoder_classes: &["NewModel", "NewForMaskedLM", "GteModel", "GteForMaskedLM"],
        head_classes: &[
            ("NewForSequenceClassification", "classifier."),
            ("NewForTokenClassification", "classifier."),
            ("NewForMultipleChoice", "classifier."),
            ("NewForQuestionAnswering", "qa_outputs."),
            ("GteForSequenceClassification", "classifier."),
            ("GteForTokenClassification", "classifier."),
        ],
        code_classes: &["NewConfig", "GteConfig"],
        modules,
        is_gate_last: true,
        attention_norm: Name::biased("attn_ln"),
        output_norm: Name::biased("mlp_ln"),
        ..own
    };
    Ok((spec, layout))
}

/// What the code of the repositories takes, and transformers.
fn default_base(config: &Config) -> Result<f64, ModelError> {
    Ok(if config.need::<String>("model_type")? == "gte" { 160_000.0 } else { 10_000.0 })
}
