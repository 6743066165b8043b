//! What can be wrong with a journal.

use std::io;
use std::path::PathBuf;

/// Why a record was not written, or the journal not opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refuses.
    #[error("the usage journal cannot be used: {0}")]
    Io(#[from] io::Error),
    /// A line in the midst of the journal is not what was written.
    #[error(
        "the usage journal is damaged at record {number} in {file}, which was not delivered to everybody yet; \
         `ml-inference usage repair` sets the damaged segment aside and keeps its good records"
    )]
    Damaged { number: u64, file: PathBuf },
    /// The name under which the store knows the journal is lost.
    #[error(
        "{file} is missing or empty, and the journal beside it has records: under another name they would be charged again. \
         Restore the file, or move the folder away if its records need not be summed"
    )]
    Nameless {
        /// Where the name was.
        file: PathBuf,
    },
    /// Another process has the folder.
    #[error(
        "the usage journal {folder} is in use by another process, by this path or another one; give each server a folder of its own"
    )]
    InUse { folder: PathBuf },
    /// The name of the journal is not to be told, and there are records that belong to it.
    #[error(
        "{file} says that this is the journal {named}, and the checkpoint beside it {known}; records of an older version would be \
         charged again under the wrong name. Restore the file, or remove it if the checkpoint is right"
    )]
    Disputed {
        /// Where the name is.
        file: PathBuf,
        named: String,
        /// What the checkpoint says.
        known: String,
    },
    /// The writer has ended.
    #[error("the usage journal is closed")]
    Closed,
}
