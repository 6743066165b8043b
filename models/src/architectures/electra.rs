//! ELECTRA (<https://arxiv.org/abs/2003.10555>): BERT whose embeddings may be narrower, and are projected
//! then.

use models_core::ModelError;
use models_core::spec::EncoderSpec;
use models_core::weights::layout::{Layout, Name};
use serde_json::json;

use super::bert;
use super::config::{Config, SIZES};

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["electra"])?;
    config.only("position_embedding_type", &[json!("absolute")])?;
    let sizes = config.sizes(&SIZES, config.positions(0, 512)?, config.or("layer_norm_eps", 1e-12)?)?;
    let spec = EncoderSpec { embedding_size: config.or("embedding_size", 128)?, ..sizes.spec() };
    let is_projected = spec.embedding_size != spec.hidden_size;
    let layout = Layout {
        segments: bert::segments(config, 2)?,
        projection: is_projected.then_some(Name::biased("embeddings_project")),
        encoder_classes: &["ElectraModel", "ElectraForMaskedLM", "ElectraForPreTraining"],
        head_classes: &[
            ("ElectraForSequenceClassification", "classifier."),
            ("ElectraForTokenClassification", "classifier."),
            ("ElectraForMultipleChoice", "classifier."),
            ("ElectraForQuestionAnswering", "qa_outputs."),
            ("ElectraForCausalLM", "generator_"),
        ],
        ..bert::layout("electra.")
    };
    Ok((spec, layout))
}
