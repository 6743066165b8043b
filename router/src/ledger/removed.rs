//! Up to which record segments were removed, since nobody needed them: a small file beside them.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files;

const REMOVED: &str = "removed";

/// All records before this number were removed, since nobody needed them. None: an older version did not note
/// it.
pub(super) fn removed(folder: &Path) -> io::Result<Option<u64>> {
    files::number_in(&folder.join(REMOVED))
}

/// Notes that all before this number is about to be removed. Once there is a file that takes no room, which
/// may be what is lacking.
pub(super) fn set(folder: &Path, next: u64) -> io::Result<()> {
    let file = files::private().create(true).write(true).truncate(false).open(folder.join(REMOVED))?;
    file.write_all_at(format!("{next:020}\n").as_bytes(), 0)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_noted_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(removed(folder.path()).unwrap(), None);
        set(folder.path(), 100).unwrap();
        assert_eq!(removed(folder.path()).unwrap(), Some(100));
    }
}
