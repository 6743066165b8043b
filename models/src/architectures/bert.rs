//! BERT (<https://arxiv.org/abs/1810.04805>), and what others share of its layout.

use models_core::ModelError;
use models_core::spec::EncoderSpec;
use models_core::weights::Target;
use models_core::weights::layout::{LayerName, Layout, Name, PositionTable, SegmentTable};
use serde_json::json;

use super::config::{Config, SIZES};
use super::modules::biased;

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["bert"])?;
    config.only("position_embedding_type", &[json!("absolute")])?;
    let sizes = config.sizes(&SIZES, config.positions(0, 512)?, config.or("layer_norm_eps", 1e-12)?)?;
    let layout = Layout {
        segments: segments(config, 2)?,
        encoder_classes: &["BertModel", "BertForMaskedLM", "BertForPreTraining"],
        head_classes: &[
            ("BertForSequenceClassification", "classifier."),
            ("BertForTokenClassification", "classifier."),
            ("BertForMultipleChoice", "classifier."),
            ("BertForQuestionAnswering", "qa_outputs."),
            ("BertForNextSentencePrediction", "cls."),
            ("BertLMHeadModel", "cls."),
        ],
        ..layout("bert.")
    };
    Ok((sizes.spec(), layout))
}

/// The table of segments; `default` rows where the configuration does not say.
pub(super) fn segments(config: &Config, default: usize) -> Result<Option<SegmentTable>, ModelError> {
    match config.or("type_vocab_size", default)? {
        0 => Err(config.fault("type_vocab_size must be at least 1".to_owned())),
        rows => Ok(Some(SegmentTable { name: "embeddings.token_type_embeddings", rows })),
    }
}

/// The layout of BERT behind another prefix, without segments.
pub(super) fn layout(prefix: &'static str) -> Layout {
    Layout {
        prefix,
        other_prefix: None,
        encoder_classes: &[],
        head_classes: &[],
        code_classes: &[],
        words: "embeddings.word_embeddings",
        positions: Some(PositionTable { name: "embeddings.position_embeddings", offset: 0 }),
        segments: None,
        embedding_norm: Some(Name::biased("embeddings.LayerNorm")),
        projection: None,
        layer: LayerName::each("encoder.layer."),
        modules: biased(&[
            (Target::Query, "attention.self.query"),
            (Target::Key, "attention.self.key"),
            (Target::Value, "attention.self.value"),
            (Target::AttentionOutput, "attention.output.dense"),
            (Target::Intermediate, "intermediate.dense"),
            (Target::Output, "output.dense"),
        ]),
        is_gate_last: false,
        attention_norm: Name::biased("attention.output.LayerNorm"),
        skips_first_norm: false,
        output_norm: Name::biased("output.LayerNorm"),
        query_key_norms: None,
        final_norm: None,
        distance: None,
        relative: None,
        buffers: &["embeddings.position_ids", "embeddings.token_type_ids"],
    }
}

#[cfg(test)]
mod tests {
    use models_core::weights::lora::place;

    use super::*;

    #[test]
    fn names_of_factors() {
        let check = |name: &str, expected| {
            let found = place(name, |module| layout("bert.").target(module));
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
