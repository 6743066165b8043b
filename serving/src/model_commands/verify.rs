//! `ml-inference models verify`

use models::certificate::{self, Certificate};
use models::{CardOverride, Catalog, CatalogConfig, Inventory, ModelState, Progress, RuntimeKind};

use super::{AnyError, named, telling};
use crate::devices::Devices;
use crate::progress::Bars;

/// Compares a model with its authors' library, by every runtime, and keeps the certificate if all agree.
pub(super) fn run(
    config: &CatalogConfig,
    devices: &Devices,
    python: &str,
    runtimes: &[RuntimeKind],
) -> Result<(), AnyError> {
    let bars = Bars::new();
    let model = named(Inventory::read(config, &bars)?, config)?;
    let files = model.files.as_ref().map_err(Clone::clone)?;
    bars.message(&format!("{}: asking its authors' library, by {python}", model.card.name));
    let authors = certificate::run(&model.card, &files.folder, python)?;
    let mut certificate = Certificate::new(&model.card, files.digest, authors.libraries, authors.answers);
    telling(&format!(
        "{}: {} texts by {}",
        model.card.name,
        certificate::PROBES.len(),
        certificate.authors()
    ));
    compare(config, devices, &model.card.name, &mut certificate)?;
    for runtime in runtimes.iter().filter(|runtime| **runtime != model.card.runtime) {
        let changed = CardOverride {
            runtime: Some(*runtime),
            dtype: Some(runtime.default_dtype()),
            ..CardOverride::default()
        };
        let mut config = config.clone();
        config.overrides.insert(model.card.name.clone(), changed);
        compare(&config, devices, &model.card.name, &mut certificate)?;
    }
    let path = certificate.write(&config.data_dir)?;
    telling(&format!("verified; every start is held to {}", path.display()));
    Ok(())
}

/// Compares with what one runtime gives.
fn compare(
    config: &CatalogConfig,
    devices: &Devices,
    name: &str,
    certificate: &mut Certificate,
) -> Result<(), AnyError> {
    let catalog = Catalog::load(config, &models::NoProgress)?;
    let entry = catalog.find(name).ok_or("the model is gone")?;
    if let ModelState::Unavailable { reason } = &entry.state {
        return Err(format!("{name}: {}: {reason}", entry.card.runtime).into());
    }
    let device = devices.first().ok_or("there is no device")?;
    let (runtime, dtype) = (entry.card.runtime, entry.card.dtype);
    let difference = catalog.difference(entry.id, device, certificate.answers());
    let difference =
        difference.map_err(|reason| format!("{name}: not verified: {runtime} in {dtype}: {reason}"))?;
    telling(&format!(
        "  {runtime} in {dtype}: {} of them compared, {:.1e} apart at most",
        difference.compared, difference.worst
    ));
    certificate.add(runtime, dtype, difference);
    Ok(())
}
