//! NomicBERT (<https://arxiv.org/abs/2402.01613>): BERT with rotations instead of positions, gated
//! feed-forward blocks and few biases. Its repositories name their sizes as GPT-2 does; transformers since
//! version 5 as BERT.

use models_core::ModelError;
use models_core::spec::{
    EncoderSizes, EncoderSpec, FeedForward, HiddenActivation, LayerSpec, Positions, Rotary, RotaryPairs,
};
use models_core::weights::Target;
use models_core::weights::layout::{LayerName, Layout, Name};
use serde_json::json;

use super::bert;
use super::config::{Config, SIZES, SizeNames};
use super::modules::module;
use super::rope::{Kind, Rope};

const OLD: SizeNames = SizeNames {
    hidden: "n_embd",
    layers: "n_layer",
    heads: "n_head",
    intermediate: "n_inner",
    // Named otherwise than the activation itself.
    activation: "",
};

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["nomic_bert"])?;
    config.not(&[
        "prenorm",
        "parallel_block",
        "use_rms_norm",
        "causal",
        "scale_attn_by_inverse_layer_idx",
    ])?;
    // One layer in so many has experts; none with 0, however many there would be.
    config.only("moe_every_n_layers", &[json!(0)])?;
    if !config.has("moe_every_n_layers") {
        config.only("num_experts", &[json!(0)])?;
    }
    config.only("rotary_emb_scale_base", &[])?;
    let (sizes, rotary) = if config.has("n_embd") { old(config)? } else { new(config)? };
    let layers = vec![LayerSpec { window: None, rotary: Some(0) }; sizes.num_hidden_layers];
    let spec = EncoderSpec {
        feed_forward: FeedForward::Gated,
        positions: Positions::None,
        rotary: vec![rotary],
        layers,
        ..sizes.spec()
    };
    let attention = config.or("qkv_proj_bias", false)?;
    let (up, down) = (config.or("mlp_fc1_bias", false)?, config.or("mlp_fc2_bias", false)?);
    let layout = Layout {
        other_prefix: Some("nomic_bert."),
        segments: bert::segments(config, 2)?,
        encoder_classes: &["NomicBertModel", "NomicBertForPreTraining", "NomicBertForMaskedLM"],
        head_classes: &[
            ("NomicBertForSequenceClassification", "classifier."),
            ("NomicBertForTokenClassification", "classifier."),
            ("NomicBertForMultipleChoice", "classifier."),
            ("NomicBertForQuestionAnswering", "qa_outputs."),
        ],
        code_classes: &["NomicBertConfig"],
        positions: None,
        embedding_norm: Some(Name::biased("emb_ln")),
        layer: LayerName::each("encoder.layers."),
        modules: vec![
            module(Target::QueryKeyValue, "attn.Wqkv", attention),
            module(Target::AttentionOutput, "attn.out_proj", attention),
            module(Target::Gate, "mlp.fc12", up),
            module(Target::Intermediate, "mlp.fc11", up),
            module(Target::Output, "mlp.fc2", down),
        ],
        attention_norm: Name::biased("norm1"),
        output_norm: Name::biased("norm2"),
        ..bert::layout("bert.")
    };
    Ok((spec, layout))
}

fn old(config: &Config) -> Result<(EncoderSizes, Rotary), ModelError> {
    let activation: String = config.need("activation_function")?;
    let hidden_act = match activation.as_str() {
        "swiglu" => HiddenActivation::Silu,
        "geglu" => HiddenActivation::Gelu,
        other => {
            let message = format!("activation_function {other:?} is not supported; supported: swiglu, geglu");
            return Err(config.fault(message));
        }
    };
    // Beyond the lengths of training, frequencies that are scaled depend on each text's length.
    let trained = config.or("max_trained_positions", 2048_usize)?;
    let longest = config.need("n_positions")?;
    let is_scaled = config.get::<f64>("rotary_scaling_factor")?.is_some();
    let longest = if is_scaled { trained.min(longest) } else { longest };
    let sizes = config.sizes(&OLD, longest, config.or("layer_norm_epsilon", 1e-5)?)?;
    let head_size = sizes.hidden_size / sizes.num_attention_heads;
    let share = config.or("rotary_emb_fraction", 1.0_f64)?;
    let turned = head_size as f64 * share;
    if !(turned > 0.0 && turned <= head_size as f64) {
        return Err(config.fault(format!("rotary_emb_fraction {share} is not supported; supported: 0 to 1")));
    }
    let base = config.or("rotary_emb_base", 10_000.0)?;
    let is_interleaved = config.or("rotary_emb_interleaved", false)?;
    let pairs = if is_interleaved { RotaryPairs::Neighbours } else { RotaryPairs::Halves };
    Ok((EncoderSizes { hidden_act, ..sizes }, Rotary { pairs, ..Rotary::new(base, turned as usize) }))
}

fn new(config: &Config) -> Result<(EncoderSizes, Rotary), ModelError> {
    let names = SizeNames { activation: "hidden_act", ..SIZES };
    let sizes = config.sizes(&names, config.positions(0, 2048)?, config.or("layer_norm_eps", 1e-12)?)?;
    let rope = Rope::read(config, Kind::Full, "rope_theta", 1000.0)?;
    let hidden_act = config.or("hidden_act", HiddenActivation::Silu)?;
    let rotary = rope.rotary(sizes.hidden_size / sizes.num_attention_heads);
    Ok((EncoderSizes { hidden_act, ..sizes }, rotary))
}
