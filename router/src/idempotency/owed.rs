//! What is kept with an answer until its record is in a journal.
//!
//! An answer is kept before its record is written, and between the two a server may be killed. So the record
//! is kept with the answer, in one transaction, and taken away again once it is written; an answer that has
//! one is given to nobody before it is known to be in its journal. Only whoever has that journal can tell:
//! another server gives the record to it, through the store.

use serde::{Deserialize, Serialize};

use super::{Answer, Name};
use crate::ledger::UsageRecord;
use units::WallTime;

/// A record that may not have been written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Name of the journal that it belongs to.
    pub journal: String,
    /// The start of the journal's server that was to write it.
    pub epoch: String,
    /// Lowest number that it can have there.
    pub from: u64,
    pub record: UsageRecord,
}

/// Something owed, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOwed {
    /// Under which the answer is kept.
    pub name: Name,
    pub owed: Owed,
    /// The same as it is stored: what is changed is what was read.
    pub(super) text: Vec<u8>,
}

/// An answer whose record may not have been written.
#[derive(Debug)]
pub struct Unrecorded {
    /// None: it was too large to be kept.
    pub answer: Option<Answer>,
    pub owed: StoredOwed,
    /// Until when another server may still be about to write the record.
    pub until: WallTime,
}

impl Owed {
    /// As it is stored.
    pub(super) fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

impl StoredOwed {
    /// None: it is not one of ours.
    pub(super) fn parse(name: Name, text: Vec<u8>) -> Option<Self> {
        let owed = serde_json::from_slice(&text);
        if let Err(error) = &owed {
            tracing::error!(%error, tenant = name.tenant, "the record kept with an answer cannot be read");
        }
        Some(Self { name, owed: owed.ok()?, text })
    }
}
