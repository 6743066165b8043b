//! Catalogs that change while they are used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/random.rs"]
mod random;

#[path = "common/cards.rs"]
mod cards;

use std::fs;
use std::sync::Arc;

use batching::Executor;
use cards::{Cards, Spec, TOKENIZER, device};
use models::{Catalog, ChangeError, ModelState, Newcomer, NoProgress, Sequence, Task, Wanted};
use units::{ModelId, Tokens};

fn newcomer(cards: &Cards, catalog: &Catalog, name: &str) -> Result<Newcomer, ChangeError> {
    let candidate = catalog.candidate(&cards.config(), name, None)?;
    catalog.load_one(&cards.config(), candidate, &NoProgress)
}

fn names(catalog: &Catalog) -> Vec<(u16, &str, &'static str)> {
    catalog.models().iter().map(|entry| (entry.id.0, entry.card.name.as_str(), entry.state.name())).collect()
}

fn other_weights() -> random::Tensors {
    let config = random::config(models::HiddenActivation::Gelu);
    random::encoder_tensors(&mut random::Random::new(5), &config)
}

#[test]
fn whoever_holds_a_catalog_keeps_its_models() {
    let cards = Cards::new(&[Spec::embedder("a"), Spec::embedder("b")]);
    let before = cards.load().unwrap();
    let mut changed = Spec::embedder("a");
    changed.encoder = other_weights();
    cards.add(&changed);
    let newcomer = newcomer(&cards, &before, "a").unwrap();
    let after = before.with(&cards.config(), &newcomer).unwrap();
    assert_eq!(names(&before), [(0, "a", "loaded"), (1, "b", "loaded")]);
    assert_eq!(names(&after), [(1, "b", "loaded"), (2, "a", "loaded")]);
    let digest = |catalog: &Catalog| match catalog.find("a").unwrap().state {
        ModelState::Loaded { digest, .. } => digest,
        _ => panic!("not loaded"),
    };
    assert_ne!(digest(&before), digest(&after));
    let gone = after.without(ModelId(2));
    assert_eq!(names(&gone), [(1, "b", "loaded"), (2, "a", "unloaded")]);
    assert!(gone.unready().is_empty(), "as it is wanted");
    assert!(gone.tokenizer(ModelId(2)).is_none() && after.tokenizer(ModelId(2)).is_some());
}

#[test]
fn a_device_takes_in_what_arrives_and_forgets_what_goes() {
    let cards = Cards::new(&[Spec::embedder("a")]);
    let catalog = cards.load().unwrap();
    let (mut executor, arrivals) = catalog.growing_executor(Arc::new(device())).unwrap();
    let sequences = [Sequence::new(vec![1, 3, 2])];
    let before = executor.execute(ModelId(0), &sequences).unwrap();
    let newcomer = newcomer(&cards, &catalog, "a").unwrap();
    assert!(executor.sample(ModelId(1), Tokens(3)).is_none());
    arrivals.add(Arc::clone(newcomer.entry()));
    assert_eq!(executor.sample(ModelId(1), Tokens(3)).unwrap().len(), 3);
    assert_eq!(executor.execute(ModelId(1), &sequences).unwrap(), before, "the same model");
    assert_eq!(arrivals.refusal(ModelId(1)), None);
    executor.forget(ModelId(1));
    assert!(executor.sample(ModelId(1), Tokens(3)).is_none());
    assert!(executor.execute(ModelId(1), &sequences).is_err());
    executor.execute(ModelId(0), &sequences).unwrap();
}

#[test]
fn what_cannot_come_is_refused_with_its_reason() {
    let cards = Cards::new(&[Spec::embedder("embedder")]);
    let catalog = cards.load().unwrap();
    let refused = |name: &str| newcomer(&cards, &catalog, name).err().map(|error| error.to_string()).unwrap();
    for name in ["nothing", "..", "../embedder", "a/b", ""] {
        assert!(refused(name).contains("no model and no card"), "{name}");
    }
    fs::create_dir(cards.path("broken")).unwrap();
    fs::write(cards.path("broken/README.md"), "---\nml_inference: 3\n---\n").unwrap();
    assert!(refused("broken").contains("README.md"), "{}", refused("broken"));
    let mut second = Spec::embedder("second");
    second.fields = "  default: true\n".to_owned();
    cards.add(&second);
    let with_second = catalog.with(&cards.config(), &newcomer(&cards, &catalog, "second").unwrap()).unwrap();
    assert_eq!(with_second.default_for(Task::Embed).unwrap().card.name, "second");
    let mut third = Spec::embedder("third");
    third.fields = "  default: true\n".to_owned();
    cards.add(&third);
    let error = newcomer(&cards, &with_second, "third").err().unwrap().to_string();
    assert!(error.contains("second and third both say"), "{error}");
    let wanted =
        Wanted { name: Some("second".to_owned()), ..Wanted::new(models::Place::Folder("/nowhere".into())) };
    let taken = catalog.candidate(&cards.config(), "second", Some(wanted));
    assert!(matches!(taken.err(), Some(ChangeError::Taken(_))));
}

#[test]
fn a_model_that_another_needs_keeps_its_tokenizer() {
    let mut scorer = Spec::classifier("scorer", "document-classification", "sequence_classification");
    scorer.fields += "  zero_shot: { model: embedder, template: \"{label}.\", scale: 20.0 }\n";
    let cards = Cards::new(&[Spec::embedder("embedder"), scorer]);
    let catalog = cards.load().unwrap();
    assert!(catalog.find("scorer").unwrap().is_loaded());
    let mut other = Spec::embedder("embedder");
    other.tokenizer = TOKENIZER.replace("\"c\": 5", "\"d\": 5");
    cards.add(&other);
    let refused = newcomer(&cards, &catalog, "embedder").err().unwrap();
    assert!(matches!(&refused, ChangeError::Dependent { model, .. } if model == "scorer"), "{refused}");
}
