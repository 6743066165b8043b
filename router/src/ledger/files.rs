//! Small files beside the journal.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Only the server's user reads and writes what is in the folder.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// Options of a file that only this user may read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Takes a file of an older version from everybody else.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let permissions = std::fs::metadata(path)?.permissions();
    if permissions.mode() & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(FILE_MODE))
}

/// Puts a file in the place of another: whoever reads it, also after a power failure, finds the one or the
/// other.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private().create(true).write(true).truncate(true).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// What was made, renamed or removed in a folder is so after a power failure too.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The text of a file; none if there is no file.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// Numbers above this were not given out by us: a file was damaged.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// The number in a file. None: there is no file, or none of ours.
pub(super) fn number_in(path: &Path) -> io::Result<Option<u64>> {
    let Some(text) = read(path)? else { return Ok(None) };
    let number = text.parse().ok().filter(|number| *number <= NUMBER_MAX);
    if number.is_none() {
        tracing::error!(file = %path.display(), "this file holds no record's number and is not used");
    }
    Ok(number)
}
