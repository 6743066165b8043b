//! Looks for one record in the journal.

use super::error::JournalError;
use super::reader::Reader;
use super::{Journal, UsageRecord, segments};

/// Records read at once.
const RECORDS_MAX: usize = 1_000;

impl Journal {
    /// Whether a record is in the journal that a start of the server, its epoch, was to write as number
    /// `from` or soon after. Where that cannot be told any more, since the segment was removed or is damaged,
    /// it counts as written: nothing is recorded twice.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn has(&self, epoch: &str, from: u64, record: &UsageRecord) -> Result<bool, JournalError> {
        if !self.is_on() {
            return Ok(true);
        }
        let (folder, until) = (self.folder().to_owned(), self.written());
        let (epoch, record) = (epoch.to_owned(), record.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let oldest = segments::list(&folder)?.first().map(|segment| segment.first);
            if oldest.is_some_and(|oldest| from < oldest) {
                return Ok(true);
            }
            let mut reader = Reader::new(&folder, from).pass_damage_below(u64::MAX);
            loop {
                let entries = reader.read(until, RECORDS_MAX)?;
                if entries.is_empty() {
                    return Ok(reader.take_passed() > 0);
                }
                for entry in entries {
                    if entry.epoch.as_deref() != Some(&*epoch) {
                        return Ok(reader.take_passed() > 0);
                    }
                    if entry.record == record {
                        return Ok(true);
                    }
                }
            }
        });
        looked.await.map_err(std::io::Error::other)?
    }
}
