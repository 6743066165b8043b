//! Cards that say less, or other, than the files of a checkpoint do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/random.rs"]
mod random;

#[path = "common/cards.rs"]
mod cards;

use std::fs;

use candle_core::Tensor;
use cards::{CONFIG, Cards, Spec, TOKENIZER, reason};

/// What the files of a checkpoint say beyond the card is refused, however well the weights would load.
#[test]
fn what_a_card_does_not_say_is_refused() {
    let config = |addition: &str| CONFIG.replace("\"pad_token_id\": 0", addition);
    let with =
        |file: &'static str, text: String| move |spec: &mut Spec| spec.beside.push((file, text.clone()));
    // A pooling module as sentence-transformers writes it.
    let pooling = |way: &str| {
        let ways = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"];
        let switches = ways.map(|name| format!("\"pooling_mode_{name}\": {}", name == way));
        format!("{{ \"word_embedding_dimension\": 12, {} }}", switches.join(", "))
    };
    let modules = |kinds: &[&str]| {
        let module = |(index, kind): (usize, &&str)| {
            let path = if index == 0 { String::new() } else { format!("{index}_{kind}") };
            format!(
                "{{ \"idx\": {index}, \"name\": \"{index}\", \"path\": \"{path}\", \
                 \"type\": \"sentence_transformers.models.{kind}\" }}"
            )
        };
        format!("[{}]", kinds.iter().enumerate().map(module).collect::<Vec<_>>().join(", "))
    };
    let check = |change: &dyn Fn(&mut Spec), message: Option<&str>| {
        let mut spec = Spec::embedder("spoilt");
        change(&mut spec);
        let catalog = Cards::new(&[spec, Spec::embedder("good")]).load().unwrap();
        match message {
            Some(message) => {
                let found = reason(&catalog, "spoilt");
                assert!(found.contains(message), "{message:?} is not in {found:?}");
            }
            None => assert!(
                catalog.find("spoilt").unwrap().is_loaded(),
                "{:?}",
                catalog.find("spoilt").unwrap().state
            ),
        }
        assert!(catalog.find("good").unwrap().is_loaded());
    };
    let extra =
        |name: &'static str| move |spec: &mut Spec| drop(spec.encoder.insert(name.to_owned(), zeros(12)));
    let ignoring = |name: &'static str, ignored: &'static str| {
        move |spec: &mut Spec| {
            extra(name)(spec);
            spec.fields += &format!("  ignore_tensors: [{ignored}]\n");
        }
    };

    for architecture in ["BertModel", "BertForMaskedLM"] {
        let text = config(&format!("\"architectures\": [\"{architecture}\"]"));
        check(&|spec| spec.config.clone_from(&text), None);
    }
    for architecture in
        ["BertForSequenceClassification", "BertForTokenClassification", "BertForQuestionAnswering"]
    {
        let text = config(&format!("\"architectures\": [\"{architecture}\"]"));
        check(&|spec| spec.config.clone_from(&text), Some(architecture));
    }
    for (field, value) in [
        ("is_decoder", "true"),
        ("add_cross_attention", "true"),
        ("pruned_heads", "{ \"0\": [1] }"),
        ("quantization_config", "{ \"bits\": 8 }"),
    ] {
        let text = config(&format!("\"{field}\": {value}"));
        check(&|spec| spec.config.clone_from(&text), Some(&format!("config.json: {field}")));
    }

    for name in [
        "pooler.dense.weight",
        "classifier.weight",
        "cls.predictions.bias",
        "encoder.layer.2.output.dense.weight",
        "encoder.layer.0.attention.self.distance_embedding.weight",
        "encoder.layer.0.attention.output.adapter.weight",
    ] {
        check(
            &extra(name),
            Some(&format!("model.safetensors: tensor {name} is used by no part of the card")),
        );
    }
    check(&extra("embeddings.position_ids"), None);
    check(&ignoring("pooler.dense.weight", "pooler."), None);
    check(&ignoring("pooler.dense.weight", "pooler.dense.bias"), Some("tensor pooler.dense.weight"));
    check(
        &ignoring("pooler.dense.weight", "pooler., classifier."),
        Some("no unused tensor begins with \"classifier.\""),
    );

    check(&with("1_Pooling/config.json", pooling("mean_tokens")), None);
    check(&with("1_Pooling/config.json", "{ \"pooling_mode\": \"mean\" }".to_owned()), None);
    for (way, message) in
        [("cls_token", "cls_token"), ("max_tokens", "max_tokens"), ("none", "nothing that is named")]
    {
        check(&with("1_Pooling/config.json", pooling(way)), Some(message));
    }
    check(
        &with("1_Pooling/config.json", "{ \"pooling_mode\": \"cls\" }".to_owned()),
        Some("pooling_mode \"cls\""),
    );
    check(&with("2_Dense/config.json", "{}".to_owned()), Some("module Dense (2_Dense)"));
    let folder = |kinds: &'static [&'static str]| {
        move |spec: &mut Spec| {
            spec.beside.push(("modules.json", modules(kinds)));
            spec.beside.push(("1_Pooling/config.json", pooling("mean_tokens")));
        }
    };
    check(&folder(&["Transformer", "Pooling", "Normalize"]), None);
    check(&folder(&["Transformer", "Pooling", "Dense"]), Some("module Dense (2_Dense)"));
    check(&folder(&["Transformer", "WeightedLayerPooling"]), Some("module WeightedLayerPooling"));
    check(&with("modules.json", modules(&["Transformer", "Pooling"])), Some("1_Pooling/config.json"));
    check(
        &with(
            "modules.json",
            "[{ \"path\": \"../x\", \"type\": \"sentence_transformers.models.Pooling\" }]".to_owned(),
        ),
        Some("out of the folder"),
    );
    let prompts = "{ \"prompts\": { \"query\": \"query: \" }, \"default_prompt_name\": \"query\" }";
    check(&with("config_sentence_transformers.json", prompts.to_owned()), Some("default_prompt_name"));
    let prompts = prompts.replace("\"default_prompt_name\": \"query\"", "\"default_prompt_name\": null");
    check(&with("config_sentence_transformers.json", prompts), None);

    // Pooling is stated by one module that is the library's own, with switches that agree.
    for (kinds, message) in [
        (&["Transformer"][..], "lists the modules [Transformer];"),
        (&["Transformer", "Normalize"], "lists the modules [Transformer, Normalize]"),
        (&[], "lists the modules []"),
        (&["Transformer", "Pooling", "Pooling"], "[Transformer, Pooling, Pooling]"),
        (&["Transformer", "Normalize", "Pooling"], "[Transformer, Normalize, Pooling]"),
    ] {
        let change = |spec: &mut Spec| {
            spec.beside.push(("modules.json", modules(kinds)));
            spec.beside.push(("2_Pooling/config.json", pooling("mean_tokens")));
            spec.beside.push(("1_Pooling/config.json", pooling("mean_tokens")));
        };
        check(&change, Some(message));
    }
    let typed = |name: &str| {
        let text = modules(&["Transformer", "Pooling"]).replace("sentence_transformers.models.Pooling", name);
        move |spec: &mut Spec| {
            spec.beside.push(("modules.json", text.clone()));
            spec.beside.push(("1_Pooling/config.json", "{ \"pooling_mode\": \"mean\" }".to_owned()));
        }
    };
    for name in [
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    ] {
        check(&typed(name), None);
    }
    for name in ["my_module.Pooling", "Pooling", "sentence_transformers.models.mine.Pooling"] {
        check(&typed(name), Some(&format!("of the type {name} is not")));
    }
    for (text, message) in [
        (
            "\"pooling_mode_mean_tokens\": true, \"pooling_mode_cls_token\": 1",
            "cls_token: must be true or false",
        ),
        (
            "\"pooling_mode\": \"mean\", \"pooling_mode_cls_token\": true",
            "contradicts pooling_mode_cls_token",
        ),
        ("\"pooling_mode\": \"mean\", \"pooling_mode_mean_tokens\": false", "mean_tokens: false"),
    ] {
        check(&with("1_Pooling/config.json", format!("{{ {text} }}")), Some(message));
    }
    let reading = |text: &str| with("sentence_bert_config.json", text.to_owned());
    check(&reading("{ \"max_seq_length\": 32, \"do_lower_case\": false }"), None);
    check(&reading("{ \"max_seq_length\": 16 }"), Some("max_seq_length: is 16"));
    check(&reading("{ \"do_lower_case\": true }"), Some("do_lower_case: is true"));
    let lower = |spec: &mut Spec| {
        reading("{ \"do_lower_case\": true }")(spec);
        spec.tokenizer =
            TOKENIZER.replace("\"normalizer\": null", "\"normalizer\": { \"type\": \"Lowercase\" }");
    };
    check(&lower, None);
    check(&with("adapter_config.json", "{}".to_owned()), Some("adapter_config.json"));
    check(&with("model.safetensors.index.json", "{}".to_owned()), Some("index.json: weight_map"));
    let auto_map = config("\"auto_map\": { \"AutoModel\": \"modeling.MyBert\" }");
    check(&|spec| spec.config.clone_from(&auto_map), Some("config.json: auto_map"));
    // A head is left out by naming its own tensors, not any.
    for (architecture, tensor, ignored, is_taken) in [
        ("BertForSequenceClassification", "classifier.weight", "classifier.", true),
        ("BertForSequenceClassification", "pooler.dense.weight", "pooler.", false),
        ("BertForQuestionAnswering", "qa_outputs.bias", "qa_outputs.", true),
        ("RobertaModel", "pooler.dense.weight", "pooler.", false),
    ] {
        let change = |spec: &mut Spec| {
            ignoring(tensor, ignored)(spec);
            spec.config = config(&format!("\"architectures\": [\"{architecture}\"]"));
        };
        check(&change, (!is_taken).then_some(architecture));
    }

    // A head of the card's own stands in the place of the checkpoint's pooling.
    let mut own = Spec::classifier("own", "sentiment", "sequence_classification");
    own.beside.push(("1_Pooling/config.json", pooling("cls_token")));
    assert!(Cards::new(&[own]).load().unwrap().find("own").unwrap().is_loaded());
}

fn zeros(length: usize) -> Tensor {
    Tensor::zeros(length, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap()
}

/// The older layout: weights in a folder of their own, and the list of modules one folder up.
#[test]
fn modules_one_folder_up_are_looked_at() {
    let check = |folder: &str, kinds: &[(&str, &str)], way: &str, message: Option<&str>| {
        let cards = Cards::new(&[Spec::embedder("old")]);
        fs::rename(cards.path("old/files"), cards.path(&format!("old/{folder}"))).unwrap();
        let card = cards.path("old/README.md");
        let text = fs::read_to_string(&card).unwrap().replace("folder: files", &format!("folder: {folder}"));
        fs::write(card, text).unwrap();
        if !kinds.is_empty() {
            let module = |(kind, path): &(&str, &str)| {
                format!("{{ \"path\": \"{path}\", \"type\": \"sentence_transformers.models.{kind}\" }}")
            };
            let list = kinds.iter().map(module).collect::<Vec<_>>().join(", ");
            fs::write(cards.path("old/modules.json"), format!("[{list}]")).unwrap();
        }
        fs::create_dir(cards.path("old/1_Pooling")).unwrap();
        let pooling = format!("{{ \"pooling_mode_{way}\": true }}");
        fs::write(cards.path("old/1_Pooling/config.json"), pooling).unwrap();
        let catalog = cards.load().unwrap();
        match message {
            Some(message) => {
                let found = reason(&catalog, "old");
                assert!(found.contains(message), "{message:?} is not in {found:?}");
            }
            None => {
                assert!(catalog.find("old").unwrap().is_loaded(), "{:?}", catalog.find("old").unwrap().state);
            }
        }
    };
    let (transformer, pooling) = (("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"));
    let dense = ("Dense", "2_Dense");
    check("0_Transformer", &[transformer, pooling], "mean_tokens", None);
    check("0_Transformer", &[transformer, pooling], "cls_token", Some("cls_token"));
    check("0_Transformer", &[transformer, pooling, dense], "mean_tokens", Some("module Dense (2_Dense)"));
    check("0_Transformer", &[], "cls_token", Some("cls_token"));
    check("encoder", &[("Transformer", "encoder"), pooling], "cls_token", Some("cls_token"));
    // A list that does not name this folder is another model's.
    check("encoder", &[transformer, pooling], "cls_token", None);
}

/// Of a repository only what the card lists is fetched, so the card lists what says how it pools, or says it.
#[test]
fn fetched_encoders_state_their_pooling() {
    const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
    let load = |fields: &str| {
        let mut spec = Spec::embedder("fetched");
        spec.fields += fields;
        let cards = Cards::new(&[spec]);
        let card = cards.path("fetched/README.md");
        let source = format!("repository: owner/base\n    revision: {REVISION}");
        let text = fs::read_to_string(&card).unwrap().replace("folder: files", &source);
        fs::write(card, text).unwrap();
        let place = cards.path("data/weights/owner--base");
        fs::create_dir_all(&place).unwrap();
        fs::rename(cards.path("fetched/files"), place.join(REVISION)).unwrap();
        let catalog = cards.load().unwrap();
        (!catalog.find("fetched").unwrap().is_loaded()).then(|| reason(&catalog, "fetched"))
    };
    assert_eq!(load("  pooling: mean\n"), None);
    let found = load("").unwrap();
    assert!(found.contains("modules.json: is not among source.files"), "{found}");
}
