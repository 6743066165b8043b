//! Whether requests should be sent here, and the parts that decide it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use batching::Engine;
use models::{Sequence, SequenceOutput, Unready};
use tokio_util::sync::CancellationToken;

use crate::current_catalog::CurrentCatalog;

/// A part of the server by name, and why it is not ready if it is not, or what there is to say of it all the
/// same.
pub type Part = (&'static str, Result<Option<Note>, String>);

/// What there is to say of a part that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// It does not do all that it should.
    Degraded(String),
    /// It does, and may not for long.
    Warning(String),
}

/// Something that consists of parts.
pub trait HasParts: Send + Sync {
    /// Parts without which no request can be served.
    fn parts(&self) -> Vec<Part>;
}

/// What has to be ready for requests to be sent here.
pub struct Readiness {
    is_listening: AtomicBool,
    engine: Engine<Sequence, SequenceOutput>,
    catalog: Arc<CurrentCatalog>,
    others: Arc<dyn HasParts>,
    stopping: CancellationToken,
}

impl Readiness {
    /// Of a server that does not take requests yet.
    pub(crate) fn new(
        engine: Engine<Sequence, SequenceOutput>,
        catalog: Arc<CurrentCatalog>,
        others: Arc<dyn HasParts>,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { is_listening: AtomicBool::new(false), engine, catalog, others, stopping })
    }

    /// Whether requests should be sent here: every part is ready.
    pub fn is_ready(&self) -> bool {
        self.parts().iter().all(|(_, state)| state.is_ok())
    }

    /// Whether what is loaded is served: the server listens, is not stopping, and its devices work.
    pub fn is_serving(&self) -> bool {
        self.is_listening.load(Ordering::Acquire) && self.engine.is_healthy()
    }

    /// Required models that do not serve.
    pub fn unready(&self) -> Vec<Unready> {
        self.catalog.load().unready()
    }

    /// The server takes requests, or takes no more.
    pub(crate) fn set_listening(&self, is_listening: bool) {
        self.is_listening.store(is_listening, Ordering::Release);
    }
}

impl HasParts for Readiness {
    fn parts(&self) -> Vec<Part> {
        let needs = |is_met: bool, reason: &str| if is_met { Ok(None) } else { Err(reason.to_owned()) };
        let state = if self.stopping.is_cancelled() { "shutting down" } else { "does not take requests" };
        let unready: Vec<_> =
            self.unready().iter().map(|model| format!("{}: {}", model.name, model.reason)).collect();
        let mut parts = vec![
            ("server", needs(self.is_listening.load(Ordering::Acquire), state)),
            ("devices", needs(self.engine.is_healthy(), "a device was lost")),
            ("models", needs(unready.is_empty(), &unready.join("; "))),
        ];
        parts.extend(self.others.parts());
        parts
    }
}
