//! ModernBERT (<https://arxiv.org/abs/2412.13663>): rotations, gated feed-forward blocks, normalisation
//! before the blocks, and layers that see near tokens alone between layers that see all.

use models_core::ModelError;
use models_core::spec::{EncoderSpec, FeedForward, LayerSpec, NormPlace, Positions};
use models_core::weights::Target;
use models_core::weights::layout::{LayerName, Layout, Name};

use super::bert;
use super::config::{Config, SIZES, SizeNames};
use super::modules::module;
use super::rope::{Kind, Rope, kinds};

const NAMES: SizeNames = SizeNames { activation: "hidden_activation", ..SIZES };

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["modernbert"])?;
    let sizes = config.sizes(&NAMES, config.positions(0, 8192)?, config.or("norm_eps", 1e-5)?)?;
    let every = config.or("global_attn_every_n_layers", 3_usize)?.max(1);
    // Half of it on each side.
    let window = config.or("local_attention", 128_usize)? / 2;
    let full = Rope::read(config, Kind::Full, "global_rope_theta", 160_000.0)?;
    let sliding = Rope::read(config, Kind::Sliding, "local_rope_theta", 10_000.0)?;
    let layer = |kind: &Kind| match kind {
        Kind::Full => LayerSpec { window: None, rotary: Some(0) },
        Kind::Sliding => LayerSpec { window: Some(window), rotary: Some(1) },
    };
    let kinds = kinds(config, sizes.num_hidden_layers, |layer| layer % every != 0)?;
    let spec = sizes.spec();
    let spec = EncoderSpec {
        feed_forward: FeedForward::Gated,
        norm_place: NormPlace::Before,
        positions: Positions::None,
        rotary: [full, sliding].iter().map(|rope| rope.rotary(spec.head_size)).collect(),
        layers: kinds.iter().map(layer).collect(),
        ..spec
    };
    let attention = config.or("attention_bias", false)?;
    let (mlp, norm) = (config.or("mlp_bias", false)?, config.or("norm_bias", false)?);
    let name = |name| Name { name, has_bias: norm };
    let layout = Layout {
        encoder_classes: &["ModernBertModel", "ModernBertForMaskedLM"],
        head_classes: &[
            ("ModernBertForSequenceClassification", "classifier."),
            ("ModernBertForTokenClassification", "classifier."),
            ("ModernBertForMultipleChoice", "classifier."),
            ("ModernBertForQuestionAnswering", "classifier."),
        ],
        words: "embeddings.tok_embeddings",
        positions: None,
        embedding_norm: Some(name("embeddings.norm")),
        layer: LayerName::each("layers."),
        modules: vec![
            module(Target::QueryKeyValue, "attn.Wqkv", attention),
            module(Target::AttentionOutput, "attn.Wo", attention),
            module(Target::Intermediate, "mlp.Wi", mlp),
            module(Target::Output, "mlp.Wo", mlp),
        ],
        attention_norm: name("attn_norm"),
        skips_first_norm: true,
        output_norm: name("mlp_norm"),
        final_norm: Some(name("final_norm")),
        ..bert::layout("model.")
    };
    Ok((spec, layout))
}
