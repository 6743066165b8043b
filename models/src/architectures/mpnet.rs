//! MPNet (<https://arxiv.org/abs/2004.09297>): positions from the third row on, and a bias by distance that
//! all layers share.

use models_core::ModelError;
use models_core::spec::{AttentionBias, EncoderSpec};
use models_core::weights::Target;
use models_core::weights::layout::{DistanceNumbers, Layout, Name, PositionTable};

use super::bert;
use super::config::{Config, SIZES};
use super::modules::biased;

/// Written in the code of transformers, whatever the configuration's padding is.
const OFFSET: usize = 2;
/// As well.
const DISTANCE_MAX: usize = 128;

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["mpnet"])?;
    let sizes = config.sizes(&SIZES, config.positions(OFFSET, 512)?, config.or("layer_norm_eps", 1e-12)?)?;
    let buckets = config.or("relative_attention_num_buckets", 32_usize)?;
    if buckets < 4 || !buckets.is_multiple_of(4) || buckets / 4 >= DISTANCE_MAX {
        let message = format!("relative_attention_num_buckets {buckets} is not a multiple of 4 below 512");
        return Err(config.fault(message));
    }
    let own = bert::layout("mpnet.");
    let layout = Layout {
        positions: own.positions.map(|table| PositionTable { offset: OFFSET, ..table }),
        encoder_classes: &["MPNetModel", "MPNetForMaskedLM"],
        head_classes: &[
            ("MPNetForSequenceClassification", "classifier."),
            ("MPNetForTokenClassification", "classifier."),
            ("MPNetForMultipleChoice", "classifier."),
            ("MPNetForQuestionAnswering", "qa_outputs."),
        ],
        modules: biased(&[
            (Target::Query, "attention.attn.q"),
            (Target::Key, "attention.attn.k"),
            (Target::Value, "attention.attn.v"),
            (Target::AttentionOutput, "attention.attn.o"),
            (Target::Intermediate, "intermediate.dense"),
            (Target::Output, "output.dense"),
        ]),
        attention_norm: Name::biased("attention.LayerNorm"),
        distance: Some(DistanceNumbers::Buckets {
            name: "encoder.relative_attention_bias",
            buckets,
            distance_max: DISTANCE_MAX,
        }),
        ..own
    };
    Ok((EncoderSpec { bias: AttentionBias::Distance, ..sizes.spec() }, layout))
}
