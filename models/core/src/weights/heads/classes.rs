//! Heads of checkpoints, by the class of transformers that `config.json` names: which row they take, which
//! layers they are made of, and what those are called in the weights file.

use std::path::Path;

use serde_json::{Map, Value};

use super::{HeadActivation, HeadLayer, HeadRows, HeadWeights, bias, check_rows, linear};
use crate::card::{CONFIG_FILE, Pooling};
use crate::error::ModelError;
use crate::files;
use crate::weights::{NormWeights, TensorFile};

/// How a class answers.
struct HeadClass {
    class: &'static str,
    row: Row,
    /// Before the classifier.
    layers: &'static [Layer],
    classifier: &'static str,
}

/// What is classified.
#[derive(Clone, Copy, PartialEq)]
enum Row {
    Token,
    First,
    Last,
    /// As `classifier_pooling` says, `cls` or `mean`.
    Configured,
}

enum Layer {
    /// `[H, H]`, and what its activation is.
    Dense(&'static str, Act),
    /// Over `H`, with the epsilon of this key.
    Norm(&'static str, &'static str),
}

enum Act {
    Is(HeadActivation),
    /// By the name that this key has, or gelu.
    Key(&'static str),
}

const TANH: Act = Act::Is(HeadActivation::Tanh);
/// BERT's, whose pooler is of the encoder it was pre-trained with.
const BERT: &[Layer] = &[Layer::Dense("bert.pooler.dense", TANH)];
const ROBERTA: &[Layer] = &[Layer::Dense("classifier.dense", TANH)];
const DISTILBERT: &[Layer] = &[Layer::Dense("pre_classifier", Act::Is(HeadActivation::Relu))];
const ELECTRA: &[Layer] = &[Layer::Dense("classifier.dense", Act::Is(HeadActivation::Gelu))];
const ALBERT: &[Layer] = &[Layer::Dense("albert.pooler", TANH)];
const DEBERTA: &[Layer] = &[Layer::Dense("pooler.dense", Act::Key("pooler_hidden_act"))];
const MODERNBERT: &[Layer] =
    &[Layer::Dense("head.dense", Act::Key("classifier_activation")), Layer::Norm("head.norm", "norm_eps")];
const NEW: &[Layer] = &[Layer::Dense("new.pooler.dense", TANH)];
const GTE: &[Layer] = &[Layer::Dense("gte.pooler.dense", TANH)];
const NOMIC: &[Layer] = &[Layer::Dense("nomic_bert.pooler.dense", TANH)];

const fn sequence(class: &'static str, layers: &'static [Layer], classifier: &'static str) -> HeadClass {
    HeadClass { class, row: Row::First, layers, classifier }
}

const fn tokens(class: &'static str, layers: &'static [Layer], classifier: &'static str) -> HeadClass {
    HeadClass { class, row: Row::Token, layers, classifier }
}

const fn last(class: &'static str) -> HeadClass {
    HeadClass { class, row: Row::Last, layers: &[], classifier: "score" }
}

const CLASSES: &[HeadClass] = &[
    sequence("BertForSequenceClassification", BERT, "classifier"),
    tokens("BertForTokenClassification", &[], "classifier"),
    sequence("RobertaForSequenceClassification", ROBERTA, "classifier.out_proj"),
    tokens("RobertaForTokenClassification", &[], "classifier"),
    sequence("XLMRobertaForSequenceClassification", ROBERTA, "classifier.out_proj"),
    tokens("XLMRobertaForTokenClassification", &[], "classifier"),
    sequence("CamembertForSequenceClassification", ROBERTA, "classifier.out_proj"),
    tokens("CamembertForTokenClassification", &[], "classifier"),
    sequence("MPNetForSequenceClassification", ROBERTA, "classifier.out_proj"),
    tokens("MPNetForTokenClassification", &[], "classifier"),
    sequence("DistilBertForSequenceClassification", DISTILBERT, "classifier"),
    tokens("DistilBertForTokenClassification", &[], "classifier"),
    sequence("ElectraForSequenceClassification", ELECTRA, "classifier.out_proj"),
    tokens("ElectraForTokenClassification", &[], "classifier"),
    sequence("AlbertForSequenceClassification", ALBERT, "classifier"),
    tokens("AlbertForTokenClassification", &[], "classifier"),
    sequence("DebertaV2ForSequenceClassification", DEBERTA, "classifier"),
    tokens("DebertaV2ForTokenClassification", &[], "classifier"),
    HeadClass {
        class: "ModernBertForSequenceClassification",
        row: Row::Configured,
        layers: MODERNBERT,
        classifier: "classifier",
    },
    tokens("ModernBertForTokenClassification", MODERNBERT, "classifier"),
    sequence("NomicBertForSequenceClassification", NOMIC, "classifier"),
    tokens("NomicBertForTokenClassification", &[], "classifier"),
    sequence("JinaBertForSequenceClassification", BERT, "classifier"),
    tokens("JinaBertForTokenClassification", &[], "classifier"),
    sequence("GteForSequenceClassification", GTE, "classifier"),
    tokens("GteForTokenClassification", &[], "classifier"),
    sequence("NewForSequenceClassification", NEW, "classifier"),
    tokens("NewForTokenClassification", &[], "classifier"),
    last("Qwen2ForSequenceClassification"),
    tokens("Qwen2ForTokenClassification", &[], "score"),
    last("Qwen3ForSequenceClassification"),
    tokens("Qwen3ForTokenClassification", &[], "score"),
];

/// The classifier of a checkpoint.
pub(super) struct Classifier {
    head: &'static HeadClass,
    config: Map<String, Value>,
    file: String,
}

impl Classifier {
    /// The one that the `config.json` in a folder names.
    ///
    /// # Errors
    /// It names none that is computed here, or none for what the card asks for.
    pub(super) fn find(folder: &Path, is_per_token: bool) -> Result<Self, ModelError> {
        let path = folder.join(CONFIG_FILE);
        let file = path.display().to_string();
        let fault = |message: String| ModelError::File { file: file.clone(), message };
        let config: Map<String, Value> =
            serde_json::from_slice(&files::read(&path)?).map_err(|error| fault(error.to_string()))?;
        let named = config.get("architectures").and_then(Value::as_array);
        let named: Vec<&str> = named.into_iter().flatten().filter_map(Value::as_str).collect();
        let head = CLASSES.iter().find(|head| named.contains(&head.class));
        match head {
            Some(head) if (head.row == Row::Token) == is_per_token => Ok(Self { head, config, file }),
            _ => {
                let kind = if is_per_token { "token_classification" } else { "sequence_classification" };
                let fitting = CLASSES.iter().filter(|head| (head.row == Row::Token) == is_per_token);
                let fitting = fitting.map(|head| head.class).collect::<Vec<_>>().join(", ");
                Err(fault(format!(
                    "architectures: {} has no head for the card's {kind}; those that are computed: {fitting}",
                    if named.is_empty() { "(none)".to_owned() } else { named.join(", ") }
                )))
            }
        }
    }

    /// Reads its weights.
    pub(super) fn read(
        &self,
        weights: &TensorFile,
        hidden: usize,
        labels: usize,
    ) -> Result<HeadWeights, ModelError> {
        let mut layers = Vec::new();
        for layer in self.head.layers {
            layers.push(match layer {
                Layer::Dense(name, activation) => {
                    let activation = self.activation(activation)?;
                    HeadLayer::Linear(linear(weights, name, [hidden, hidden], false)?, activation)
                }
                Layer::Norm(name, epsilon) => HeadLayer::Norm(NormWeights {
                    weight: weights.get(&format!("{name}.weight"), &[hidden])?,
                    bias: bias(weights, name, hidden, false)?,
                    epsilon: self.config.get(*epsilon).and_then(Value::as_f64).unwrap_or(1e-5) as f32,
                }),
            });
        }
        check_rows(weights, self.head.classifier, labels)?;
        let classifier = linear(weights, self.head.classifier, [labels, hidden], false)?;
        layers.push(HeadLayer::Linear(classifier, HeadActivation::Identity));
        Ok(HeadWeights { rows: self.rows()?, layers })
    }

    /// Whether it is made of a tensor.
    pub(super) fn is_part(&self, tensor: &str) -> bool {
        let layers = self.head.layers.iter().map(|layer| match layer {
            Layer::Dense(name, _) | Layer::Norm(name, _) => *name,
        });
        let name = tensor.strip_suffix(".weight").or_else(|| tensor.strip_suffix(".bias"));
        name.is_some_and(|name| layers.chain([self.head.classifier]).any(|own| own == name))
    }

    fn rows(&self) -> Result<HeadRows, ModelError> {
        let pooling = match self.head.row {
            Row::Token => return Ok(HeadRows::Tokens),
            Row::First => Pooling::Cls,
            Row::Last => Pooling::LastToken,
            Row::Configured => match self.text("classifier_pooling", "cls")? {
                "cls" => Pooling::Cls,
                "mean" => Pooling::Mean,
                other => return Err(self.fault(format!("classifier_pooling {other:?} is not computed"))),
            },
        };
        Ok(HeadRows::Pooled(vec![pooling]))
    }

    fn activation(&self, activation: &Act) -> Result<HeadActivation, ModelError> {
        match activation {
            Act::Is(activation) => Ok(*activation),
            Act::Key(key) => {
                let name = self.text(key, "gelu")?;
                HeadActivation::named(name)
                    .ok_or_else(|| self.fault(format!("{key} {name:?} is not computed")))
            }
        }
    }

    fn text(&self, key: &str, default: &'static str) -> Result<&str, ModelError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.fault(format!("{key} must be a string"))),
        }
    }

    fn fault(&self, message: String) -> ModelError {
        ModelError::File { file: self.file.clone(), message }
    }
}
