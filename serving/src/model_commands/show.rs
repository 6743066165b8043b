//! `ml-inference models show`

use models::{CatalogConfig, Inventory, NoProgress};

use super::list::certificate;
use super::{AnyError, bytes, named, pin, telling};

/// What a card says that nobody has to be shown: its files are listed by themselves.
const LONG: [&str; 2] = ["source", "ignore_tensors"];

/// What a model is taken for, and by what.
pub(super) fn run(config: &CatalogConfig) -> Result<(), AnyError> {
    let model = named(Inventory::read(config, &NoProgress)?, config)?;
    let card = &model.card;
    telling(&format!("{} {}", card.name, card.version));
    let line = |field: &str, value: &str, from: &str| telling(&format!("  {field:16} {value}  ({from})"));
    if model.findings.is_empty() {
        let from = format!("{}/README.md", card.folder.display());
        line("task", card.task.as_str(), &from);
        line("architecture", card.architecture.as_str(), &from);
        line("head", card.head.name(), &from);
        line("labels", &card.labels.join(", "), &from);
        line("tokens_max", &card.limits.tokens_max.to_string(), &from);
    }
    for finding in model.findings.iter().filter(|finding| !LONG.contains(&finding.field)) {
        line(finding.field, &finding.value.to_string(), &finding.from);
    }
    telling(&format!("  {:16} {}", "pin", pin(&model)));
    let files = model.files.as_ref().map_err(Clone::clone)?;
    telling(&format!("  {:16} {} in {}", "files", bytes(files.size), files.folder.display()));
    card.source.files.keys().for_each(|file| telling(&format!("  {:16} {file}", "")));
    telling(&format!("  {:16} {}", "certificate", certificate(&model, config)));
    telling(&format!("  computed by      {} in {}", card.runtime, card.dtype));
    for (runtime, lack) in &files.runtimes {
        let says = match (lack, *runtime == card.runtime) {
            (Some(lack), _) => lack.clone(),
            (None, true) => "can, and is chosen by card, configuration or default".to_owned(),
            (None, false) => "can".to_owned(),
        };
        telling(&format!("    {runtime:14} {says}"));
    }
    Ok(())
}
