//! What a person who starts the server sees: progress of long steps, and how to try it once it is up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use models::{Catalog, Progress, Task};
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

    /// What is printed when the server is ready: where it listens, what it serves on which routes, and a line
    /// to try.
    pub fn ready_message(&self, catalog: &Catalog, has_development_tenant: bool) -> String {
        let Self { scheme, api, operations } = self;
        let loaded: Vec<_> = catalog.models().iter().filter(|model| model.is_loaded()).collect();
        let width = loaded.iter().map(|model| model.card.name.len()).max().unwrap_or(0);
        let lines = loaded.iter().map(|model| {
            let (route, _) = example(model.card.task);
            format!("{:width$}  POST /v1/ml/{route}", model.card.name)
        });
        let mut text = format!(
            "ml-inference is ready\n  \
             REST and gRPC  {scheme}://{api}\n  \
             operations     http://{operations}/metrics\n  \
             models         {}",
            lines.collect::<Vec<_>>().join("\n                 ")
        );
        let tried = loaded.iter().find(|model| model.card.task == Task::Sentiment).or(loaded.first());
        if let Some(model) = tried.filter(|_| has_development_tenant) {
            let (route, inputs) = example(model.card.task);
            let is_default = catalog.default_for(model.card.task).is_ok_and(|default| default.id == model.id);
            let named =
                if is_default { String::new() } else { format!("\"model\": \"{}\", ", model.card.name) };
            text.push_str(&format!(
                "\n  try            curl -s {scheme}://{api}/v1/ml/{route} \
                 -H 'Authorization: Bearer {DEVELOPMENT_KEY}' \
                 -H 'Content-Type: application/json' -d '{{{named}{inputs}}}'"
            ));
        }
        text
    }
}

/// The route of a task's models below `/v1/ml/`, and the fields of a call to try.
const fn example(task: Task) -> (&'static str, &'static str) {
    match task {
        Task::Classify => ("classify", r#""inputs": "The parcel arrived with a broken lid.""#),
        Task::Sentiment => ("sentiment", r#""inputs": "The new release is a joy to use.""#),
        Task::Entities => ("entities", r#""inputs": "Ada Lovelace met Charles Babbage in London.""#),
        Task::Summarize => ("summarize", r#""inputs": "The harbour opened at six. Two ships were late.""#),
        Task::Embed => ("embeddings", r#""inputs": "The new release is a joy to use.""#),
        Task::Rerank => (
            "rerank",
            r#""query": "Who is late?", "inputs": ["Two ships were late.", "The harbour opened."]"#,
        ),
    }
}
