//! Cards of classifiers that were learnt on the vectors of a model that is served: its encoder, with a head
//! of their own.

use std::path::Path;

use models_core::card::{Card, CardError, Head, Origin, PoolingHead, ScoreFunction, Sha256Digest};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use sha2::{Digest, Sha256};

/// The file of the head, beside the card.
pub(crate) const HEAD_FILE: &str = "head.safetensors";

/// Fields of the encoder's card that are not its classifier's.
const NOT_TAKEN: [&str; 6] = ["default", "head", "pooling", "prompts", "default_prompt", "zero_shot"];

/// A classifier of the mean of an encoder's hidden states.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LearntClassifier<'a> {
    /// Name of the card and of its folder.
    pub(crate) name: &'a str,
    /// Version of the classifier.
    pub(crate) version: &'a str,
    /// Its classes.
    pub(crate) labels: &'a [String],
    /// What makes scores of its logits.
    pub(crate) score_function: ScoreFunction,
    /// `[labels x hidden]`.
    pub(crate) weights: &'a [f32],
    /// `[labels]`.
    pub(crate) biases: &'a [f32],
    /// What follows the front matter: Markdown.
    pub(crate) page: &'a str,
}

/// Files of a card's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CardFiles {
    /// `README.md`.
    pub(crate) card: String,
    /// [`HEAD_FILE`].
    pub(crate) head: Vec<u8>,
}

impl LearntClassifier<'_> {
    /// Makes its files of the card of the encoder, `encoder`, which lies in `file`.
    ///
    /// # Errors
    /// The encoder's card is no good, its model gives no plain mean of hidden states, or the classifier has a
    /// name or labels that no card may have.
    pub(crate) fn files(&self, encoder: &str, file: &Path) -> Result<CardFiles, CardError> {
        let path = file.display().to_string();
        let folder = file.parent().unwrap_or(Path::new(""));
        let wrong = |field: &str, message: &str| CardError::Field {
            file: path.clone(),
            field: format!("ml_inference.{field}"),
            message: message.to_owned(),
        };
        let base = Card::parse(encoder, &path, folder.to_path_buf())?;
        if base.head != Head::Pooling(PoolingHead::mean()) {
            return Err(wrong(
                "head",
                "is no plain mean of hidden states, on which a classifier could be learnt",
            ));
        }
        if base.adapter.is_some() || matches!(base.source.origin, Origin::Folder(_)) {
            return Err(wrong("source", "has files beside the card, which another card cannot name"));
        }
        let head = self.head().map_err(|error| wrong("head", &error.to_string()))?;
        // It begins with a front matter, or it would be no card.
        let yaml: String =
            encoder.split_inclusive('\n').skip(1).take_while(|line| line.trim_end() != "---").collect();
        // It was read once as a card.
        let mut fields: Value = serde_saphyr::from_str(&yaml)
            .map_err(|error| wrong("name", &error.without_snippet().to_string()))?;
        let manifest = fields["ml_inference"].as_object_mut();
        let manifest = manifest.ok_or_else(|| wrong("name", "is missing"))?;
        NOT_TAKEN.iter().for_each(|field| drop(manifest.remove(*field)));
        manifest.extend([
            ("name".to_owned(), json!(self.name)),
            ("version".to_owned(), json!(self.version)),
            ("task".to_owned(), json!("document-classification")),
            ("labels".to_owned(), json!(self.labels)),
            ("score_function".to_owned(), json!(self.score_function.as_str())),
            (
                "head".to_owned(),
                json!({
                    "kind": "sequence_classification",
                    "file": HEAD_FILE,
                    "sha256": digest(&head).to_string(),
                }),
            ),
        ]);
        // JSON is YAML, and needs no rules of its own for what has to be quoted.
        let front_matter = serde_json::to_string_pretty(&json!({
            "license": fields["license"],
            "base_model": fields["base_model"],
            "pipeline_tag": "text-classification",
            "ml_inference": fields["ml_inference"],
        }))
        .map_err(|error| wrong("labels", &error.to_string()))?;
        let card = format!("---\n{front_matter}\n---\n{}", self.page);
        // What the server would refuse is not written.
        Card::parse(&card, self.name, Path::new(self.name).to_path_buf())?;
        Ok(CardFiles { card, head })
    }

    fn head(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (weights, biases) = (bytes(self.weights), bytes(self.biases));
        let classes = self.biases.len();
        let columns = self.weights.len() / classes.max(1);
        let tensors = [
            ("classifier.weight", TensorView::new(Dtype::F32, vec![classes, columns], &weights)?),
            ("classifier.bias", TensorView::new(Dtype::F32, vec![classes], &biases)?),
        ];
        safetensors::serialize(tensors, None)
    }
}

fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ENCODER: &str = r#"---
license: apache-2.0
base_model: maker/encoder
ml_inference:
  name: embeddings-x
  version: "2.0.0"
  task: embeddings
  default: true
  architecture: bert
  runtime: fused
  dtype: bfloat16
  source:
    repository: maker/encoder
    revision: c9745ed1d9f207416be6d2e6f8de32d1f16199bf
    files:
      model.safetensors: { sha256: 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db }
      tokenizer.json: { sha256: be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037 }
      config.json: { sha256: 953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41 }
  head: { kind: mean_pooling }
  limits: { tokens_max: 512, window_overlap: 64, document_tokens_max: 20000, inputs_max: 128 }
  p99_target_ms: 20
  price_per_1000_requests_usd: "0.02"
---
# embeddings-x
"#;

    fn files(name: &str, labels: &[&str], encoder: &str) -> Result<CardFiles, CardError> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let learnt = LearntClassifier {
            name,
            version: "1.0.0",
            labels: &labels,
            score_function: ScoreFunction::Sigmoid,
            weights: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            biases: &[0.5, -0.5],
            page: "# mine\n",
        };
        learnt.files(encoder, Path::new("embeddings-x/README.md"))
    }

    #[test]
    fn a_card_of_its_own_on_the_same_encoder() {
        let labels = ["yes: \"#1\"", "no\n---\nlicense: none"];
        let files = files("mine", &labels, ENCODER).unwrap();
        let card = Card::parse(&files.card, "mine/README.md", "mine".into()).unwrap();
        let encoder = Card::parse(ENCODER, "embeddings-x/README.md", "embeddings-x".into()).unwrap();
        assert_eq!((card.name.as_str(), card.version.as_str()), ("mine", "1.0.0"));
        assert_eq!(card.labels, labels);
        assert_eq!(
            (card.task, card.score_function),
            (models_core::card::Task::Classify, ScoreFunction::Sigmoid)
        );
        assert_eq!(
            (&card.source, card.dtype, &card.limits),
            (&encoder.source, encoder.dtype, &encoder.limits)
        );
        let head = card.head.weights().unwrap();
        assert_eq!(head.sha256, digest(&files.head));
        let tensors = safetensors::SafeTensors::deserialize(&files.head).unwrap();
        let weight = tensors.tensor("classifier.weight").unwrap();
        assert_eq!((weight.shape(), &weight.data()[20..]), (&[2, 3][..], &6.0_f32.to_le_bytes()[..]));
        assert_eq!(tensors.tensor("classifier.bias").unwrap().shape(), [2]);
        assert!(files.card.ends_with("\n---\n# mine\n"));
    }

    #[test]
    fn what_no_card_may_have_is_refused() {
        let message = |result: Result<CardFiles, CardError>| result.unwrap_err().to_string();
        assert!(message(files("Mine", &["a", "b"], ENCODER)).contains("ml_inference.name"));
        assert!(message(files("mine", &["a", "a"], ENCODER)).contains("ml_inference.labels"));
        let cls = ENCODER.replace("{ kind: mean_pooling }", "{ kind: pooling, pooling: [cls] }");
        assert!(message(files("mine", &["a", "b"], &cls)).contains("ml_inference.head"), "{cls}");
        assert!(message(files("mine", &["a", "b"], "no card")).contains("front matter"));
    }
}
