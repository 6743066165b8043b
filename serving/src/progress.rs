//! What a person who starts the server sees: progress of long steps, and how to try it once it is up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use models::{Catalog, Progress};
use router::DEVELOPMENT_KEY;

use crate::app::Listeners;

/// Progress on standard error: bars on a terminal, plain lines elsewhere.
pub struct Bars {
    all: MultiProgress,
    files: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    pub fn new() -> Self {
        Self { all: MultiProgress::new(), files: Mutex::default() }
    }

    fn bar(&self, file: &str, total: u64) -> ProgressBar {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = files.entry(file.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(total));
            // The template is a constant; were it wrong, the default bar is as good.
            let template = "  {msg:30} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.with_message(file.to_owned())
        });
        bar.clone()
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bars {
    fn message(&self, text: &str) {
        // Where bars are drawn, the line goes above them; elsewhere the log alone carries it.
        if self.all.is_hidden() || self.all.println(text).is_err() {
            tracing::info!("{text}");
        }
    }

    fn bytes(&self, file: &str, completed: u64, total: u64) {
        let bar = self.bar(file, total);
        bar.set_length(total.max(completed));
        bar.set_position(completed);
        if total > 0 && completed >= total {
            bar.finish();
        }
    }
}

/// Where a server listens.
pub struct Addresses {
    scheme: &'static str,
    api: SocketAddr,
    operations: SocketAddr,
}

impl Addresses {
    /// Those of its listeners.
    ///
    /// # Errors
    /// A listener does not know its address.
    pub fn of(listeners: &Listeners) -> std::io::Result<Self> {
        let scheme = if listeners.certificates.is_some() { "https" } else { "http" };
        Ok(Self { scheme, api: listeners.api.local_addr()?, operations: listeners.ops.local_addr()? })
    }

    /// What is printed when the server is ready: where it listens, what it serves, and a line to try.
    pub fn ready_message(&self, catalog: &Catalog, has_development_tenant: bool) -> String {
        let Self { scheme, api, operations } = self;
        let loaded = catalog.models().iter().filter(|model| model.is_loaded());
        let names: Vec<_> = loaded.map(|model| model.card.name.as_str()).collect();
        let mut text = format!(
            "ml-inference is ready\n  \
             REST and gRPC  {scheme}://{api}\n  \
             operations     http://{operations}/metrics\n  \
             models         {}",
            names.join(", ")
        );
        if has_development_tenant {
            text.push_str(&format!(
                "\n  try            curl -s {scheme}://{api}/v1/ml/sentiment -H 'Authorization: Bearer {DEVELOPMENT_KEY}' \
                 -H 'Content-Type: application/json' -d '{{\"inputs\": \"The new release is a joy to use.\"}}'"
            ));
        }
        text
    }
}
