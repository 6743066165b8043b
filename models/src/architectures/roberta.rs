//! RoBERTa (<https://arxiv.org/abs/1907.11692>), XLM-RoBERTa (<https://arxiv.org/abs/1911.02116>) and
//! CamemBERT (<https://arxiv.org/abs/1911.03894>): BERT whose positions begin behind that of padding.

use models_core::ModelError;
use models_core::spec::EncoderSpec;
use models_core::weights::layout::{Layout, PositionTable};
use serde_json::json;

use super::bert;
use super::config::{Config, SIZES};

pub(super) const MODEL_TYPES: [&str; 3] = ["roberta", "xlm-roberta", "camembert"];

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&MODEL_TYPES)?;
    config.only("position_embedding_type", &[json!("absolute")])?;
    let offset = config.or("pad_token_id", 1_usize)?.saturating_add(1);
    let length = config.positions(offset, 512)?;
    let sizes = config.sizes(&SIZES, length, config.or("layer_norm_eps", 1e-12)?)?;
    let own = bert::layout("roberta.");
    let layout = Layout {
        positions: own.positions.map(|table| PositionTable { offset, ..table }),
        segments: bert::segments(config, 2)?,
        encoder_classes: &[
            "RobertaModel",
            "RobertaForMaskedLM",
            "XLMRobertaModel",
            "XLMRobertaForMaskedLM",
            "CamembertModel",
            "CamembertForMaskedLM",
        ],
        head_classes: &[
            ("RobertaForSequenceClassification", "classifier."),
            ("RobertaForTokenClassification", "classifier."),
            ("RobertaForMultipleChoice", "classifier."),
            ("RobertaForQuestionAnswering", "qa_outputs."),
            ("RobertaForCausalLM", "lm_head."),
            ("XLMRobertaForSequenceClassification", "classifier."),
            ("XLMRobertaForTokenClassification", "classifier."),
            ("XLMRobertaForMultipleChoice", "classifier."),
            ("XLMRobertaForQuestionAnswering", "qa_outputs."),
            ("XLMRobertaForCausalLM", "lm_head."),
            ("CamembertForSequenceClassification", "classifier."),
            ("CamembertForTokenClassification", "classifier."),
            ("CamembertForMultipleChoice", "classifier."),
            ("CamembertForQuestionAnswering", "qa_outputs."),
            ("CamembertForCausalLM", "lm_head."),
        ],
        ..own
    };
    Ok((sizes.spec(), layout))
}
