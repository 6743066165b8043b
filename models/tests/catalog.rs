//! A catalog of small random models: what loads, and why the rest does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/random.rs"]
mod random;

#[path = "common/cards.rs"]
mod cards;

use std::fs;

use batching::Executor;
use candle_core::Tensor;
use cards::{CONFIG, Cards, LABELS, Spec, TOKENIZER, device, encoder_tensors, head_tensors, reason, sha256};
use models::tasks::{ClassifyParameters, Parameters};
use models::{
    CardOverride, Catalog, CatalogConfig, HiddenActivation, LoadError, ModelState, NoDefault, NoProgress,
    RejectedCard, Sequence, Task,
};
use random::{Random, Tensors, difference, fused, hidden_states, identity};
use units::ModelId;

#[test]
fn models_are_numbered_by_name_and_found() {
    let cards = Cards::new(&[
        Spec::embedder("z-embedder"),
        Spec::classifier("m-tagger", "entities", "token_classification"),
        Spec::classifier("a-mood", "sentiment", "sequence_classification"),
    ]);
    fs::create_dir(cards.path("..data")).unwrap();
    fs::write(cards.path("NOTES.md"), "not a model").unwrap();
    let catalog = cards.load().unwrap();
    let names: Vec<_> = catalog.models().iter().map(|entry| (entry.id.0, entry.card.name.as_str())).collect();
    assert_eq!(names, [(0, "a-mood"), (1, "m-tagger"), (2, "z-embedder")]);
    assert!(catalog.models().iter().all(|entry| entry.is_loaded()));
    assert_eq!(catalog.rejected(), []);
    assert!(catalog.find("other").is_none());
}

#[test]
fn a_folder_without_a_card_is_a_model_that_is_missing() {
    let check = |make: fn(&std::path::Path)| {
        let cards = Cards::new(&[Spec::embedder("embedder")]);
        make(&cards.path("missing"));
        let catalog = cards.load().unwrap();
        assert_eq!(catalog.models().len(), 1);
        let unready = catalog.unready();
        assert_eq!(unready.len(), 1);
        assert_eq!(unready[0].name, "missing");
        assert!(unready[0].reason.contains("README.md"), "{}", unready[0].reason);
    };
    check(|path| fs::create_dir(path).unwrap());
    check(|path| std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap());
    check(|path| {
        fs::create_dir(path).unwrap();
        std::os::unix::fs::symlink("/nowhere/README.md", path.join("README.md")).unwrap();
    });
}

#[test]
fn a_folder_of_something_else_is_no_model() {
    let cards = Cards::new(&[Spec::embedder("embedder")]);
    for empty in ["__pycache__", "Drafts", ".git"] {
        fs::create_dir(cards.path(empty)).unwrap();
    }
    fs::create_dir(cards.path("scripts")).unwrap();
    fs::write(cards.path("scripts/train.py"), "").unwrap();
    let catalog = cards.load().unwrap();
    assert_eq!((catalog.models().len(), catalog.unready().len()), (1, 0));
}

#[test]
fn heads_are_computed_in_the_runtime() {
    let mut with_dense = Spec::classifier("c-dense", "sentiment", "sequence_classification");
    with_dense.head_tensors = Some(head_tensors(true));
    let catalog = Cards::new(&[
        Spec::embedder("a-pooled"),
        Spec::classifier("b-plain", "sentiment", "sequence_classification"),
        with_dense,
        Spec::classifier("d-tokens", "entities", "token_classification"),
    ])
    .load()
    .unwrap();
    let sequences = [vec![1, 3, 4, 5, 2], vec![1, 7, 2]].map(Sequence::new);
    let weights = random::weights(&encoder_tensors(), &random::config(HiddenActivation::Gelu));
    let mut encoder = fused(&weights, None, &identity(12), "float32", "portable", 1).unwrap();
    let hidden = hidden_states(&mut *encoder, &sequences);
    let mut executor = catalog.executor(&device()).unwrap();
    for (sequence, hidden) in hidden.iter().enumerate() {
        let rows: Vec<&[f32]> = hidden.chunks(12).collect();
        let mean: Vec<f32> = (0..12)
            .map(|column| rows.iter().map(|row| row[column]).sum::<f32>() / rows.len() as f32)
            .collect();
        let inner: Vec<f32> =
            linear(&head_tensors(true), "dense", &mean).into_iter().map(f32::tanh).collect();
        let per_token: Vec<f32> =
            rows.iter().flat_map(|row| linear(&head_tensors(false), "classifier", row)).collect();
        let expected = [
            (0, 12, mean.clone()),
            (1, LABELS, linear(&head_tensors(false), "classifier", &mean)),
            (2, LABELS, linear(&head_tensors(true), "classifier", &inner)),
            (3, LABELS, per_token),
        ];
        for (model, columns, expected) in expected {
            let outputs = executor.execute(ModelId(model), &sequences).unwrap_or_else(|error| {
                panic!("{}", error.source);
            });
            assert_eq!(outputs[sequence].columns, columns);
            let difference = difference(&outputs[sequence].values, &expected);
            assert!(difference < 1e-5, "model {model}: {difference}");
        }
    }
}

fn linear(tensors: &Tensors, name: &str, row: &[f32]) -> Vec<f32> {
    let weight: Vec<Vec<f32>> = tensors[&format!("{name}.weight")].to_vec2().unwrap();
    let bias: Vec<f32> = tensors[&format!("{name}.bias")].to_vec1().unwrap();
    weight.iter().zip(bias).map(|(w, b)| w.iter().zip(row).map(|(w, x)| w * x).sum::<f32>() + b).collect()
}

/// Adds a model that is spoilt in one way; it must be unavailable for this reason, and the good one loaded.
fn check(spoil: impl FnOnce(&mut Spec), message: &str) {
    let mut spec = Spec::classifier("spoilt", "sentiment", "sequence_classification");
    spoil(&mut spec);
    let catalog = Cards::new(&[spec, Spec::embedder("good")]).load().unwrap();
    let found = reason(&catalog, "spoilt");
    assert!(found.contains(message), "{message:?} is not in {found:?}");
    assert!(catalog.find("good").unwrap().is_loaded());
    let mut executor = catalog.executor(&device()).unwrap();
    let sequences = vec![Sequence::new(vec![1, 2])];
    let id = |name| catalog.find(name).unwrap().id;
    assert_eq!(executor.execute(id("good"), &sequences).unwrap().len(), 1);
    assert!(!executor.execute(id("spoilt"), &sequences).unwrap_err().is_fatal);
}

#[test]
fn what_is_not_supported_is_named() {
    // What nobody knows makes the card unreadable; what this model cannot be computed in, the model
    // unavailable.
    for (field, message) in [
        ("runtime: abacus", "runtime \"abacus\" is not supported; supported: candle, fused, onnx"),
        ("architecture: lstm", "architecture \"lstm\" is not supported; supported: bert, roberta"),
        ("dtype: int4", "dtype \"int4\" is not supported; supported: float32"),
    ] {
        let mut spec = Spec::classifier("spoilt", "sentiment", "sequence_classification");
        spec.fields += &format!("  {field}\n");
        let catalog = Cards::new(&[spec, Spec::embedder("good")]).load().unwrap();
        let RejectedCard { name, reason, .. } = &catalog.rejected()[0];
        let (field, _) = field.split_once(':').unwrap();
        assert!(name == "spoilt" && reason.contains(&format!("ml_inference.{field}: ")), "{reason}");
        assert!(reason.contains(message), "{message:?} is not in {reason:?}");
        assert!(catalog.find("spoilt").is_none() && catalog.find("good").unwrap().is_loaded());
    }
    let message = "dtype \"float16\" is not supported; supported: float32";
    check(|spec| spec.fields += "  dtype: float16\n", message);
}

#[test]
fn files_that_do_not_fit_are_named() {
    check(
        |spec| drop(spec.encoder.remove("encoder.layer.1.attention.self.key.weight")),
        "tensor encoder.layer.1.attention.self.key.weight is missing",
    );
    let wide = |spec: &mut Spec| spec.config = CONFIG.replace("\"hidden_size\": 12", "\"hidden_size\": 15");
    check(wide, "has shape [50, 12], expected [50, 15]");
    check(|spec| spec.config = CONFIG.replace("bert", "roberta"), "model_type is \"roberta\"");
    check(|spec| spec.config = CONFIG.replace("model_type", "kind"), "model_type is missing");
    check(
        |spec| {
            spec.config =
                CONFIG.replace("\"pad_token_id\": 0", "\"position_embedding_type\": \"relative_key\"");
        },
        "position_embedding_type \"relative_key\" is not supported",
    );
    check(
        |spec| spec.config = CONFIG.replace("\"gelu\"", "\"quick_gelu\""),
        "config.json: hidden_act: unknown variant `quick_gelu`",
    );
    check(|spec| spec.config = "{}".to_owned(), "config.json: model_type is missing");
    check(|spec| spec.tokenizer = "{}".to_owned(), "tokenizer.json");
    check(
        |spec| {
            spec.tokenizer = TOKENIZER.replace("\"c\": 5", "\"c\": 5, \"d\": 60").replace("\"b\": 4, ", "");
        },
        "vocabulary of the tokenizer 61 is more than the encoder's 50",
    );
    check(
        |spec| {
            spec.fields +=
                "  limits: { tokens_max: 33, window_overlap: 4, document_tokens_max: 100, inputs_max: 4 }\n";
        },
        "limits.tokens_max 33 is more than the encoder's 32",
    );
}

/// Which model answers where none is named is stated, never found by order, and never replaced.
#[test]
fn defaults_are_stated() {
    let default = |mut spec: Spec| {
        spec.fields += "  default: true\n";
        spec
    };
    let load = |specs: &[Spec], configured: Option<&str>| {
        let cards = Cards::new(specs);
        let config = CatalogConfig {
            cards_dir: cards.folder.path().to_path_buf(),
            data_dir: cards.path("data"),
            offline: true,
            defaults: configured.map(|name| (Task::Embed, name.to_owned())).into_iter().collect(),
            ..CatalogConfig::default()
        };
        Catalog::load(&config, &NoProgress)
    };
    let (a, b) = (Spec::embedder("a"), Spec::embedder("b"));
    let named = |catalog: &Catalog| catalog.default_for(Task::Embed).map(|entry| entry.card.name.clone());
    let unstated =
        NoDefault::Unstated { task: Task::Embed, candidates: vec!["a".to_owned(), "b".to_owned()] };
    assert_eq!(named(&load(&[a.clone(), b.clone()], None).unwrap()), Err(unstated));
    assert_eq!(named(&load(&[a.clone(), default(b.clone())], None).unwrap()), Ok("b".to_owned()));
    assert_eq!(named(&load(&[a.clone(), default(b.clone())], Some("a")).unwrap()), Ok("a".to_owned()));
    let two = [default(a.clone()), default(b.clone())];
    let error = load(&two, None).err().unwrap().to_string();
    assert!(error.contains("a and b") && error.contains("defaults.embeddings"), "{error}");
    assert_eq!(named(&load(&two, Some("b")).unwrap()), Ok("b".to_owned()));
    let error = load(&two, Some("c")).err().unwrap().to_string();
    assert!(error.contains("no model \"c\"; there are cards for a, b"), "{error}");
    let mood = Spec::classifier("mood", "sentiment", "sequence_classification");
    let error = load(&[a.clone(), mood], Some("mood")).err().unwrap().to_string();
    assert!(error.contains("model \"mood\" does sentiment"), "{error}");
    // One that does not load stays the default.
    let mut spoilt = default(b);
    spoilt.config = "{}".to_owned();
    let catalog = load(&[a, spoilt], None).unwrap();
    assert!(!catalog.default_for(Task::Embed).unwrap().is_loaded());
    assert_eq!(named(&catalog), Ok("b".to_owned()));
}

/// Whose default it is does not depend on whether a card can be read: no other card takes over what one that
/// cannot may have claimed.
#[test]
fn a_default_whose_card_cannot_be_read_is_nobody_elses() {
    let default = |mut spec: Spec| {
        spec.fields += "  default: true\n";
        spec
    };
    let broken = |lines: &str| format!("---\nml_inference:\n  name: broken\n{lines}\n---\n");
    let load = |text: &str, others: &[Spec], configured: Option<(Task, &str)>| {
        let cards = Cards::new(others);
        fs::create_dir(cards.path("broken")).unwrap();
        fs::write(cards.path("broken/README.md"), text).unwrap();
        let config = CatalogConfig {
            cards_dir: cards.folder.path().to_path_buf(),
            data_dir: cards.path("data"),
            offline: true,
            defaults: configured.into_iter().map(|(task, name)| (task, name.to_owned())).collect(),
            ..CatalogConfig::default()
        };
        Catalog::load(&config, &NoProgress)
    };
    let answers = |catalog: &Catalog, task: Task| match catalog.default_for(task) {
        Ok(entry) => entry.card.name.clone(),
        Err(NoDefault::Rejected { name, reason }) => {
            assert!(name == "broken" && reason.contains("README.md"), "{name}: {reason}");
            name
        }
        Err(NoDefault::Unstated { candidates, .. }) => format!("{candidates:?}"),
    };
    let (plain, stated) = (Spec::embedder("a"), default(Spec::embedder("a")));
    let mood = default(Spec::classifier("mood", "sentiment", "sequence_classification"));
    let topics = default(Spec::classifier("topics", "document-classification", "sequence_classification"));
    let (embed, sort) = (Task::Embed, Task::Classify);
    // What the broken card says, the others, and who answers for which task.
    for (lines, others, expected) in [
        // It says its task, and whether it is the default.
        (
            "  task: embeddings\n  default: true # ours\n  limits: {",
            vec![&plain],
            [(embed, "broken"), (sort, "[]")],
        ),
        ("  task: embeddings\n  limits: {", vec![&plain], [(embed, "[\"a\"]"), (sort, "[]")]),
        ("  task: embeddings\n  limits: {", vec![&stated], [(embed, "a"), (sort, "[]")]),
        ("  task: sentiment\n  default: true", vec![&stated], [(embed, "a"), (Task::Sentiment, "broken")]),
        (
            "  task: \"sentiment\"\n  unknown: 1",
            vec![&plain],
            [(embed, "[\"a\"]"), (Task::Sentiment, "broken")],
        ),
        // It is a default, and its task can be guessed.
        (
            "  task: embeddingz\n  default: true",
            vec![&stated, &mood],
            [(embed, "broken"), (Task::Sentiment, "mood")],
        ),
        ("  task: embeddingz\n  default: true", vec![&plain], [(embed, "broken"), (sort, "[]")]),
        ("  task: embeddingz\n  default: false", vec![&stated], [(embed, "a"), (sort, "[]")]),
        // Several tasks may be meant: those that nobody has.
        (
            "  head: { kind: sequence_classification }\n  default: true",
            vec![&stated, &mood],
            [(sort, "broken"), (Task::Sentiment, "mood")],
        ),
        (
            "  head: { kind: sequence_classification }\n  default: true",
            vec![&topics, &mood],
            [(sort, "topics"), (Task::Rerank, "broken")],
        ),
        // Whether it is a default is lost: what others state is theirs.
        ("  task: embeddings\n  default: ture", vec![&plain], [(embed, "broken"), (sort, "[]")]),
        ("  task: embeddings\n  default: ture", vec![&stated], [(embed, "a"), (sort, "[]")]),
    ] {
        let others: Vec<Spec> = others.into_iter().cloned().collect();
        let catalog = load(&broken(lines), &others, None).unwrap();
        for (task, name) in expected {
            assert_eq!(answers(&catalog, task), name, "{task} beside {lines:?}");
        }
    }
    // It says nothing at all.
    for text in ["", "# A model\n", "---\nml_infer"] {
        let catalog = load(text, &[plain.clone(), mood.clone()], None).unwrap();
        assert_eq!(
            [embed, sort, Task::Sentiment].map(|task| answers(&catalog, task)),
            ["broken", "broken", "mood"]
        );
    }
    // Two claim one task: an error, as if both could be read; unless the configuration decides.
    let both = broken("  task: embeddings\n  default: true\n  limits: {");
    let error = load(&both, std::slice::from_ref(&stated), None).err().unwrap().to_string();
    assert!(error.contains("a and broken") && error.contains("defaults.embeddings"), "{error}");
    for (name, expected) in [("a", "a"), ("broken", "broken")] {
        let catalog = load(&both, std::slice::from_ref(&stated), Some((embed, name))).unwrap();
        assert_eq!(answers(&catalog, embed), expected);
    }
    let error = load(&both, &[plain, mood], Some((Task::Sentiment, "broken"))).err().unwrap().to_string();
    assert!(error.contains("model \"broken\" does embeddings"), "{error}");
}

#[test]
fn required_models_that_do_not_serve_are_told() {
    let mut spoilt = Spec::embedder("spoilt");
    spoilt.config = "{}".to_owned();
    let mut dispensable = Spec { name: "dispensable", ..spoilt.clone() };
    dispensable.fields += "  required: false\n";
    let cards = Cards::new(&[Spec::embedder("good"), spoilt, dispensable]);
    fs::create_dir(cards.path("unreadable")).unwrap();
    fs::write(cards.path("unreadable/README.md"), "# No front matter\n").unwrap();
    let unready = |required: &[(&str, bool)]| {
        let change = |required| CardOverride { is_required: Some(required), ..CardOverride::default() };
        let config = CatalogConfig {
            cards_dir: cards.folder.path().to_path_buf(),
            data_dir: cards.path("data"),
            offline: true,
            overrides: required.iter().map(|(name, is)| ((*name).to_owned(), change(*is))).collect(),
            ..CatalogConfig::default()
        };
        let unready = Catalog::load(&config, &NoProgress).unwrap().unready();
        assert!(unready.iter().all(|model| !model.reason.is_empty()));
        unready.into_iter().map(|model| model.name).collect::<Vec<_>>()
    };
    assert_eq!(unready(&[]), ["spoilt", "unreadable"]);
    assert_eq!(unready(&[("spoilt", false), ("dispensable", true)]), ["dispensable", "unreadable"]);
    assert!(unready(&[("spoilt", false), ("unreadable", false)]).is_empty());
}

/// Scores one by one are probabilities only of a checkpoint that was trained for them.
#[test]
fn classes_one_by_one_are_what_the_checkpoint_says() {
    let load = |multi_label: &str, problem_type: &str| {
        let mut spec = Spec::classifier("sorter", "document-classification", "sequence_classification");
        spec.fields += multi_label;
        let problem_type = format!("\"problem_type\": {problem_type}");
        spec.config = CONFIG.replace("\"pad_token_id\": 0", &problem_type);
        Cards::new(&[spec]).load().unwrap()
    };
    let (single, multi) = ("\"single_label_classification\"", "\"multi_label_classification\"");
    let independent = "  multi_label: independent\n";
    let found = reason(&load(independent, single), "sorter");
    assert!(found.contains("config.json: problem_type"), "{found}");
    for (card, problem_type) in [(independent, multi), (independent, "null"), ("", single), ("", multi)] {
        let catalog = load(card, problem_type);
        let entry = catalog.find("sorter").unwrap();
        assert!(entry.is_loaded(), "{:?}", entry.state);
        let parameters = ClassifyParameters { multi_label: true, ..ClassifyParameters::default() };
        let prepared = catalog.prepare(entry.id, &["a".into()], &Parameters::Classify(parameters));
        let refused = prepared.err().map(|error| error.field());
        let expected = card.is_empty().then(|| "parameters.multi_label".to_owned());
        assert_eq!(refused, expected, "{card:?} {problem_type}");
    }
}

#[test]
fn heads_that_do_not_fit_are_named() {
    check(|spec| spec.fields = "  labels: [one, two]\n".to_owned(), "3 rows, but the card names 2 labels");
    let with = |change: fn(&mut Tensors)| move |spec: &mut Spec| change(spec.head_tensors.as_mut().unwrap());
    check(with(|head| drop(head.remove("classifier.bias"))), "tensor classifier.bias is missing");
    check(with(|head| drop(head.remove("classifier.weight"))), "tensor classifier.weight is missing");
    let narrow = |head: &mut Tensors| {
        head.insert("classifier.weight".to_owned(), Random::new(1).tensor(&[LABELS, 11], 1.0));
    };
    check(with(narrow), "has shape [3, 11], expected [3, 12]");
    let half = |head: &mut Tensors| drop(head.insert("dense.bias".to_owned(), zeros(12)));
    check(with(half), "tensor dense.weight is missing");
    let extra = |head: &mut Tensors| drop(head.insert("other".to_owned(), zeros(12)));
    check(with(extra), "tensor other does not belong in a head");
}

fn zeros(length: usize) -> Tensor {
    Tensor::zeros(length, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap()
}

#[test]
fn changed_files_are_not_loaded() {
    let cards = Cards::new(&[
        Spec::classifier("head", "sentiment", "sequence_classification"),
        Spec::embedder("source"),
        Spec::embedder("untouched"),
    ]);
    for file in ["head/head.safetensors", "source/files/config.json"] {
        let path = cards.path(file);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let catalog = cards.load().unwrap();
    for name in ["head", "source"] {
        let reason = reason(&catalog, name);
        assert!(reason.contains("SHA-256 is") && reason.contains(name), "{reason}");
    }
    assert!(catalog.find("untouched").unwrap().is_loaded());
}

#[test]
fn adapters_are_checked_and_merged() {
    let cards = Cards::new(&[Spec::embedder("base")]);
    let spec = Spec::embedder("adapted");
    let mut random = Random::new(21);
    let prefix = "base_model.model.encoder.layer.1.output.dense";
    let factors: Tensors = [("lora_A", [2, 20]), ("lora_B", [12, 2])]
        .into_iter()
        .map(|(factor, shape)| (format!("{prefix}.{factor}.weight"), random.tensor(&shape, 0.5)))
        .collect();
    let folder = cards.path("adapted/adapter");
    fs::create_dir_all(&folder).unwrap();
    candle_core::safetensors::save(&factors, folder.join("weights.safetensors")).unwrap();
    let sha256 = sha256(&folder.join("weights.safetensors"));
    let config = folder.join("config.json");
    let fields = format!(
        "  adapter: {{ file: adapter/weights.safetensors, config: adapter/config.json, sha256: {sha256} }}\n"
    );
    cards.add(&Spec { fields, ..spec });

    assert!(reason(&cards.load().unwrap(), "adapted").contains("adapter/config.json"));
    fs::write(&config, r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 4}"#).unwrap();
    assert!(reason(&cards.load().unwrap(), "adapted").contains("has shape [2, 20], expected [3, 20]"));
    fs::write(&config, r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4}"#).unwrap();
    let catalog = cards.load().unwrap();
    let mut executor = catalog.executor(&device()).unwrap();
    let sequences = vec![Sequence::new(vec![1, 3, 2])];
    let mut run = |name: &str| {
        let entry = catalog.find(name).unwrap();
        let ModelState::Loaded { digest, .. } = entry.state else { panic!("{:?}", entry.state) };
        (executor.execute(entry.id, &sequences).unwrap().remove(0), digest)
    };
    let (base, adapted) = (run("base"), run("adapted"));
    assert!(base.0 != adapted.0, "the adapter changes nothing");
    assert_ne!(base.1, adapted.1);
}

#[test]
fn zero_shot_needs_an_embedding_model_with_the_same_tokenizer() {
    let with = |model: &str, other: Spec| {
        let mut spec = Spec::classifier("sorter", "document-classification", "sequence_classification");
        spec.fields +=
            &format!("  zero_shot: {{ model: {model}, template: 'about {{label}}', scale: 20.0 }}\n");
        Cards::new(&[spec, other]).load().unwrap()
    };
    assert!(with("embedder", Spec::embedder("embedder")).find("sorter").unwrap().is_loaded());
    // Whether it could is not known: its own classes it scores in any case.
    let mut unreadable = Spec::embedder("embedder");
    unreadable.fields += "  limits: {\n";
    let catalog = with("embedder", unreadable);
    assert!(catalog.find("sorter").unwrap().is_loaded());
    assert_eq!(catalog.find_rejected("embedder").map(|card| card.name.as_str()), Some("embedder"));
    let mood = Spec::classifier("mood", "sentiment", "sequence_classification");
    let mut foreign = Spec::embedder("embedder");
    foreign.tokenizer = TOKENIZER.replace("\"c\": 5", "\"d\": 5");
    for (model, other, message) in [
        ("embedder", mood.clone(), "there is no such card"),
        ("mood", mood, "its task is not embeddings"),
        ("embedder", foreign, "it has another tokenizer"),
    ] {
        let reason = reason(&with(model, other), "sorter");
        assert!(reason.contains(message), "{reason}");
    }
}

#[test]
fn a_card_that_cannot_be_read_is_listed() {
    let cards = Cards::new(&[Spec::embedder("good")]);
    fs::create_dir(cards.path("bad")).unwrap();
    fs::write(cards.path("bad/README.md"), "# No front matter\n").unwrap();
    let catalog = cards.load().unwrap();
    assert_eq!(catalog.models().len(), 1);
    assert_eq!(catalog.rejected().len(), 1);
    assert_eq!(catalog.rejected()[0].name, "bad");
    assert!(catalog.rejected()[0].reason.contains("front matter"));
}

#[test]
fn fetching_alone_names_the_model_that_cannot_be_had() {
    let cards = Cards::new(&[Spec::embedder("good")]);
    let config = CatalogConfig {
        cards_dir: cards.folder.path().to_path_buf(),
        data_dir: cards.path("data"),
        offline: true,
        ..CatalogConfig::default()
    };
    Catalog::fetch(&config, &NoProgress).unwrap();
    cards.add(&Spec::embedder("other"));
    fs::remove_file(cards.path("other/files/config.json")).unwrap();
    let error = Catalog::fetch(&config, &NoProgress).unwrap_err();
    assert!(matches!(&error, LoadError::Fetch { model, .. } if model == "other"), "{error}");
    assert!(error.to_string().contains("config.json"), "{error}");
}

#[test]
fn overrides_change_runtime_and_number_format() {
    let cards = Cards::new(&[Spec::embedder("one"), Spec::embedder("two")]);
    let load = |name: &str, runtime: Option<&str>, dtype: Option<&str>| {
        let change = CardOverride {
            runtime: runtime.map(|runtime| runtime.parse().unwrap()),
            dtype: dtype.map(|dtype| dtype.parse().unwrap()),
            ..CardOverride::default()
        };
        let config = CatalogConfig {
            cards_dir: cards.folder.path().to_path_buf(),
            data_dir: cards.path("data"),
            overrides: [(name.to_owned(), change)].into(),
            ..CatalogConfig::default()
        };
        Catalog::load(&config, &NoProgress)
    };
    let check = |runtime, dtype, expected| {
        let catalog = load("one", runtime, dtype).unwrap();
        let formats = ["one", "two"].map(|name| {
            let entry = catalog.find(name).unwrap();
            assert!(entry.is_loaded(), "{:?}", entry.state);
            format!("{} {}", entry.card.runtime, entry.card.dtype)
        });
        assert_eq!(formats, [expected, "candle float32"]);
    };
    check(Some("fused"), None, "fused float32");
    check(Some("fused"), Some("bfloat16"), "fused bfloat16");
    check(None, None, "candle float32");
    let error = load("three", None, None).err().unwrap().to_string();
    assert!(error.contains("\"three\"") && error.contains("one, two"), "{error}");
    // What this format cannot be computed in is the model's own fault, and the others load.
    let catalog = load("one", None, Some("bfloat16")).unwrap();
    assert!(reason(&catalog, "one").contains("bfloat16") && catalog.find("two").unwrap().is_loaded());
}

#[test]
fn without_cards_there_is_no_catalog() {
    let cards = Cards::new(&[]);
    assert!(matches!(cards.load(), Err(LoadError::NoCards { .. })));
    let nowhere = cards.path("nowhere");
    let config = CatalogConfig { cards_dir: nowhere.clone(), data_dir: nowhere, ..CatalogConfig::default() };
    assert!(matches!(Catalog::load(&config, &NoProgress), Err(LoadError::Cards { .. })));
}
