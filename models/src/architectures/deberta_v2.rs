//! DeBERTa in its second and third versions (<https://arxiv.org/abs/2006.03654>,
//! <https://arxiv.org/abs/2111.09543>): contents and distances meet in attention, without positions in most.

use models_core::ModelError;
use models_core::spec::{AttentionBias, Disentangled, EncoderSpec, Positions};
use models_core::weights::Target;
use models_core::weights::layout::{Layout, Name, RelativeTable, SegmentTable};
use serde_json::{Value, json};

use super::bert;
use super::config::{Config, SIZES};
use super::modules::biased;

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["deberta-v2"])?;
    config.only("conv_kernel_size", &[json!(0)])?;
    let sizes = config.sizes(&SIZES, config.positions(0, 512)?, config.or("layer_norm_eps", 1e-7)?)?;
    let (hidden, heads) = (sizes.hidden_size, sizes.num_attention_heads);
    config.only("embedding_size", &[json!(hidden)])?;
    config.only("attention_head_size", &[json!(hidden / heads)])?;
    let is_positioned = config.or("position_biased_input", true)?;
    let own = bert::layout("deberta.");
    let (bias, relative) = relative(config, sizes.max_position_embeddings)?;
    let segments = config.or("type_vocab_size", 0)?;
    let layout = Layout {
        positions: own.positions.filter(|_| is_positioned),
        segments: (segments > 0)
            .then_some(SegmentTable { name: "embeddings.token_type_embeddings", rows: segments }),
        encoder_classes: &["DebertaV2Model", "DebertaV2ForMaskedLM"],
        head_classes: &[
            ("DebertaV2ForSequenceClassification", "classifier."),
            ("DebertaV2ForTokenClassification", "classifier."),
            ("DebertaV2ForMultipleChoice", "classifier."),
            ("DebertaV2ForQuestionAnswering", "qa_outputs."),
        ],
        modules: biased(&[
            (Target::Query, "attention.self.query_proj"),
            (Target::Key, "attention.self.key_proj"),
            (Target::Value, "attention.self.value_proj"),
            (Target::AttentionOutput, "attention.output.dense"),
            (Target::Intermediate, "intermediate.dense"),
            (Target::Output, "output.dense"),
        ]),
        relative,
        ..own
    };
    let positions = if is_positioned { Positions::Absolute } else { Positions::None };
    Ok((EncoderSpec { positions, bias, ..sizes.spec() }, layout))
}

/// Disentangled attention for sequences up to a length.
fn relative(config: &Config, longest: usize) -> Result<(AttentionBias, Option<RelativeTable>), ModelError> {
    let ways: Vec<String> = match config.get::<Value>("pos_att_type")? {
        None => Vec::new(),
        Some(Value::String(ways)) => ways.split('|').map(|way| way.trim().to_lowercase()).collect(),
        Some(_) => config.need("pos_att_type")?,
    };
    let ways: Vec<&str> = ways.iter().map(String::as_str).filter(|way| !way.is_empty()).collect();
    if let Some(other) = ways.iter().find(|way| !["c2p", "p2c"].contains(way)) {
        return Err(config.fault(format!("pos_att_type {other:?} is not supported; supported: c2p, p2c")));
    }
    if !config.or("relative_attention", false)? {
        return match ways.is_empty() {
            true => Ok((AttentionBias::None, None)),
            false => Err(config.fault("pos_att_type is set, and relative_attention is not".to_owned())),
        };
    }
    // -1 and 0 stand for nothing.
    let positive = |name: &str| {
        let value = config.get::<i64>(name)?.filter(|value| *value > 0);
        Ok::<_, ModelError>(value.and_then(|value| usize::try_from(value).ok()))
    };
    let distance_max = positive("max_relative_positions")?.unwrap_or(longest);
    let buckets = positive("position_buckets")?;
    if buckets.is_some_and(|buckets| buckets < 4 || distance_max <= buckets / 2 + 1) {
        let message = "position_buckets must be at least 4, and less than twice max_relative_positions";
        return Err(config.fault(message.to_owned()));
    }
    let norm: String = config.or("norm_rel_ebd", "none".to_owned())?;
    let norm = match norm.trim() {
        "none" => None,
        "layer_norm" => Some(Name::biased("encoder.LayerNorm")),
        other => {
            let message = format!("norm_rel_ebd {other:?} is not supported; supported: none, layer_norm");
            return Err(config.fault(message));
        }
    };
    let own = [Name::biased("attention.self.pos_key_proj"), Name::biased("attention.self.pos_query_proj")];
    let is_shared = config.or("share_att_key", false)?;
    let bias = Disentangled {
        span: buckets.unwrap_or(distance_max),
        buckets,
        distance_max,
        content_to_position: ways.contains(&"c2p"),
        position_to_content: ways.contains(&"p2c"),
    };
    let table =
        RelativeTable { name: "encoder.rel_embeddings", norm, projections: (!is_shared).then_some(own) };
    Ok((AttentionBias::Disentangled(bias), Some(table)))
}
