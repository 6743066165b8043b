//! Weights of heads: what turns last hidden states into results.

mod classes;
mod modules;
mod pooling;

use std::path::Path;

use super::encoder::EncoderWeights;
use super::tensors::TensorFile;
use super::{LinearWeights, NormWeights};
use crate::card::{Card, ClassifierSource, Head, HeadFile, Module, Pooling, PoolingHead};
use crate::error::ModelError;
use crate::files;
use classes::Classifier;

/// What is computed from the last hidden states `[T, H]`: rows of them, or rows that they are pooled to, and
/// what is done to each row.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadWeights {
    /// Which rows there are.
    pub rows: HeadRows,
    /// What is done to each, in order.
    pub layers: Vec<HeadLayer>,
}

/// The rows that a head's layers are computed of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadRows {
    /// One of each sequence: its hidden states pooled in each of these ways, one behind the other.
    Pooled(Vec<Pooling>),
    /// The hidden states themselves.
    Tokens,
}

/// What is done to a row.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadLayer {
    /// `act(x W^T + b)`
    Linear(LinearWeights, HeadActivation),
    /// A layer normalisation.
    Norm(NormWeights),
    /// Scaled to length one; zeros stay as they are.
    Normalize,
}

/// Activation of a head's layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadActivation {
    /// None.
    Identity,
    /// The hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`
    Relu,
    /// By the error function.
    Gelu,
    /// By its approximation with tanh.
    GeluTanh,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

impl HeadWeights {
    /// Reads the head of a card over an encoder. `folder`: where the checkpoint's files are.
    ///
    /// # Errors
    /// When its file is not what the card says, or the checkpoint has no such head.
    pub fn load(card: &Card, folder: &Path, base: &EncoderWeights) -> Result<Self, ModelError> {
        let hidden = base.spec.hidden_size;
        let labels = card.labels.len();
        match &card.head {
            Head::Pooling(head) => Self::of_modules(head, folder, hidden),
            Head::SequenceClassification(ClassifierSource::File(file))
            | Head::TokenClassification(ClassifierSource::File(file)) => {
                let layers = own_layers(card, file, hidden)?;
                let rows = match card.head.is_per_token() {
                    true => HeadRows::Tokens,
                    false => HeadRows::Pooled(vec![Pooling::Mean]),
                };
                Ok(Self { rows, layers })
            }
            Head::SequenceClassification(ClassifierSource::Checkpoint)
            | Head::TokenClassification(ClassifierSource::Checkpoint) => {
                Self::of_checkpoint(folder, base, card.head.is_per_token(), labels)
            }
        }
    }

    /// Reads a checkpoint's own classifier of sequences or of tokens, with this many classes.
    ///
    /// # Errors
    /// The checkpoint has none.
    pub fn of_checkpoint(
        folder: &Path,
        base: &EncoderWeights,
        is_per_token: bool,
        classes: usize,
    ) -> Result<Self, ModelError> {
        Classifier::find(folder, is_per_token)?.read(base.file(), base.spec.hidden_size, classes)
    }

    /// Tensors of a checkpoint's weights file that neither its encoder nor the card's head is made of.
    ///
    /// # Errors
    /// When the checkpoint has no such head.
    pub fn unused(card: &Card, folder: &Path, base: &EncoderWeights) -> Result<Vec<String>, ModelError> {
        let mut unused = base.unused();
        if card.head.is_of_checkpoint() {
            let classifier = Classifier::find(folder, card.head.is_per_token())?;
            unused.retain(|tensor| !classifier.is_part(tensor));
        }
        Ok(unused)
    }

    /// The mean over the tokens of each sequence, special tokens included, `[B, H]`.
    pub fn mean_pooling() -> Self {
        Self { rows: HeadRows::Pooled(vec![Pooling::Mean]), layers: Vec::new() }
    }

    /// A classifier over these rows, with a hidden layer with tanh or without.
    pub fn classifier(rows: HeadRows, dense: Option<LinearWeights>, classifier: LinearWeights) -> Self {
        let dense = dense.map(|dense| HeadLayer::Linear(dense, HeadActivation::Tanh));
        let classifier = HeadLayer::Linear(classifier, HeadActivation::Identity);
        Self { rows, layers: dense.into_iter().chain([classifier]).collect() }
    }

    /// Columns of its result, over an encoder of this hidden size.
    pub fn columns(&self, hidden: usize) -> usize {
        self.widths(hidden).last().copied().unwrap_or(hidden)
    }

    /// Numbers in a row before each layer and behind the last, over an encoder of this hidden size.
    pub fn widths(&self, hidden: usize) -> Vec<usize> {
        let pooled = match &self.rows {
            HeadRows::Pooled(ways) => ways.len() * hidden,
            HeadRows::Tokens => hidden,
        };
        let mut widths = vec![pooled];
        for layer in &self.layers {
            let width = widths[widths.len() - 1];
            widths.push(match layer {
                HeadLayer::Linear(weights, _) => weights.outputs(),
                HeadLayer::Norm(_) | HeadLayer::Normalize => width,
            });
        }
        widths
    }

    /// Whether it gives one row per token rather than one per sequence.
    pub fn is_per_token(&self) -> bool {
        self.rows == HeadRows::Tokens
    }

    /// The only way in which it pools, if that is all it does: such a head can give what it would pool.
    pub fn plain_pooling(&self) -> Option<Pooling> {
        match (&self.rows, &self.layers[..]) {
            (HeadRows::Pooled(ways), []) => match ways[..] {
                [way] => Some(way),
                _ => None,
            },
            _ => None,
        }
    }

    /// What a runtime that knows only of means and a hidden layer with tanh can compute: the classifier's
    /// layers, the last of which gives the logits.
    ///
    /// # Errors
    /// Names what else the head asks for.
    pub fn as_plain(&self) -> Result<PlainHead<'_>, crate::kinds::Unsupported> {
        let refuse = |what: String| {
            let supported = "the mean of all tokens, then perhaps a layer with tanh and a linear layer";
            Err(crate::kinds::Unsupported::new("head", what, &[supported]))
        };
        match &self.rows {
            HeadRows::Tokens => {}
            HeadRows::Pooled(ways) if ways[..] == [Pooling::Mean] => {}
            HeadRows::Pooled(ways) => {
                return refuse(ways.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"));
            }
        }
        match &self.layers[..] {
            [] => Ok(PlainHead { dense: None, classifier: None }),
            [HeadLayer::Linear(classifier, HeadActivation::Identity)] => {
                Ok(PlainHead { dense: None, classifier: Some(classifier) })
            }
            [
                HeadLayer::Linear(dense, HeadActivation::Tanh),
                HeadLayer::Linear(classifier, HeadActivation::Identity),
            ] => Ok(PlainHead { dense: Some(dense), classifier: Some(classifier) }),
            layers => refuse(layers.iter().map(HeadLayer::name).collect::<Vec<_>>().join(", ")),
        }
    }

    /// Reads what is behind a pooling, out of a checkpoint's folder.
    ///
    /// # Errors
    /// A module's files cannot be read, do not fit, or ask for what is not computed.
    pub fn of_modules(head: &PoolingHead, folder: &Path, hidden: usize) -> Result<Self, ModelError> {
        let mut weights = Self { rows: HeadRows::Pooled(head.pooling.clone()), layers: Vec::new() };
        // A scale at the end is the call's.
        let modules = head.modules.strip_suffix(&[Module::Normalize]).unwrap_or(&head.modules);
        for module in modules {
            let width = weights.columns(hidden);
            weights.layers.push(modules::read(module, folder, width)?);
        }
        Ok(weights)
    }
}

/// A head of means or tokens, and perhaps a classifier with a hidden layer with tanh.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainHead<'a> {
    /// `[H, H]`
    pub dense: Option<&'a LinearWeights>,
    /// `[C, H]`
    pub classifier: Option<&'a LinearWeights>,
}

impl HeadLayer {
    /// What errors call it.
    pub fn name(&self) -> String {
        match self {
            Self::Linear(_, HeadActivation::Identity) => "linear".to_owned(),
            Self::Linear(_, activation) => format!("linear with {activation:?}").to_lowercase(),
            Self::Norm(_) => "layer_norm".to_owned(),
            Self::Normalize => "normalize".to_owned(),
        }
    }
}

impl HeadActivation {
    /// An activation by its name in `config.json` of transformers.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_approximate" | "gelu_fast" => Self::GeluTanh,
            "silu" | "swish" => Self::Silu,
            "sigmoid" => Self::Sigmoid,
            "linear" => Self::Identity,
            _ => return None,
        })
    }

    /// An activation by its class in PyTorch, such as `torch.nn.modules.activation.Tanh`.
    pub fn of_torch(class: &str) -> Option<Self> {
        let (library, name) = (class.split('.').next(), class.rsplit('.').next()?);
        if library != Some("torch") {
            return None;
        }
        Some(match name {
            "Identity" => Self::Identity,
            "Tanh" => Self::Tanh,
            "ReLU" => Self::Relu,
            "GELU" => Self::Gelu,
            "SiLU" => Self::Silu,
            "Sigmoid" => Self::Sigmoid,
            _ => return None,
        })
    }
}

/// The layers of a classifier in a file of its own.
fn own_layers(card: &Card, file: &HeadFile, hidden: usize) -> Result<Vec<HeadLayer>, ModelError> {
    const KNOWN: [&str; 4] = ["dense.weight", "dense.bias", "classifier.weight", "classifier.bias"];
    let path = card.folder.join(&file.file);
    let weights = TensorFile::parse(&path, files::read_verified(&path, file.sha256)?)?;
    if let Some(name) = weights.names().iter().find(|name| !KNOWN.contains(&name.as_str())) {
        let message = format!("tensor {name} does not belong in a head");
        return Err(ModelError::File { file: weights.file().to_owned(), message });
    }
    check_rows(&weights, "classifier", card.labels.len())?;
    let linear = |name: &str, outputs| linear(&weights, name, [outputs, hidden], true);
    let has_dense = weights.has("dense.weight") || weights.has("dense.bias");
    let dense = has_dense.then(|| linear("dense", hidden)).transpose()?;
    Ok(HeadWeights::classifier(HeadRows::Tokens, dense, linear("classifier", card.labels.len())?).layers)
}

/// That a classifier has a row for each label.
fn check_rows(weights: &TensorFile, name: &str, labels: usize) -> Result<(), ModelError> {
    let rows = weights.dims(&format!("{name}.weight"))?.first().copied().unwrap_or(0);
    if rows == labels {
        return Ok(());
    }
    Err(ModelError::Labels { file: weights.file().to_owned(), labels, rows })
}

/// `<name>.weight` and `<name>.bias` of a linear layer, zeros for a bias that it may lack.
fn linear(
    weights: &TensorFile,
    name: &str,
    [outputs, inputs]: [usize; 2],
    has_bias: bool,
) -> Result<LinearWeights, ModelError> {
    let weight = weights.get(&format!("{name}.weight"), &[outputs, inputs])?;
    Ok(LinearWeights { weight, bias: bias(weights, name, outputs, has_bias)? })
}

fn bias(weights: &TensorFile, name: &str, width: usize, has_bias: bool) -> Result<Vec<f32>, ModelError> {
    let name = format!("{name}.bias");
    if has_bias || weights.has(&name) { weights.get(&name, &[width]) } else { Ok(vec![0.0; width]) }
}
