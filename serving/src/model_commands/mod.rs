//! `ml-inference models …`: models without a server.

mod bench;
mod list;
mod show;
mod verify;

use models::card::Origin;
use models::catalog::{Described, Place};
use models::source::{self, Store};
use models::{CatalogConfig, Inventory, Reference, Wanted};

use crate::app::catalog_config;
use crate::build::Build;
use crate::cli::LocalModels;
use crate::config::Config;
use crate::devices::Devices;
use crate::progress::Bars;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Runs a command.
///
/// # Errors
/// It cannot be done; the message says why and, where something can be done, what.
pub fn run(command: &LocalModels, config: &Config, build: &Build) -> Result<(), AnyError> {
    match command {
        LocalModels::Pull { model, update, .. } => pull(model, *update, config),
        LocalModels::List { .. } => list::run(&looking(config)),
        LocalModels::Show { model, .. } => show::run(&chosen(&looking(config), model)?),
        LocalModels::Verify { model, python, runtimes, .. } => {
            let devices = Devices::open(config, build.gpu_runtime)?;
            let catalog = computing(config, build, &devices, model)?;
            verify::run(&catalog, &devices, python, runtimes)
        }
        LocalModels::Bench { model, .. } => {
            let devices = Devices::open(config, build.gpu_runtime)?;
            let catalog = computing(config, build, &devices, model)?;
            bench::run(&catalog, &devices)
        }
    }
}

/// Of which nothing is fetched, to look at what there is.
fn looking(config: &Config) -> CatalogConfig {
    CatalogConfig { offline: true, ..catalog_config(config, models::CardOverride::default()) }
}

/// One model, to be computed.
fn computing(
    config: &Config,
    build: &Build,
    devices: &Devices,
    model: &str,
) -> Result<CatalogConfig, AnyError> {
    let catalog =
        CatalogConfig { gpu_runtime: build.gpu_runtime, ..catalog_config(config, devices.card_override()) };
    chosen(&catalog, model)
}

/// The configuration with one model alone: one that is configured, or one by its folder or repository.
fn chosen(config: &CatalogConfig, model: &str) -> Result<CatalogConfig, AnyError> {
    // Which model answers is decided among all.
    let config = CatalogConfig { defaults: std::collections::BTreeMap::new(), ..config.clone() };
    let place = place(model)?;
    let is_meant = |wanted: &&Wanted| wanted.name() == model || place.as_ref() == Some(&wanted.place);
    let configured = config.wanted.iter().find(is_meant).map(Wanted::name);
    let has_card = !config.skips_cards && config.cards_dir.join(model).join("README.md").is_file();
    let only = match (configured, place) {
        (Some(name), _) => name,
        (None, Some(place)) if !has_card => {
            let wanted = Wanted { place, name: None, task: None, pooling: None };
            let (only, overrides) = (Some(wanted.name()), std::collections::BTreeMap::new());
            let wanted = vec![wanted];
            return Ok(CatalogConfig { wanted, only, overrides, skips_cards: true, ..config });
        }
        (None, _) => model.to_owned(),
    };
    Ok(CatalogConfig { only: Some(only), ..config })
}

/// The folder or repository that a text names, if it names one and not a model.
fn place(model: &str) -> Result<Option<Place>, AnyError> {
    let (text, revision) = match model.split_once('@') {
        Some((text, revision)) => (text, Some(revision)),
        None => (model, None),
    };
    Ok(match Place::of(text, revision)? {
        Place::Folder(folder) if !folder.is_dir() => None,
        place => Some(place),
    })
}

fn pull(model: &str, is_update: bool, config: &Config) -> Result<(), AnyError> {
    let bars = Bars::new();
    let catalog = chosen(&catalog_config(config, models::CardOverride::default()), model)?;
    let store = Store { data_dir: catalog.data_dir.clone(), offline: catalog.offline };
    let is_chosen = |wanted: &&Wanted| catalog.only.as_ref() == Some(&wanted.name());
    if let Some(Place::Repository(reference)) =
        catalog.wanted.iter().find(is_chosen).map(|wanted| &wanted.place)
    {
        let pin = source::pinned(reference, is_update, &store, &bars)?;
        let folder = source::ensure(&pin.source(), std::path::Path::new(""), &store, &bars)?;
        let size = pin.files.values().map(|file| file.size).sum();
        telling(&format!(
            "{reference} is {}: {} files, {}, in {}",
            pin.commit,
            pin.files.len(),
            bytes(size),
            folder.display()
        ));
        return Ok(());
    }
    let described = named(Inventory::read(&catalog, &bars)?, &catalog)?;
    let files = described.files?;
    telling(&format!(
        "{} {}: {}, in {}",
        described.card.name,
        described.card.version,
        bytes(files.size),
        files.folder.display()
    ));
    Ok(())
}

/// The model that the configuration is left with.
fn named(inventory: Inventory, config: &CatalogConfig) -> Result<Described, AnyError> {
    let Inventory { models, rejected } = inventory;
    if let Some(rejected) = rejected.first() {
        return Err(format!("{}: {}", rejected.name, rejected.reason).into());
    }
    // It may be there with another that it needs.
    let is_meant = |model: &Described| config.only.as_ref().is_none_or(|only| *only == model.card.name);
    models.into_iter().find(is_meant).ok_or_else(|| "there is no such model".into())
}

/// A line on standard output, where there is still somebody to read it.
fn telling(line: &str) {
    crate::telemetry::tell(std::io::stdout(), line.to_owned());
}

/// Bytes as people read them.
fn bytes(size: u64) -> String {
    indicatif::HumanBytes(size).to_string()
}

/// Where a model comes from, and what of it cannot change.
fn pin(model: &Described) -> String {
    match (&model.card.source.origin, &model.revision) {
        (Origin::Folder(_), _) => "folder".to_owned(),
        (Origin::Repository { repository, revision, .. }, asked) => {
            let commit: String = revision.chars().take(12).collect();
            let asked = asked.as_ref().filter(|asked| *asked != revision);
            match Reference::new(repository, asked.map(String::as_str)) {
                Ok(reference) if asked.is_some() => format!("{reference} = {commit}"),
                _ => format!("{repository}@{commit}"),
            }
        }
    }
}
