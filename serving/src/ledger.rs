//! Opens the journal of what is used, with those who read it.

use std::path::Path;
use std::sync::Arc;

use router::WallTime;
use router::ledger::{
    Followers, Held, Journal, JournalConfig, JournalError, ShipError, Shipper, UsageStore, journal_name,
    number_by_clock,
};

use crate::build::KafkaSink;
use crate::config::Config;
use crate::sinks::{self, SinkConfigError, SinkFeed};

/// The journal's folder in the state folder.
pub(crate) const FOLDER: &str = "usage";

/// A problem that stays is said once.
#[derive(Default)]
pub(crate) struct Problem(Option<String>);

impl Problem {
    /// Takes how the last attempt ended.
    pub(crate) fn tell(&mut self, problem: Option<ShipError>) {
        let problem = problem.map(|error| error.to_string());
        match &problem {
            Some(error) if self.0 != problem => {
                tracing::error!(%error, "usage records cannot be shipped; they are kept");
            }
            None if self.0.is_some() => tracing::info!("usage records are shipped again"),
            _ => {}
        }
        self.0 = problem;
    }
}

/// Why what is used cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A sink of usage events.
    #[error(transparent)]
    Sink(#[from] SinkConfigError),
}

/// The journal of what is used, and who reads it.
pub(crate) struct Ledger {
    pub(crate) journal: Journal,
    /// Name of the server and its journal.
    pub(crate) server: String,
    pub(crate) followers: Arc<Followers>,
    pub(crate) shipper: Shipper,
    pub(crate) sinks: Vec<SinkFeed>,
}

impl Ledger {
    /// Opens the journal under the lock of its state folder, which is `held`; asks the store what it has of
    /// it, looks for damage in what somebody still needs, and finds who reads it.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub(crate) async fn open(
        config: &Config,
        kafka: Option<KafkaSink>,
        folder: &Path,
        store: Arc<dyn UsageStore>,
        held: Held,
    ) -> Result<Self, LedgerError> {
        let usage = &config.usage;
        let server = journal_name(folder)?;
        let journal = JournalConfig {
            folder: folder.to_owned(),
            flush: usage.flush,
            segment_bytes_max: usage.segment_bytes_max,
            pending_max: usage.pending_records_max,
            is_on: usage.is_recorded,
        };
        let journal = Journal::open_above(journal, number_by_clock(WallTime::now()), vec![held])?;
        let followers = followers(config, folder);
        let mut shipper = Shipper::new(store, server.clone(), Arc::clone(&followers));
        let sinks = sinks::open(config, kafka, &server, &followers)?;
        // What the store lacks is needed, whatever was shipped to the one before it.
        if let Err(error) = shipper.check().await {
            tracing::warn!(%error, "the store does not say which usage records it has");
        }
        journal.check(&followers)?;
        Ok(Self { journal, server, followers, shipper, sinks })
    }
}

/// Followers of the journal in a folder, who leave behind them what the configuration says.
pub(crate) fn followers(config: &Config, folder: &Path) -> Arc<Followers> {
    let usage = &config.usage;
    let bytes_kept = usage.segment_bytes_max.saturating_mul(usage.shipped_segments_kept as u64);
    Followers::keeping(folder, usage.shipped_segments_kept, bytes_kept)
}
