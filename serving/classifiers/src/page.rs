//! What is told of a classifier: the page of its card, and the tables of whoever trains it.

use std::fmt::Write as _;
use std::io::Write as _;

use models_learn::{Interval, Learnt, Link, Report};

use super::AnyError;
use super::table::Labelled;

/// Rows of each table, at most.
const ROWS_MAX: usize = 10;

/// The page of a card: what it is, and how good.
pub(super) fn page(name: &str, encoder: &str, labels: &[String], learnt: &Learnt) -> String {
    let kind = match learnt.head.link {
        Link::Softmax => "one of",
        Link::Sigmoid => "any of",
    };
    let mut page = format!(
        "# {name}\n\nTells {kind} {} classes: a logistic regression on the hidden states of `{encoder}`, \
         learnt from examples.\n\n## Evaluation\n\n",
        labels.len()
    );
    let Some(report) = &learnt.report else {
        page.push_str("Not evaluated: each class has one example, so that none could be held out.\n");
        return page;
    };
    page.push_str(&summary(report));
    page.push_str(
        "\n\nOf examples that were held out in turn, with 95 % intervals; more is in `evaluation.json`.\n\n",
    );
    page.push_str("| class | examples | precision | recall | F1 |\n|---|---|---|---|---|\n");
    for (label, class) in labels.iter().zip(&report.classes) {
        // A label may have what ends a cell or a line.
        let label: String = label.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect();
        let (precision, recall, f1) = (shown(class.precision), shown(class.recall), shown(class.f1));
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {label} | {} | {precision} | {recall} | {f1} |", class.examples);
    }
    page
}

/// Prints how good it is, and what deserves a second look.
///
/// # Errors
/// Standard output is closed.
pub(super) fn print(labels: &[String], table: &Labelled, learnt: &Learnt) -> Result<(), AnyError> {
    let (rows, classes) = (table.rows.len(), labels.len());
    line(&format!("{rows} examples, {classes} labels; C {}", learnt.strength))?;
    let Some(report) = &learnt.report else {
        return line("each label has one example: none could be held out, so nothing is known of it");
    };
    line(&summary(report))?;
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).clamp(5, 40);
    line(&format!("\n{:width$}  examples  precision  recall  F1", "label"))?;
    let mut order: Vec<usize> = (0..classes).collect();
    order.sort_by(|a, b| report.classes[*a].f1.value.total_cmp(&report.classes[*b].f1.value));
    for class in order {
        let told = &report.classes[class];
        let (precision, recall, f1) = (told.precision.value, told.recall.value, shown(told.f1));
        let label = &labels[class];
        line(&format!("{label:width$}  {:8}  {precision:9.3}  {recall:6.3}  {f1}", told.examples))?;
    }
    let at = |example: usize| table.rows[example].line;
    heading("worst confusions", report.confusions.is_empty())?;
    for pair in report.confusions.iter().take(ROWS_MAX) {
        line(&format!("{:5}x {} taken for {}", pair.count, labels[pair.class], labels[pair.told]))?;
    }
    heading("probably wrong labels", report.probably_mislabelled.is_empty())?;
    for one in report.probably_mislabelled.iter().take(ROWS_MAX) {
        let (is, has) = (&labels[one.told], &labels[one.class]);
        let instead = if one.told == one.class { "lacks it".to_owned() } else { format!("has {has}") };
        line(&format!("line {:6}: {is} with {:.2}, {instead}", at(one.example), one.told_probability))?;
    }
    heading("nearly the same, other labels", report.near_duplicates.is_empty())?;
    for pair in report.near_duplicates.iter().take(ROWS_MAX) {
        line(&format!("lines {} and {}: cosine {:.3}", at(pair.first), at(pair.second), pair.cosine))?;
    }
    heading("too few examples", report.few_examples.is_empty())?;
    for &class in report.few_examples.iter().take(ROWS_MAX) {
        line(&format!("{}: {}", labels[class], report.classes[class].examples))?;
    }
    Ok(())
}

fn summary(report: &Report) -> String {
    let Report { accuracy, macro_f1, calibration_error, .. } = report;
    format!("accuracy {}, macro F1 {macro_f1:.3}, calibration error {calibration_error:.3}", shown(*accuracy))
}

fn shown(interval: Interval) -> String {
    format!("{:.3} ({:.3} to {:.3})", interval.value, interval.low, interval.high)
}

fn heading(text: &str, is_empty: bool) -> Result<(), AnyError> {
    if is_empty { Ok(()) } else { line(&format!("\n{text}")) }
}

/// Prints a line.
///
/// # Errors
/// Standard output is closed.
pub(super) fn line(text: &str) -> Result<(), AnyError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
