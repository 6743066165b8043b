//! `ml-inference classifiers train`: a classifier from a table of texts and their labels.
//!
//! A running server makes vectors of the texts, at low priority, as for any caller. The classifier is learnt
//! here (`models-learn`) and written as a model card with its head and an evaluation, beside the card of the
//! encoder whose vectors it is learnt on. A server that is given that folder serves it as it serves any card,
//! in every dialect.

mod card;
mod embedding;
mod page;
mod table;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use models_core::card::ScoreFunction;
use models_learn::{ClassWeights, Examples, Learnt, Options, Targets, train};
use serde_json::json;

use card::{CardFiles, HEAD_FILE, LearntClassifier};
use embedding::{Embedder, Vectors};
use table::{Columns, Labelled};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Classifiers of one's own.
#[derive(Debug, Subcommand)]
pub enum Classifiers {
    /// Learn one from a file of texts and their labels.
    Train(Train),
}

/// What to learn from, and where to put it.
#[derive(Debug, Args)]
pub struct Train {
    /// The table: CSV with a line of names first, or JSON objects, one a line (`.jsonl`).
    file: PathBuf,
    /// Column of the texts.
    #[arg(long, default_value = "text")]
    text: String,
    /// Column of the labels. In JSON it may be a list, with `--multi-label`.
    #[arg(long, default_value = "label")]
    label: String,
    /// Name of the classifier and of its folder: lower-case letters, digits, `-`, `_` and `.`.
    #[arg(long)]
    name: String,
    /// Its version.
    #[arg(long, default_value = "1.0.0")]
    version: String,
    /// A text may have several labels or none, in CSV with `|` between them: each is told by itself.
    #[arg(long)]
    multi_label: bool,
    /// Count labels with few examples as much as those with many.
    #[arg(long)]
    balanced: bool,
    /// What chance depends on: which examples are held out together.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The embedding model whose encoder it is learnt on.
    #[arg(long, default_value = "embeddings-v2")]
    encoder: String,
    /// Folder of the model cards: the encoder's is there, and the classifier's is written there.
    #[arg(long, env = "ML_INFERENCE_CARDS_DIR", value_name = "FOLDER", default_value = "model-cards")]
    cards_dir: PathBuf,
    /// Replace a classifier of this name.
    #[arg(long)]
    replace: bool,
    /// The server that makes vectors of the texts.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: reqwest::Url,
    /// A key with which models can be called.
    #[arg(long, env = "ML_INFERENCE_API_KEY", hide_env_values = true)]
    key: String,
    /// Threads that learn.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
}

impl Classifiers {
    /// Runs a command.
    ///
    /// # Errors
    /// What is wrong with the table, what the server says, or why nothing could be learnt or written.
    pub fn run(self) -> Result<(), AnyError> {
        match self {
            Self::Train(train) => train.run(),
        }
    }
}

impl Train {
    fn run(&self) -> Result<(), AnyError> {
        let folder = self.cards_dir.join(&self.name);
        if folder.exists() && !self.replace {
            return Err(format!("{} is there already: --replace replaces it", folder.display()).into());
        }
        let encoder_file = self.cards_dir.join(&self.encoder).join("README.md");
        let encoder = std::fs::read_to_string(&encoder_file)
            .map_err(|error| format!("the encoder's card, {}: {error}", encoder_file.display()))?;
        let columns = Columns { text: &self.text, label: &self.label, has_many: self.multi_label };
        let table = table::read(&self.file, &columns)?;
        // What can be refused is refused before anything is computed.
        let (labels, targets) = numbered(&table, self.multi_label)?;
        self.files(&labels, &[], &vec![0.0; labels.len()], "", &encoder, &encoder_file)?;
        let bar = bar(table.rows.len() as u64, "embedding");
        let embedder = Embedder::new(&self.server, &self.key, &self.encoder)?;
        let texts: Vec<&str> = table.rows.iter().map(|row| row.text.as_str()).collect();
        let Vectors { mut values, columns } = embedder.embed(&texts, |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let length = scale_to_unit(&mut values, columns);
        let examples = Examples::new(values, columns, labels.len(), targets)?;
        let learnt = self.learn(examples)?;
        let Learnt { head, .. } = &learnt;
        // The classifier is given hidden states as they are.
        let weights: Vec<f32> = head.weights.iter().map(|weight| weight / length).collect();
        let page = page::page(&self.name, &self.encoder, &labels, &learnt);
        let files = self.files(&labels, &weights, &head.biases, &page, &encoder, &encoder_file)?;
        let evaluation = json!({
            "strength": learnt.strength,
            "temperature": learnt.temperature,
            "unknown_below": head.unknown_below,
            "labels": labels,
            "held_out": learnt.report,
        });
        write(&folder, &files, &serde_json::to_string_pretty(&evaluation)?)?;
        page::print(&labels, &table, &learnt)?;
        page::line(&format!("\nwritten to {}", folder.display()))?;
        Ok(())
    }

    fn learn(&self, examples: Examples) -> Result<Learnt, AnyError> {
        const STEPS: f64 = 1000.0;
        let options = Options {
            class_weights: if self.balanced { ClassWeights::Balanced } else { ClassWeights::Equal },
            seed: self.seed,
            threads: usize::from(self.threads),
            ..Options::default()
        };
        let bar = bar(STEPS as u64, "learning");
        let learnt = train(examples, &options, |progress| {
            bar.set_position((progress.fraction * STEPS) as u64);
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        Ok(learnt?)
    }

    fn files(
        &self,
        labels: &[String],
        weights: &[f32],
        biases: &[f32],
        page: &str,
        encoder: &str,
        encoder_file: &Path,
    ) -> Result<CardFiles, AnyError> {
        let score_function = if self.multi_label { ScoreFunction::Sigmoid } else { ScoreFunction::Softmax };
        let (name, version) = (self.name.as_str(), self.version.as_str());
        let learnt = LearntClassifier { name, version, labels, score_function, weights, biases, page };
        Ok(learnt.files(encoder, encoder_file)?)
    }
}

/// The labels in their order of letters, and each row's by number.
fn numbered(table: &Labelled, has_many: bool) -> Result<(Vec<String>, Targets), AnyError> {
    let mut labels: Vec<String> = table.rows.iter().flat_map(|row| &row.labels).cloned().collect();
    labels.sort_unstable();
    labels.dedup();
    let number = |label: &String| labels.binary_search(label).unwrap_or_default() as u32;
    let numbers = table.rows.iter().map(|row| {
        let mut numbers: Vec<u32> = row.labels.iter().map(number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    });
    let targets =
        if has_many { Targets::Many(numbers.collect()) } else { Targets::One(numbers.flatten().collect()) };
    let least = if has_many { 1 } else { 2 };
    if labels.len() < least {
        let found = labels.len();
        return Err(
            format!("the column of labels has {found} different ones, at least {least} are needed").into()
        );
    }
    Ok((labels, targets))
}

/// Divides vectors by their mean length, which is given: they are of about unit length then, and a classifier
/// of them is one of the vectors as they were.
fn scale_to_unit(values: &mut [f32], columns: usize) -> f32 {
    let rows = values.chunks_exact(columns);
    let count = rows.len().max(1) as f64;
    let lengths = rows.map(|row| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt());
    // Of texts without any length nothing can be learnt, and nothing is divided by zero.
    let mean = (lengths.sum::<f64>() / count).max(f64::from(f32::MIN_POSITIVE)) as f32;
    values.iter_mut().for_each(|value| *value /= mean);
    mean
}

/// All files or, if one cannot be written, the card last: without it the folder is no model.
fn write(folder: &Path, files: &CardFiles, evaluation: &str) -> Result<(), AnyError> {
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    put(HEAD_FILE, &files.head)?;
    put("evaluation.json", evaluation.as_bytes())?;
    put("README.md", files.card.as_bytes())?;
    Ok(())
}

fn bar(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    // The template is a constant; were it wrong, the default bar is as good.
    if let Ok(style) = ProgressStyle::with_template("  {msg:12} {bar:40} {percent}% eta {eta}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_one_on_average() {
        let mut values = vec![3.0, 4.0, 0.0, 1.0];
        assert_eq!(scale_to_unit(&mut values, 2), 3.0);
        assert_eq!(values, [1.0, 4.0 / 3.0, 0.0, 1.0 / 3.0]);
        assert!(scale_to_unit(&mut [0.0, 0.0], 2) > 0.0);
    }
}
