//! Qwen2 and Qwen3 (<https://arxiv.org/abs/2407.10671>, <https://arxiv.org/abs/2505.09388>) without what
//! makes them write: decoders whose last hidden states are embeddings (<https://arxiv.org/abs/2506.05176>).

use models_core::ModelError;
use models_core::kinds::Architecture;
use models_core::spec::{
    EncoderSpec, FeedForward, HiddenActivation, LayerSpec, NormKind, NormPlace, Positions,
};
use models_core::weights::Target;
use models_core::weights::layout::{LayerName, Layout, Name};

use super::bert;
use super::config::{Config, HEAD_MAX, SIZES};
use super::modules::module;
use super::rope::{Kind, Rope, kinds};

pub(super) fn read(config: &Config, architecture: Architecture) -> Result<(EncoderSpec, Layout), ModelError> {
    let is_third = architecture == Architecture::Qwen3;
    config.is_of(&[architecture.as_str()])?;
    let head_size = config.get("head_dim")?.map(|size| config.at_most("head_dim", size, HEAD_MAX));
    let head_size = head_size.transpose()?;
    let (longest, epsilon) = (config.positions(0, 32_768)?, config.or("rms_norm_eps", 1e-6)?);
    // Heads of a size of their own need not share the hidden size.
    let sizes = match is_third || head_size.is_some() {
        true => config.free_sizes(&SIZES, longest, epsilon)?,
        false => config.sizes(&SIZES, longest, epsilon)?,
    };
    let rope = Rope::read(config, Kind::Full, "rope_theta", 10_000.0)?;
    let spec = sizes.spec();
    // What transformers takes for Qwen3 where the configuration does not say.
    let head_size = head_size.unwrap_or(if is_third { 128 } else { spec.head_size });
    let spec = EncoderSpec {
        num_key_value_heads: config.or("num_key_value_heads", spec.num_attention_heads)?,
        head_size,
        feed_forward: FeedForward::Gated,
        hidden_act: config.or("hidden_act", HiddenActivation::Silu)?,
        norm: NormKind::Rms,
        norm_place: NormPlace::Before,
        positions: Positions::None,
        rotary: vec![rope.rotary(head_size)],
        layers: layers(config, spec.num_hidden_layers)?,
        is_causal: config.or("is_causal", true)?,
        ..spec
    };
    let all = config.or("attention_bias", false)? && is_third;
    let query = all || !is_third;
    let norms = [Name::plain("self_attn.q_norm"), Name::plain("self_attn.k_norm")];
    let (encoder_classes, head_classes) = classes(is_third);
    let layout = Layout {
        encoder_classes,
        head_classes,
        words: "embed_tokens",
        positions: None,
        embedding_norm: None,
        layer: LayerName::each("layers."),
        modules: vec![
            module(Target::Query, "self_attn.q_proj", query),
            module(Target::Key, "self_attn.k_proj", query),
            module(Target::Value, "self_attn.v_proj", query),
            module(Target::AttentionOutput, "self_attn.o_proj", all),
            module(Target::Gate, "mlp.gate_proj", false),
            module(Target::Intermediate, "mlp.up_proj", false),
            module(Target::Output, "mlp.down_proj", false),
        ],
        attention_norm: Name::plain("input_layernorm"),
        output_norm: Name::plain("post_attention_layernorm"),
        query_key_norms: is_third.then_some(norms),
        final_norm: Some(Name::plain("norm")),
        buffers: &["self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"],
        ..bert::layout("model.")
    };
    Ok((spec, layout))
}

/// Layers see all tokens before, or from some layer on those alone that are near.
fn layers(config: &Config, count: usize) -> Result<Vec<LayerSpec>, ModelError> {
    let is_sliding = config.or("use_sliding_window", false)?;
    let first = config.or("max_window_layers", 28_usize)?;
    let window = config.get::<usize>("sliding_window")?.filter(|_| is_sliding);
    let kinds = kinds(config, count, |layer| window.is_some() && layer >= first)?;
    let layer = |kind: &Kind| {
        let window = match (kind, window) {
            (Kind::Full, _) => None,
            // The query's own token is one of them.
            (Kind::Sliding, Some(window)) => Some(window.saturating_sub(1)),
            (Kind::Sliding, None) => {
                return Err(config.fault("layer_types: some layers slide, without sliding_window".to_owned()));
            }
        };
        Ok(LayerSpec { window, rotary: Some(0) })
    };
    kinds.iter().map(layer).collect()
}

type Classes = (&'static [&'static str], &'static [(&'static str, &'static str)]);

fn classes(is_third: bool) -> Classes {
    match is_third {
        true => (
            &["Qwen3Model", "Qwen3ForCausalLM"],
            &[
                ("Qwen3ForSequenceClassification", "score."),
                ("Qwen3ForTokenClassification", "score."),
                ("Qwen3ForQuestionAnswering", "qa_outputs."),
            ],
        ),
        false => (
            &["Qwen2Model", "Qwen2ForCausalLM"],
            &[
                ("Qwen2ForSequenceClassification", "score."),
                ("Qwen2ForTokenClassification", "score."),
                ("Qwen2ForQuestionAnswering", "qa_outputs."),
            ],
        ),
    }
}
