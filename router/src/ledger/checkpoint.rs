//! What the shipper knows of the store, in a file beside the journal: by this it finds out, after a start,
//! whether the store is behind what it once had.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files;
use units::Day;

const FILE: &str = "tenants.json";

/// See the module. All records before `next` are in the store; those after are looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Name of the journal.
    pub(super) journal: String,
    /// Where the store is: see [`UsageStore::home`](super::UsageStore::home).
    #[serde(default)]
    pub(super) home: Option<String>,
    /// The store's life, if it was asked.
    pub(super) life: Option<String>,
    /// Number of the first record that may not be in the store.
    pub(super) next: u64,
    /// What is in the store.
    #[serde(default)]
    pub(super) sums: Vec<Row>,
    /// What the store lost for good: records that the journal no longer had.
    #[serde(default)]
    pub(super) lacking: Vec<Row>,
}

/// What the store has of one epoch's records of a tenant and day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) tenant: Arc<str>,
    pub(super) day: Day,
    pub(super) epoch: Arc<str>,
    /// Number of the first of them.
    pub(super) first: u64,
    /// Number after the last.
    pub(super) next: u64,
    /// Number after the last that this journal had: a copy of a folder hears of more than it has. 0: an older
    /// version's.
    #[serde(default)]
    pub(super) own: u64,
}

impl Checkpoint {
    /// The folder's. None: there is none, or none that can be read.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(FILE);
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let read = serde_json::from_str(&text).map_err(|error| {
            tracing::error!(file = %path.display(), %error, "this file cannot be read; all records are looked at again");
        });
        Ok(read.ok())
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        files::replace(&folder.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Has all records looked at again. What is known of the store and of the journal stays.
    pub(super) fn reset(folder: &Path) -> io::Result<()> {
        match Self::read(folder)? {
            Some(checkpoint) => Self { next: 0, ..checkpoint }.write(folder),
            None => Self::remove(folder),
        }
    }

    fn remove(folder: &Path) -> io::Result<()> {
        match std::fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
