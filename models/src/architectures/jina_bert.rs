//! The second version of Jina's embedders (<https://arxiv.org/abs/2310.19923>): BERT with linear biases by
//! distance instead of positions, and gated feed-forward blocks. Their `model_type` is `bert`.

use models_core::ModelError;
use models_core::spec::{AttentionBias, EncoderSpec, FeedForward, HiddenActivation, Positions};
use models_core::weights::Target;
use models_core::weights::layout::{DistanceNumbers, Layout, Name};
use serde_json::json;

use super::bert;
use super::config::{Config, SIZES};
use super::modules::module;

pub(super) fn read(config: &Config) -> Result<(EncoderSpec, Layout), ModelError> {
    config.is_of(&["bert", "jina_bert"])?;
    config.need::<String>("position_embedding_type")?;
    config.only("position_embedding_type", &[json!("alibi")])?;
    let sizes = config.sizes(&SIZES, config.positions(0, 512)?, config.or("layer_norm_eps", 1e-12)?)?;
    let own = bert::layout("bert.");
    let kind = config.or("feed_forward_type", "original".to_owned())?;
    let (feed_forward, hidden_act) = match kind.as_str() {
        "original" => (FeedForward::Plain, sizes.hidden_act),
        "geglu" => (FeedForward::Gated, HiddenActivation::Gelu),
        "reglu" => (FeedForward::Gated, HiddenActivation::Relu),
        other => {
            let message =
                format!("feed_forward_type {other:?} is not supported; supported: original, geglu, reglu");
            return Err(config.fault(message));
        }
    };
    let (mut modules, mut output_norm) = (own.modules.clone(), own.output_norm);
    if feed_forward == FeedForward::Gated {
        modules.retain(|module| ![Target::Intermediate, Target::Output].contains(&module.target));
        modules.push(module(Target::Intermediate, "mlp.gated_layers", false));
        modules.push(module(Target::Output, "mlp.wo", true));
        output_norm = Name::biased("mlp.layernorm");
    }
    let layout = Layout {
        segments: bert::segments(config, 2)?,
        encoder_classes: &["JinaBertModel", "JinaBertForMaskedLM", "JinaBertForPreTraining"],
        head_classes: &[
            ("JinaBertForSequenceClassification", "classifier."),
            ("JinaBertForTokenClassification", "classifier."),
            ("JinaBertForMultipleChoice", "classifier."),
            ("JinaBertForQuestionAnswering", "qa_outputs."),
        ],
        code_classes: &["JinaBertConfig"],
        positions: None,
        distance: Some(DistanceNumbers::Slopes),
        modules,
        output_norm,
        ..own
    };
    let spec = EncoderSpec {
        feed_forward,
        hidden_act,
        positions: Positions::None,
        bias: AttentionBias::Distance,
        ..sizes.spec()
    };
    Ok((spec, layout))
}
