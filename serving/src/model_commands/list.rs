//! `ml-inference models list`

use models::catalog::{Described, Place};
use models::certificate::Certificate;
use models::source::{Pin, Store};
use models::{CatalogConfig, Inventory, NoProgress, Reference, Wanted};

use super::{AnyError, bytes, pin, telling};

const HEADER: [&str; 7] = ["NAME", "TASK", "ARCHITECTURE", "RUNTIME", "SIZE", "PIN", "CERTIFICATE"];

/// A row for each model that is configured or was pulled.
pub(super) fn run(config: &CatalogConfig) -> Result<(), AnyError> {
    let inventory = Inventory::read(config, &NoProgress)?;
    let mut rows: Vec<[String; 7]> = vec![HEADER.map(str::to_owned)];
    rows.extend(inventory.models.iter().map(|model| row(model, config)));
    let mut faults: Vec<String> =
        inventory.rejected.iter().map(|card| format!("{}: {}", card.name, card.reason)).collect();
    for model in &inventory.models {
        if let Err(reason) = &model.files {
            faults.push(format!("{}: {reason}", model.card.name));
        }
    }
    let (pulled, more) = pulled(config)?;
    rows.extend(pulled.iter().map(|model| row(model, config)));
    faults.extend(more);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        telling(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    faults.iter().for_each(|fault| telling(fault));
    Ok(())
}

/// Repositories that were pulled and are not configured, and what is wrong with others of them.
fn pulled(config: &CatalogConfig) -> Result<(Vec<Described>, Vec<String>), AnyError> {
    let store = Store { data_dir: config.data_dir.clone(), offline: true };
    let is_configured = |reference: &Reference| {
        config.wanted.iter().any(|wanted| wanted.place == Place::Repository(reference.clone()))
    };
    let (mut models, mut faults) = (Vec::new(), Vec::new());
    for pin in Pin::all(&store) {
        // A commit is pinned beside the branch that it is of.
        if pin.revision == pin.commit {
            continue;
        }
        let reference = Reference::new(&pin.repository, Some(&pin.revision))?;
        if is_configured(&reference) {
            continue;
        }
        let wanted = Wanted { place: Place::Repository(reference), name: None, task: None, pooling: None };
        let config = CatalogConfig {
            wanted: vec![wanted],
            skips_cards: true,
            overrides: std::collections::BTreeMap::new(),
            defaults: std::collections::BTreeMap::new(),
            ..config.clone()
        };
        let inventory = Inventory::read(&config, &NoProgress)?;
        faults.extend(inventory.rejected.iter().map(|card| format!("{}: {}", card.name, card.reason)));
        models.extend(inventory.models);
    }
    Ok((models, faults))
}

fn row(model: &Described, config: &CatalogConfig) -> [String; 7] {
    let card = &model.card;
    let (size, certificate) = match &model.files {
        Ok(files) => (bytes(files.size), certificate(model, config)),
        Err(_) => ("missing".to_owned(), "-".to_owned()),
    };
    let runtime = format!("{} {}", card.runtime, card.dtype);
    let (task, architecture) = (card.task.to_string(), card.architecture.to_string());
    [card.name.clone(), task, architecture, runtime, size, pin(model), certificate]
}

/// What the certificate of a model says, in a few words.
pub(super) fn certificate(model: &Described, config: &CatalogConfig) -> String {
    let Ok(files) = &model.files else { return "-".to_owned() };
    match Certificate::find(&config.data_dir, &model.card, files.digest) {
        Ok(Some(certificate)) => certificate.authors(),
        Ok(None) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}
