//! The tasks with the real tokenizer and made-up outputs: what becomes of tensors, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod classes;
mod entities;
mod inputs;
mod summaries;

use std::sync::LazyLock;

use common::{Shown, config};
use models::tasks::{EmbedParameters, Input, InputError, Parameters, Prepared, Truncation};
use models::{Catalog, SequenceOutput, Task};

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::load(&config(), &Shown).unwrap());

/// Tags of the entity card, in its order.
const TAGS: [&str; 9] = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"];

fn prepare(task: Task, inputs: &[&str], parameters: &Parameters) -> Result<Prepared, InputError> {
    let inputs: Vec<Input> = inputs.iter().map(|text| Input::from(*text)).collect();
    CATALOG.prepare(CATALOG.default_for(task).unwrap().id, &inputs, parameters)
}

fn row(values: &[f32]) -> SequenceOutput {
    SequenceOutput { values: values.to_vec(), columns: values.len() }
}

fn embed(truncation: Truncation) -> Parameters {
    Parameters::Embed(EmbedParameters { truncation, ..EmbedParameters::default() })
}
