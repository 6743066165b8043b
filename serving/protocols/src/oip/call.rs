//! One call of a model: from its tensors to what is asked, and from the results to its tensors.

use std::collections::HashMap;
use std::sync::Arc;

use api::tasks::{Input, LabelScore, OnError, Output, Parameters, TaskResult};
use api::{ApiError, InferRequest, InferResponse, ModelInfo, Priority, Task};

use super::error::invalid;
use super::model::TensorKind;
use super::parameters::{Values, of_task};
use super::tensor::{Inputs, Tensor, inputs};

/// A call, in no wire's terms.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The caller's, which comes back.
    pub(super) id: Option<String>,
    pub(super) parameters: Values,
    pub(super) inputs: Vec<Tensor>,
    /// None: all that there are.
    pub(super) outputs: Vec<AskedOutput>,
}

/// An output that is asked for.
#[derive(Debug)]
pub(super) struct AskedOutput {
    pub(super) name: String,
    pub(super) parameters: Values,
}

/// How a call is answered.
#[derive(Debug)]
pub(super) struct Rendering {
    id: Option<String>,
    outputs: Vec<Wanted>,
    /// Labels in the order of their indexes.
    labels: Vec<String>,
    is_column: bool,
    /// How many labels and scores each input has.
    labels_max: Option<usize>,
}

/// An output as it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    kind: TensorKind,
    /// How many of the largest values are told with their indexes, in place of the values.
    classes: Option<usize>,
    is_binary: bool,
}

/// The answer of a call.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) id: Option<String>,
    pub(super) model: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) outputs: Vec<OutputTensor>,
}

/// An output tensor.
#[derive(Debug)]
pub(super) struct OutputTensor {
    pub(super) name: &'static str,
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
    /// Whether it goes as bytes.
    pub(super) is_binary: bool,
}

/// The elements of an output tensor, in the order of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Elements {
    /// FP32.
    Floats(Vec<f32>),
    /// BYTES.
    Texts(Vec<String>),
}

impl Elements {
    pub(super) fn datatype(&self) -> &'static str {
        match self {
            Self::Floats(_) => "FP32",
            Self::Texts(_) => "BYTES",
        }
    }

    /// As the binary extension has them.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Texts(texts) => {
                let mut bytes = Vec::with_capacity(texts.iter().map(|text| text.len() + 4).sum());
                for text in texts {
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    bytes.extend_from_slice(&length.to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                bytes
            }
        }
    }
}

impl Asked {
    /// What is asked of a model, and how it is answered. `is_binary` says how outputs go of which nothing is
    /// said.
    pub(super) fn into_request(
        self,
        model: &ModelInfo,
        inputs_max: usize,
        is_binary: bool,
    ) -> Result<(InferRequest, Rendering), ApiError> {
        let is_binary = self.parameters.flag("binary_data_output")?.unwrap_or(is_binary);
        let outputs = wanted(model.task, &self.outputs, is_binary)?;
        let parameters = of_task(model.task, &self.parameters)?;
        let (labels, labels_max) = match &parameters {
            Parameters::Classify(p) => (p.labels.as_ref().unwrap_or(&model.labels).clone(), p.top_k),
            _ => (model.labels.clone(), None),
        };
        let (priority, timeout) = (self.parameters.priority()?, self.parameters.timeout()?);
        let Inputs { list, is_column } = inputs(self.inputs)?;
        let rendering = Rendering { id: self.id, outputs, labels, is_column, labels_max };
        let request = request(model, list, inputs_max, parameters);
        Ok((InferRequest { priority, timeout, ..request }, rendering))
    }
}

/// Inputs for a model, of which one fault fails the call.
pub(super) fn request(
    model: &ModelInfo,
    inputs: Vec<Input>,
    inputs_max: usize,
    parameters: Parameters,
) -> InferRequest {
    InferRequest {
        model: Some(model.name.clone()),
        inputs,
        inputs_max: Some(inputs_max),
        parameters,
        on_error: OnError::Fail,
        priority: Priority::Normal,
        timeout: None,
    }
}

/// The outputs that are asked for, each at most once: an answer is not made larger by naming it often.
fn wanted(task: Task, asked: &[AskedOutput], is_binary: bool) -> Result<Vec<Wanted>, ApiError> {
    let kinds = TensorKind::outputs(task);
    if asked.is_empty() {
        return Ok(kinds.iter().map(|kind| Wanted { kind: *kind, classes: None, is_binary }).collect());
    }
    let mut wanted: Vec<Wanted> = Vec::new();
    for (index, AskedOutput { name, parameters }) in asked.iter().enumerate() {
        let field = format!("outputs[{index}]");
        let Some(&kind) = kinds.iter().find(|kind| kind.name() == name) else {
            let names: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
            return Err(invalid(field, format!("no such output; there are {}", names.join(", "))));
        };
        if wanted.iter().any(|other| other.kind == kind) {
            return Err(invalid(field, "this output was asked for before"));
        }
        if parameters.has("shared_memory_region") {
            return Err(invalid(field, "shared memory is not supported"));
        }
        let classes = parameters.count("classification")?.filter(|count| *count > 0);
        if classes.is_some() && kind.datatype() == "BYTES" {
            return Err(invalid(field, "classification is of numbers, and this output is BYTES"));
        }
        let classes = classes.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let is_binary = parameters.flag("binary_data")?.unwrap_or(is_binary);
        wanted.push(Wanted { kind, classes, is_binary });
    }
    Ok(wanted)
}

impl Rendering {
    /// The tensors of an answer.
    pub(super) fn answer(self, response: InferResponse) -> Result<Answered, ApiError> {
        let InferResponse { model, version, answer, .. } = response;
        let results: Vec<TaskResult> = answer.results.into_iter().collect::<Result<_, _>>()?;
        let indexes: HashMap<&str, usize> =
            self.labels.iter().enumerate().map(|(index, label)| (label.as_str(), index)).collect();
        let outputs = self.outputs.iter().map(|wanted| self.tensor(*wanted, &results, &indexes));
        Ok(Answered { outputs: outputs.collect::<Result<_, _>>()?, id: self.id, model, version })
    }

    fn tensor(
        &self,
        wanted: Wanted,
        results: &[TaskResult],
        indexes: &HashMap<&str, usize>,
    ) -> Result<OutputTensor, ApiError> {
        let Wanted { kind, classes, is_binary } = wanted;
        let rows = results.iter().map(|result| &result.output);
        let elements = match (kind, classes) {
            (_, Some(count)) => {
                Elements::Texts(rows.flat_map(|output| classified(output, count, indexes)).collect())
            }
            (TensorKind::Embedding, None) => {
                let vectors = rows.filter_map(|output| match output {
                    Output::Embedding(vector) => Some(vector.as_slice()),
                    _ => None,
                });
                Elements::Floats(vectors.collect::<Vec<_>>().concat())
            }
            (TensorKind::Score, None) => {
                Elements::Floats(rows.flat_map(|output| self.best(output)).map(|best| best.score).collect())
            }
            (TensorKind::Label, None) => {
                let labels = rows.flat_map(|output| self.best(output));
                Elements::Texts(labels.map(|best| best.label.to_string()).collect())
            }
            (TensorKind::Entities | TensorKind::Summary, None) => {
                Elements::Texts(rows.map(text).collect::<Result<_, _>>()?)
            }
        };
        let shape = self.shape(wanted, results.len(), &elements)?;
        Ok(OutputTensor { name: kind.name(), shape, elements, is_binary })
    }

    /// The labels of an input that are told: the best one, unless more are asked for.
    fn best(&self, output: &Output) -> Vec<LabelScore> {
        match output {
            Output::Labels(labels) => labels.iter().take(self.labels_max.unwrap_or(1)).cloned().collect(),
            Output::Sentiment(mood) => {
                mood.scores.iter().filter(|class| class.label == mood.label).cloned().collect()
            }
            Output::Similarity(score) => {
                vec![LabelScore { label: Arc::from("score"), score: *score, logit: *score }]
            }
            _ => Vec::new(),
        }
    }

    /// One value an input is shaped as the inputs are; several are a row.
    fn shape(&self, wanted: Wanted, rows: usize, elements: &Elements) -> Result<Vec<usize>, ApiError> {
        let count = match elements {
            Elements::Floats(values) => values.len(),
            Elements::Texts(texts) => texts.len(),
        };
        let columns = count.checked_div(rows).unwrap_or_default();
        if columns * rows != count || (columns == 0 && rows > 0) {
            return Err(ApiError::internal("an output is no rectangle"));
        }
        let is_row = wanted.classes.is_some()
            || wanted.kind == TensorKind::Embedding
            || (self.labels_max.is_some() && matches!(wanted.kind, TensorKind::Label | TensorKind::Score));
        Ok(if is_row || self.is_column { vec![rows, columns] } else { vec![rows] })
    }
}

/// What answers an input with a text.
fn text(output: &Output) -> Result<String, ApiError> {
    match output {
        Output::Entities(entities) => serde_json::to_string(entities).map_err(ApiError::internal),
        Output::Summary(summary) => Ok(summary.summary.clone()),
        _ => Err(ApiError::internal("an output of another task")),
    }
}

/// The largest values of an output as Triton's classification extension writes them: `value:index:label`, or
/// without a label where there is none.
fn classified(output: &Output, count: usize, indexes: &HashMap<&str, usize>) -> Vec<String> {
    let labelled = |scores: &[LabelScore]| {
        let mut best: Vec<_> = scores.iter().collect();
        best.sort_by(|a, b| b.score.total_cmp(&a.score));
        let class = |class: &LabelScore| {
            let index = indexes.get(&*class.label).copied().unwrap_or_default();
            format!("{:.6}:{index}:{}", class.score, class.label)
        };
        best.into_iter().take(count).map(class).collect()
    };
    match output {
        Output::Labels(labels) => labelled(labels),
        Output::Sentiment(mood) => labelled(&mood.scores),
        Output::Embedding(vector) => {
            let mut best: Vec<_> = vector.iter().enumerate().collect();
            best.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            best.into_iter().take(count).map(|(index, value)| format!("{value:.6}:{index}")).collect()
        }
        _ => Vec::new(),
    }
}
