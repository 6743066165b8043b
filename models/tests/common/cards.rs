//! Folders of cards of small random models, each with its files beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};

use models::{
    Catalog, CatalogConfig, Device, DeviceConfig, HiddenActivation, LoadError, ModelState, NoProgress,
    open_device,
};
use sha2::{Digest, Sha256};

use crate::random::{self, Random, Tensors};

pub const CONFIG: &str = r#"{
    "vocab_size": 50, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "max_position_embeddings": 32, "type_vocab_size": 2,
    "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0, "model_type": "bert"
}"#;

pub const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": { "type": "Whitespace" }, "decoder": null,
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            { "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
            { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }
        ],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": {
            "[CLS]": { "id": "[CLS]", "ids": [1], "tokens": ["[CLS]"] },
            "[SEP]": { "id": "[SEP]", "ids": [2], "tokens": ["[SEP]"] }
        }
    },
    "model": { "type": "WordLevel", "unk_token": "[UNK]",
               "vocab": { "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5 } }
}"#;

pub const LABELS: usize = 3;

/// A folder of cards. Each card has its files beside it, so that a test can spoil one model only.
pub struct Cards {
    pub folder: tempfile::TempDir,
}

/// What a card says where tests differ.
#[derive(Clone)]
pub struct Spec {
    pub name: &'static str,
    pub task: &'static str,
    pub head: &'static str,
    pub fields: String,
    pub encoder: Tensors,
    pub head_tensors: Option<Tensors>,
    pub config: String,
    pub tokenizer: String,
    /// Other files in the folder of the source, which the card does not name.
    pub beside: Vec<(&'static str, String)>,
}

impl Spec {
    pub fn embedder(name: &'static str) -> Self {
        Self {
            name,
            task: "embeddings",
            head: "mean_pooling",
            fields: String::new(),
            encoder: encoder_tensors(),
            head_tensors: None,
            config: CONFIG.to_owned(),
            tokenizer: TOKENIZER.to_owned(),
            beside: Vec::new(),
        }
    }

    pub fn classifier(name: &'static str, task: &'static str, head: &'static str) -> Self {
        let labels = if head == "token_classification" { "[O, B-X, I-X]" } else { "[one, two, three]" };
        let fields = format!("  labels: {labels}\n");
        Self { task, head, fields, head_tensors: Some(head_tensors(false)), ..Self::embedder(name) }
    }
}

pub fn encoder_tensors() -> Tensors {
    random::encoder_tensors(&mut Random::new(11), &random::config(HiddenActivation::Gelu))
}

pub fn device() -> Device {
    open_device(DeviceConfig { threads: 1, ..DeviceConfig::default() }).unwrap()
}

pub fn head_tensors(has_dense: bool) -> Tensors {
    let mut random = Random::new(12);
    let mut shapes: Vec<(&str, Vec<usize>)> =
        vec![("classifier.weight", vec![LABELS, 12]), ("classifier.bias", vec![LABELS])];
    if has_dense {
        shapes.extend([("dense.weight", vec![12, 12]), ("dense.bias", vec![12])]);
    }
    shapes.into_iter().map(|(name, shape)| (name.to_owned(), random.tensor(&shape, 0.5))).collect()
}

impl Cards {
    pub fn new(specs: &[Spec]) -> Self {
        let cards = Self { folder: tempfile::tempdir().unwrap() };
        specs.iter().for_each(|spec| cards.add(spec));
        cards
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn add(&self, spec: &Spec) {
        let card = self.path(spec.name);
        let files = card.join("files");
        fs::create_dir_all(&files).unwrap();
        candle_core::safetensors::save(&spec.encoder, files.join("model.safetensors")).unwrap();
        fs::write(files.join("config.json"), &spec.config).unwrap();
        fs::write(files.join("tokenizer.json"), &spec.tokenizer).unwrap();
        for (file, text) in &spec.beside {
            let path = files.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut head = format!("kind: {}", spec.head);
        if let Some(tensors) = &spec.head_tensors {
            candle_core::safetensors::save(tensors, card.join("head.safetensors")).unwrap();
            head += &format!(", file: head.safetensors, sha256: {}", sha256(&card.join("head.safetensors")));
        }
        let sources: String = ["model.safetensors", "tokenizer.json", "config.json"]
            .map(|file| format!("      {file}: {{ sha256: {} }}\n", sha256(&files.join(file))))
            .concat();
        let Spec { name, task, fields, .. } = spec;
        let mut text = format!(
            "---\nlicense: mit\nml_inference:\n  name: {name}\n  version: \"1\"\n  task: {task}\n\
            \x20 architecture: bert\n  runtime: candle\n  dtype: float32\n  source:\n    folder: files\n\
            \x20   files:\n{sources}  head: {{ {head} }}\n\
            \x20 limits: {{ tokens_max: 32, window_overlap: 4, document_tokens_max: 100, inputs_max: 4 }}\n\
            \x20 p99_target_ms: 10\n  price_per_1000_requests_usd: \"0.01\"\n"
        );
        // A field given again replaces the one above.
        for line in fields.lines() {
            let key = line.split_inclusive(':').next().unwrap();
            text = text
                .lines()
                .filter(|other| !other.starts_with(key))
                .map(|line| format!("{line}\n"))
                .collect();
            text += &format!("{line}\n");
        }
        fs::write(card.join("README.md"), text + "---\n# A card\n").unwrap();
    }

    pub fn config(&self) -> CatalogConfig {
        let data_dir = self.folder.path().join("data");
        let cards_dir = self.folder.path().to_path_buf();
        CatalogConfig { cards_dir, data_dir, offline: true, ..CatalogConfig::default() }
    }

    pub fn load(&self) -> Result<Catalog, LoadError> {
        Catalog::load(&self.config(), &NoProgress)
    }
}

pub fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn reason(catalog: &Catalog, name: &str) -> String {
    match &catalog.find(name).unwrap().state {
        ModelState::Unavailable { reason } => reason.clone(),
        state => panic!("{name} is {}", state.name()),
    }
}
