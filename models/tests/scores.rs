//! The scores of a card, by the whole way from a text to its names: what its weights are worth is what it
//! says, and training is given texts as they are read here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashSet;

use batching::Executor;
use models::tasks::{EntitiesParameters, Output, Parameters};
use models::training::text_as_read;
use models::{Catalog, Sequence};
use serde_json::Value;

const MODEL: &str = "ner-v2";
/// Training adds up in another order, and joins the parts of a name by fewer rules.
const TOLERANCE: f64 = 0.01;

/// A name: first character, the one behind its last, and its type.
type Name = (usize, usize, String);

/// A text and its names, of `[Anna Schmidt](PER) left.`; `⏎` stands for a line break and `→` for a tab.
fn parse(line: &str) -> (String, HashSet<Name>) {
    let line = line.replace('⏎', "\n").replace('→', "\t");
    let (mut text, mut names) = (String::new(), HashSet::new());
    let mut rest = line.as_str();
    while let Some((before, behind)) = rest.split_once('[') {
        text.push_str(before);
        let name = behind.split_once("](").filter(|(name, _)| !name.contains(['[', ']']));
        let Some((name, behind_name)) = name else {
            text.push('[');
            rest = behind;
            continue;
        };
        let (label, behind_label) = behind_name.split_once(')').unwrap();
        let start = text.chars().count();
        names.insert((start, start + name.chars().count(), label.to_owned()));
        text.push_str(name);
        rest = behind_label;
    }
    (text + rest, names)
}

#[test]
fn names_are_found_as_often_as_the_card_says() {
    let folder = common::cards_dir().join(MODEL);
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let evaluation: Value = serde_json::from_str(&read("evaluation.json")).unwrap();
    let catalog = Catalog::load(&common::config_with("fused", "float32"), &common::Shown).unwrap();
    let model = catalog.find(MODEL).unwrap().id;
    let tokenizer = catalog.tokenizer(model).unwrap();
    let mut executor = catalog.executor(&common::device()).unwrap();
    let mut check = |split: &str, file: &str, change: &dyn Fn(String) -> String| {
        let (mut hits, mut found, mut expected, mut texts) = (0, 0, 0, 0);
        for line in read(file).lines().filter(|line| !line.is_empty()) {
            let (text, names) = parse(line);
            let text = change(text);
            let parameters = Parameters::Entities(EntitiesParameters::default());
            let mut prepared = catalog.prepare(model, &[text.as_str().into()], &parameters).unwrap();
            let jobs: Vec<_> = prepared.take_jobs().into_iter().map(|job| job.sequence).collect();
            let trained = tokenizer.encode(&text_as_read(&text).text).unwrap().ids;
            assert_eq!(jobs, [Sequence::new(tokenizer.with_special_tokens(&trained))], "{text:?}");
            let outputs = executor.execute(model, &jobs).unwrap_or_else(|error| panic!("{}", error.source));
            let answer = prepared.decode(outputs).unwrap().results.remove(0).unwrap();
            let Output::Entities(entities) = answer.output else { panic!("entities") };
            let entities = entities.into_iter().map(|e| (e.start, e.end, e.label.to_string()));
            let entities: HashSet<Name> = entities.collect();
            hits += entities.intersection(&names).count();
            found += entities.len();
            expected += names.len();
            texts += 1;
        }
        let f1 = 2.0 * hits as f64 / (found + expected) as f64;
        let card = &evaluation[split];
        eprintln!("{split}: F1 {f1:.4}, the card says {}", card["entity_f1"]);
        assert_eq!(card["examples"], texts, "{split}");
        assert!(f1 >= card["entity_f1"].as_f64().unwrap() - TOLERANCE, "{split}: F1 {f1:.4}");
    };
    check("test", "data/test.txt", &|text| text);
    check("structured", "data/structured-test.txt", &|text| text);
    // As many characters as before, or the places of the names would be others.
    check("structured_lower", "data/structured-test.txt", &|text| text.to_lowercase());
}
