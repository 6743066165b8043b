#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use models_core::card::{Head, Module, Pooling, PoolingHead, ScoreFunction, ZeroShotMethod};
use tempfile::TempDir;

use super::*;

/// A folder with these files, a tokenizer and weights that nobody reads.
fn folder(files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    }
    for name in [TOKENIZER_FILE, WEIGHTS_FILE] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    folder
}

/// A `config.json` of BERT with these keys as well.
fn config(class: &str, more: &Value) -> (&'static str, Value) {
    let mut config = json!({
        "model_type": "bert", "architectures": [class], "vocab_size": 30, "hidden_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "hidden_act": "gelu",
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (CONFIG_FILE, config)
}

fn inferred(folder: &TempDir, asked: &str) -> Result<Card, String> {
    let wanted: Wanted = format!("{},name=m{asked}", folder.path().display()).parse().unwrap();
    card(&wanted, folder.path(), None)
        .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "FOLDER"))
}

fn labels(names: &[&str]) -> Value {
    let named = names.iter().enumerate().map(|(number, name)| (number.to_string(), json!(name)));
    json!({ "id2label": Value::Object(named.collect()) })
}

#[test]
fn classifiers() {
    let sequence = "BertForSequenceClassification";
    let check = |class: &str, more: Value, task: Task, names: &[&str], function: ScoreFunction| {
        let card = inferred(&folder(&[config(class, &more)]), "").unwrap();
        assert_eq!((card.task, card.score_function), (task, function), "{more}");
        assert_eq!(card.labels, names, "{more}");
        assert!(card.head.is_of_checkpoint());
    };
    // Numbers are numbers: 10 comes after 9.
    let eleven: Vec<String> = (0..11).map(|number| format!("L{number}")).collect();
    let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
    check(sequence, labels(&eleven), Task::Classify, &eleven, ScoreFunction::Softmax);
    check(sequence, json!({}), Task::Classify, &["LABEL_0", "LABEL_1"], ScoreFunction::Softmax);
    let multi = json!({ "id2label": {"0": "a", "1": "b"}, "problem_type": "multi_label_classification" });
    check(sequence, multi, Task::Classify, &["a", "b"], ScoreFunction::Sigmoid);
    let regression = json!({ "id2label": {"0": "a", "1": "b"}, "problem_type": "regression" });
    check(sequence, regression, Task::Classify, &["a", "b"], ScoreFunction::Identity);
    check(sequence, labels(&["LABEL_0"]), Task::Rerank, &["LABEL_0"], ScoreFunction::Sigmoid);
    for key in ["sbert_ce_default_activation_function", "sentence_transformers"] {
        let name = json!("torch.nn.modules.linear.Identity");
        let value = if key == "sentence_transformers" { json!({ "activation_fn": name }) } else { name };
        let more = json!({ "id2label": {"0": "LABEL_0"}, key: value.clone() });
        check(sequence, more, Task::Rerank, &["LABEL_0"], ScoreFunction::Identity);
        let more = json!({ "id2label": {"0": "a", "1": "b"}, key: value });
        check(sequence, more, Task::Classify, &["a", "b"], ScoreFunction::Softmax);
    }
    let tags = ["O", "B-GENE", "I-GENE"];
    check("BertForTokenClassification", labels(&tags), Task::Entities, &tags, ScoreFunction::Softmax);
}

#[test]
fn every_row_has_a_label() {
    let check = |id2label: Value| {
        let more = json!({ "id2label": id2label });
        let error = inferred(&folder(&[config("BertForSequenceClassification", &more)]), "").unwrap_err();
        assert_eq!(error, "FOLDER/config.json: id2label has no text for the row 1");
    };
    check(json!({ "0": "a", "2": "b" }));
    check(json!({ "0": "a", "99999999999": "b" }));
    check(json!({ "0": "a", "1": null }));
}

#[test]
fn modules_lie_in_the_folder() {
    let check = |modules: Value, expected: &str| {
        let files = [config("BertModel", &json!({})), (MODULES_FILE, modules)];
        assert_eq!(inferred(&folder(&files), "").unwrap_err(), format!("FOLDER/modules.json: {expected}"));
    };
    let pooling = |path: &str| json!({ "path": path, "type": "sentence_transformers.models.Pooling" });
    check(json!([pooling("../1_Pooling")]), "path \"../1_Pooling\" is not within the folder");
    check(json!([pooling("/1_Pooling")]), "path \"/1_Pooling\" is not within the folder");
    check(json!([]), "lists no module Pooling: vectors of single texts are made by one");
    check(json!(vec![pooling("p"); 65]), "lists 65 modules; at most 64 are computed");
}

#[test]
fn judges_of_entailment_take_labels() {
    let names = ["contradiction", "entailment", "neutral"];
    let card = inferred(&folder(&[config("BertForSequenceClassification", &labels(&names))]), "").unwrap();
    let zero_shot = card.zero_shot.unwrap();
    let expected = ZeroShotMethod::Entailment { entailment: 1, contradiction: 0 };
    assert_eq!(zero_shot.method, expected);
}

#[test]
fn limits_are_the_shortest() {
    let check = |tokenizer: Value, reading: Value, expected: usize| {
        let files = [
            config("BertForSequenceClassification", &json!({})),
            (TOKENIZER_CONFIG_FILE, tokenizer.clone()),
            (READING_FILE, reading),
        ];
        assert_eq!(inferred(&folder(&files), "").unwrap().limits.tokens_max, expected, "{tokenizer}");
    };
    check(json!({}), json!({}), 512);
    check(json!({ "model_max_length": 256 }), json!({}), 256);
    check(json!({ "model_max_length": 1e30 }), json!({ "max_seq_length": 128 }), 128);
    check(json!({ "model_max_length": 2048 }), json!({ "max_seq_length": null }), 512);
}

#[test]
fn what_is_not_told_is_asked_for() {
    let check = |files: &[(&str, Value)], asked: &str, expected: &str| {
        assert_eq!(inferred(&folder(files), asked).unwrap_err(), expected);
    };
    check(
        &[config("BertModel", &json!({}))],
        "",
        "FOLDER: how vectors are made cannot be told from the files: add pooling=… to the model, cls, max, mean, \
         mean_sqrt_len_tokens, weightedmean or lasttoken, as its authors say",
    );
    check(
        &[config("BertForQuestionAnswering", &json!({}))],
        "",
        "FOLDER: the task cannot be told from the files: add task=… to the model, one of document-classification, \
         sentiment, entities, summarization, embeddings, rerank",
    );
    check(
        &[config("BertForSequenceClassification", &json!({ "model_type": "t5" }))],
        "",
        "model_type \"t5\" is not supported; supported: bert, roberta, distilbert, mpnet, electra, albert, deberta-v2, \
         modernbert, nomic_bert, new, jina_bert, qwen2, qwen3, xlm-roberta, camembert, gte",
    );
    check(&[], "", "FOLDER/config.json: No such file or directory (os error 2)");
    let classifier = config("BertForSequenceClassification", &json!({}));
    let folder = folder(std::slice::from_ref(&classifier));
    fs::rename(folder.path().join(WEIGHTS_FILE), folder.path().join("pytorch_model.bin")).unwrap();
    let error = inferred(&folder, "").unwrap_err();
    assert!(
        error.starts_with("FOLDER/model.safetensors: is missing, and pytorch_model.bin is not read"),
        "{error}"
    );
}

#[test]
fn numbers_have_bounds() {
    let check = |more: Value, expected: &str| {
        let error = inferred(&folder(&[config("BertForSequenceClassification", &more)]), "").unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(json!({ "hidden_size": 1_u64 << 40 }), "hidden_size 1099511627776 is above 16777216");
    check(
        json!({ "hidden_size": 1 << 22, "num_attention_heads": 1 << 22 }),
        "hidden_size 4194304 is above 1048576",
    );
    check(json!({ "num_hidden_layers": 100_000 }), "num_hidden_layers 100000 is above 1024");
    check(
        json!({ "max_position_embeddings": 10_000_000 }),
        "max_position_embeddings 10000000 is above 1048576",
    );
    check(json!({ "max_position_embeddings": -1 }), "max_position_embeddings: invalid value: integer `-1`");
    check(json!({ "vocab_size": 1e12 }), "vocab_size: invalid type: floating point `1000000000000.0`");
    let many = config("BertForSequenceClassification", &json!({ "num_labels": 1_u64 << 60 }));
    assert_eq!(inferred(&folder(&[many]), "").unwrap().labels.len(), 65_536);
}

#[test]
fn vectors_are_made_as_modules_say() {
    let of = |kind: &str| format!("sentence_transformers.models.{kind}");
    let modules = json!([
        { "idx": 0, "name": "0", "path": "", "type": of("Transformer") },
        { "idx": 1, "name": "1", "path": "1_Pooling", "type": of("Pooling") },
        { "idx": 2, "name": "2", "path": "2_Dense", "type": of("Dense") },
        { "idx": 3, "name": "3", "path": "3_Normalize", "type": of("Normalize") },
    ]);
    let check = |config: Value, pooling: &[Pooling], includes_prompt: bool| {
        let files = [
            self::config("BertModel", &json!({})),
            (MODULES_FILE, modules.clone()),
            ("1_Pooling/config.json", config),
            ("2_Dense/config.json", json!({ "in_features": 8 })),
            (PROMPTS_FILE, json!({ "prompts": { "query": "q: " }, "default_prompt_name": null })),
        ];
        let folder = folder(&files);
        // The file that is read for what surrounds the encoder.
        let tensors: Vec<(String, safetensors::tensor::TensorView<'_>)> = Vec::new();
        let bytes = safetensors::serialize(tensors, None).unwrap();
        fs::write(folder.path().join(WEIGHTS_FILE), bytes).unwrap();
        let card = inferred(&folder, "").unwrap();
        let modules = vec![Module::Dense("2_Dense".into()), Module::Normalize];
        let head = PoolingHead { pooling: pooling.to_vec(), includes_prompt, modules };
        assert_eq!(card.head, Head::Pooling(head));
        assert_eq!(card.prompts.texts["query"], "q: ");
        let listed = ["1_Pooling/config.json", "2_Dense/config.json", MODULES_FILE, PROMPTS_FILE];
        assert!(listed.iter().all(|file| card.source.files.contains_key(*file)));
    };
    check(
        json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false }),
        &[Pooling::Cls],
        true,
    );
    check(
        json!({ "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true, "include_prompt": false }),
        &[Pooling::Cls, Pooling::Mean],
        false,
    );
    check(json!({ "pooling_mode": "lasttoken" }), &[Pooling::LastToken], true);
    check(json!({ "pooling_mode": ["mean", "max"] }), &[Pooling::Mean, Pooling::Max], true);
}
