//! Comparing loaded models with their certificates.

mod compare;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use models_core::{Device, RuntimeError, Verification};
use units::ModelId;

use super::{Catalog, CatalogConfig, ChangeError, ModelState, Newcomer, UnavailableError};
use crate::certificate::{Answered, Certificate, Difference};
use crate::executor::DeviceExecutor;
use crate::progress::{NoProgress, Progress};

impl Catalog {
    /// Compares each loaded model that has a certificate with it, on one device, and says so in the log. One
    /// that gives other answers does not serve.
    pub fn verify(&mut self, device: &Device, data_dir: &Path, progress: &dyn Progress) {
        let loaded: Vec<ModelId> =
            self.models().iter().filter(|entry| entry.is_loaded()).map(|entry| entry.id).collect();
        let mut unverified = Vec::new();
        for id in loaded {
            let (verification, reason) = self.verification(id, device, data_dir, progress);
            if verification == Verification::Unverified {
                unverified.extend(self.get(id).map(|entry| entry.card.name.clone()));
            }
            self.models.verified(id, verification, reason);
        }
        if !unverified.is_empty() {
            let models = unverified.join(", ");
            tracing::info!(
                models,
                "unverified: they have no certificate (ml-inference models verify makes one)"
            );
        }
    }

    /// A model that is in no catalog yet, compared as [`verify`](Self::verify) does.
    ///
    /// # Errors
    /// Its card does not go with those of the others, or it gives other answers than its certificate says.
    pub fn verify_newcomer(
        &self,
        config: &CatalogConfig,
        mut newcomer: Newcomer,
        device: &Device,
    ) -> Result<Newcomer, ChangeError> {
        let id = newcomer.entry().id;
        let (verification, reason) =
            self.with(config, &newcomer)?.verification(id, device, &config.data_dir, &NoProgress);
        if let Some(reason) = reason {
            return Err(UnavailableError::Answers(reason).into());
        }
        newcomer.verified(verification);
        Ok(newcomer)
    }

    /// What comparing a loaded model shows, and why it must not serve.
    fn verification(
        &self,
        id: ModelId,
        device: &Device,
        data_dir: &Path,
        progress: &dyn Progress,
    ) -> (Verification, Option<String>) {
        let compared = catch_unwind(AssertUnwindSafe(|| self.verified(id, device, data_dir, progress)));
        match compared.unwrap_or_else(|_| Err("comparing it panicked".to_owned())) {
            Ok(true) => (Verification::Verified, None),
            Ok(false) => (Verification::Unverified, None),
            Err(reason) => (Verification::Failed, Some(reason)),
        }
    }

    /// Whether a model has a certificate and gives its answers.
    fn verified(
        &self,
        id: ModelId,
        device: &Device,
        data_dir: &Path,
        progress: &dyn Progress,
    ) -> Result<bool, String> {
        let Some(entry) = self.get(id) else { return Ok(false) };
        let ModelState::Loaded { digest, .. } = entry.state else { return Ok(false) };
        let name = entry.card.name.as_str();
        let certificate = match Certificate::find(data_dir, &entry.card, digest) {
            Ok(Some(certificate)) => certificate,
            Ok(None) => return Ok(false),
            Err(error) => {
                tracing::warn!(model = name, %error, "its certificate cannot be read");
                return Ok(false);
            }
        };
        progress.message(&format!("comparing {name} with its certificate"));
        let Difference { worst, compared } =
            self.difference(id, device, certificate.answers()).map_err(|reason| {
                let file = Certificate::path(data_dir, digest);
                format!(
                    "does not give the answers of its authors' library: {reason} (certificate {}; `ml-inference models \
                     verify {name}` makes it anew)",
                    file.display()
                )
            })?;
        tracing::info!(
            model = name,
            runtime = entry.card.runtime.as_str(),
            dtype = entry.card.dtype.as_str(),
            worst,
            probes = compared,
            authors = certificate.authors(),
            "verified: it gives the answers of its authors' library"
        );
        Ok(true)
    }

    /// How far a loaded model is from what its authors' library answered to the probes.
    ///
    /// # Errors
    /// Too far, or it cannot be asked.
    pub fn difference(
        &self,
        id: ModelId,
        device: &Device,
        answers: &[Answered],
    ) -> Result<Difference, String> {
        let entry = self.get(id).ok_or("it is gone")?;
        let mut executor = self.executor_of(id, device).map_err(|error| error.to_string())?;
        compare::compare(self, entry, &mut executor, answers)
    }

    /// An executor for one loaded model alone.
    ///
    /// # Errors
    /// When it does not fit the device's memory, or the device refuses it.
    pub fn executor_of(&self, id: ModelId, device: &Device) -> Result<DeviceExecutor, RuntimeError> {
        self.executor_for(device, |entry| entry.id == id)
    }
}
