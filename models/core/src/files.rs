//! Files and their digests.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::card::Sha256Digest;
use crate::error::ModelError;

/// Large enough that the system calls do not show beside the hashing.
const CHUNK_BYTES: usize = 1 << 20;

/// Most bytes of a file that is read into memory whole; weights of encoders are not.
const READ_BYTES_MAX: u64 = 1 << 30;

/// Digests of files of at least this size are kept. To read one takes longer than the tick of the clock that
/// stamps files, so that a change behind its reading has another stamp.
const KEPT_BYTES_MIN: u64 = 64 << 20;
/// Digests that are kept: of more files than a process serves models.
const KEPT_MAX: usize = 4096;

/// Digests that this process has computed: a card is made of a checkpoint and then compared with it, and
/// weights are read again when a model is loaded again.
static KEPT: Mutex<BTreeMap<Stamp, Sha256Digest>> = Mutex::new(BTreeMap::new());

/// What a file system says of a file's content without reading it. Whoever writes to a file cannot choose
/// when it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Opens a file. What is none, such as a pipe, may never end or never begin.
fn open(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    File::open(path)
}

/// Digest of a file's content. A large file that has not changed since is not read again.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path) -> io::Result<Sha256Digest> {
    let mut file = open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = kept().get(&stamp) {
        return Ok(*digest);
    }
    let digest = digest_of_content(&mut file)?;
    // What was written to while it was read is read again.
    if stamp.bytes >= KEPT_BYTES_MIN && stamp == Stamp::of(&file.metadata()?) {
        let mut kept = kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(stamp, digest);
    }
    Ok(digest)
}

fn digest_of_content(file: &mut File) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(Sha256Digest(hasher.finalize().into()));
        }
        hasher.update(&chunk[..read]);
    }
}

/// Digest of bytes in memory.
pub fn digest_of(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(bytes).into())
}

/// One digest that stands for several, whatever they are digests of.
pub fn digest_of_all<'a>(digests: impl IntoIterator<Item = &'a Sha256Digest>) -> Sha256Digest {
    let mut hasher = Sha256::new();
    digests.into_iter().for_each(|digest| hasher.update(digest.0));
    Sha256Digest(hasher.finalize().into())
}

/// Reads a file once and checks what was read, so that nothing can change in between.
///
/// # Errors
/// When it cannot be read, or is another than expected.
pub fn read_verified(path: &Path, expected: Sha256Digest) -> Result<Vec<u8>, ModelError> {
    let bytes = read(path)?;
    let found = digest_of(&bytes);
    if found != expected {
        let message = format!("SHA-256 is {found}, the card says {expected}");
        return Err(ModelError::File { file: path.display().to_string(), message });
    }
    Ok(bytes)
}

/// Reads a file, naming it in the error.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let fault =
        |error: io::Error| ModelError::File { file: path.display().to_string(), message: error.to_string() };
    let mut file = open(path).map_err(fault)?;
    let length = file.metadata().map_err(fault)?.len();
    if length > READ_BYTES_MAX {
        return Err(fault(io::Error::other(format!("{length} bytes are more than {READ_BYTES_MAX}"))));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file that has changed is another, whatever its size and the times that its writer gives it.
    #[test]
    fn large_files_are_read_when_they_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let mut bytes = vec![0_u8; KEPT_BYTES_MIN as usize];
        std::fs::write(&path, &bytes).unwrap();
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        let stamp = Stamp::of(&std::fs::metadata(&path).unwrap());
        let first = digest(&path).unwrap();
        assert_eq!((first, digest(&path).unwrap()), (digest_of(&bytes), first));
        assert_eq!(KEPT.lock().unwrap().get(&stamp), Some(&first));

        bytes[0] = 1;
        std::fs::write(&path, &bytes).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert_eq!(digest(&path).unwrap(), digest_of(&bytes));
    }

    #[test]
    fn only_files_are_read() {
        for path in ["/dev/zero", "/tmp"] {
            let path = Path::new(path);
            assert_eq!(digest(path).unwrap_err().to_string(), "is not a regular file");
            assert!(read(path).unwrap_err().to_string().ends_with("is not a regular file"));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        File::create(&path).unwrap().set_len(READ_BYTES_MAX + 1).unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("1073741825 bytes are more than 1073741824"));
    }
}
