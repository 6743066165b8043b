//! Files and their digests.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::card::Sha256Digest;
use crate::error::ModelError;

/// Large enough that the system calls do not show beside the hashing.
const CHUNK_BYTES: usize = 1 << 20;

/// Digest of a file's content.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path) -> std::io::Result<Sha256Digest> {
    let mut file = File::open(path)?;
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
    std::fs::read(path)
        .map_err(|error| ModelError::File { file: path.display().to_string(), message: error.to_string() })
}
