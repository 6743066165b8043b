//! DistilBERT (<https://arxiv.org/abs/1910.01108>): BERT without segments, and with names of its own.

use models_core::ModelError;
use models_core::spec::EncoderSpec;
use models_core::weights::Target;
use models_core::weights::layout::{LayerName, Layout, Name};

use super::bert;
use super::config::{Config, SizeNames};
use super::modules::biased;

const SIZES: SizeNames = SizeNames {
    hidden: "dim",
    layers: "n_layers",
    heads: "n_heads",
    intermediate: "hidden_dim",
    activation: "activation",
};
/// Written in the code of transformers.
const EPSILON: f64 = 1e-12;

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["distilbert"])?;
    let sizes = config.sizes(&SIZES, config.positions(0, 512)?, EPSILON)?;
    let layout = Layout {
        encoder_classes: &["DistilBertModel", "DistilBertForMaskedLM"],
        head_classes: &[
            ("DistilBertForSequenceClassification", "classifier."),
            ("DistilBertForTokenClassification", "classifier."),
            ("DistilBertForMultipleChoice", "classifier."),
            ("DistilBertForQuestionAnswering", "qa_outputs."),
        ],
        layer: LayerName::each("transformer.layer."),
        modules: biased(&[
            (Target::Query, "attention.q_lin"),
            (Target::Key, "attention.k_lin"),
            (Target::Value, "attention.v_lin"),
            (Target::AttentionOutput, "attention.out_lin"),
            (Target::Intermediate, "ffn.lin1"),
            (Target::Output, "ffn.lin2"),
        ]),
        attention_norm: Name::biased("sa_layer_norm"),
        output_norm: Name::biased("output_layer_norm"),
        ..bert::layout("distilbert.")
    };
    Ok((sizes.spec(), layout))
}
