//! A file of named tensors, in the format of <https://github.com/huggingface/safetensors>.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::error::ModelError;

/// Bytes before the header, which hold its length.
const LENGTH_BYTES: usize = 8;
/// Longest header that is read; the format's own limit.
const HEADER_BYTES_MAX: usize = 100_000_000;
/// Bytes of a tensor that are read at once: a whole number of values of every type.
const PIECE_BYTES: usize = 1 << 18;

/// The tensors of one safetensors file. A tensor's values are read when they are asked for.
pub struct TensorFile {
    file: String,
    metadata: Metadata,
    /// Where the values begin.
    offset: usize,
    source: Bytes,
}

enum Bytes {
    InMemory(Vec<u8>),
    OnDisk(File),
}

impl TensorFile {
    /// Opens a file whose digest was checked before.
    ///
    /// # Errors
    /// When it cannot be read or is not in the format.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |error: std::io::Error| fault(path, error.to_string());
        let disk = File::open(path).map_err(io)?;
        let size = disk.metadata().map_err(io)?.len();
        Self::new(path, Bytes::OnDisk(disk), usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Takes the bytes of a file; `path` is what errors call it.
    ///
    /// # Errors
    /// When they are not in the format.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let size = bytes.len();
        Self::new(path, Bytes::InMemory(bytes), size)
    }

    fn new(path: &Path, source: Bytes, size: usize) -> Result<Self, ModelError> {
        let read = |start, end| source.read(start, end).map_err(|error| fault(path, error.to_string()));
        let length = read(0, LENGTH_BYTES)?.try_into().map_or(u64::MAX, u64::from_le_bytes);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > HEADER_BYTES_MAX.min(size.saturating_sub(LENGTH_BYTES)) {
            return Err(fault(path, format!("a header of {length} bytes does not fit the file")));
        }
        let offset = LENGTH_BYTES + length;
        // The library checks that shapes and offsets agree and leave no gap.
        let metadata: Metadata = serde_json::from_slice(&read(LENGTH_BYTES, offset)?)
            .map_err(|error| fault(path, error.to_string()))?;
        if metadata.data_len().checked_add(offset) != Some(size) {
            return Err(fault(path, "its length is not what its header says".to_owned()));
        }
        Ok(Self { file: path.display().to_string(), metadata, offset, source })
    }

    /// What errors call this file.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Names of all tensors.
    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Whether the file has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The dimensions of a tensor.
    pub(super) fn dims(&self, name: &str) -> Result<&[usize], ModelError> {
        self.info(name).map(|info| info.shape.as_slice())
    }

    /// The values of a tensor of exactly this shape, row-major, in float32.
    pub(super) fn get(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
        let info = self.info(name)?;
        if info.shape != expected {
            return Err(ModelError::Shape {
                file: self.file.clone(),
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: info.shape.clone(),
            });
        }
        match info.dtype {
            Dtype::F32 => self.widen(info, f32::from_le_bytes),
            Dtype::F16 => self.widen(info, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => self.widen(info, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => self.widen(info, |bytes| f64::from_le_bytes(bytes) as f32),
            other => {
                let message = format!("tensor {name} is {other}, expected a float type");
                Err(ModelError::File { file: self.file.clone(), message })
            }
        }
    }

    /// Reads in pieces, so that a large tensor is never held as bytes too.
    fn widen<const N: usize>(
        &self,
        info: &TensorInfo,
        value: impl Fn([u8; N]) -> f32,
    ) -> Result<Vec<f32>, ModelError> {
        let (start, end) = info.data_offsets;
        let (start, end) = (self.offset + start, self.offset + end);
        let mut values = Vec::with_capacity(end.saturating_sub(start) / N);
        for from in (start..end).step_by(PIECE_BYTES) {
            let piece = self.source.read(from, end.min(from + PIECE_BYTES));
            let piece = piece
                .map_err(|error| ModelError::File { file: self.file.clone(), message: error.to_string() })?;
            values.extend(piece.as_chunks().0.iter().map(|bytes| value(*bytes)));
        }
        Ok(values)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, ModelError> {
        let missing = || ModelError::MissingTensor { file: self.file.clone(), name: name.to_owned() };
        self.metadata.info(name).ok_or_else(missing)
    }
}

impl Bytes {
    /// The bytes between two offsets.
    fn read(&self, start: usize, end: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Bytes::InMemory(bytes) => {
                let part = bytes.get(start..end).ok_or(std::io::ErrorKind::UnexpectedEof)?;
                Ok(part.to_vec())
            }
            Bytes::OnDisk(disk) => {
                let mut bytes = vec![0; end.saturating_sub(start)];
                disk.read_exact_at(&mut bytes, start as u64)?;
                Ok(bytes)
            }
        }
    }
}

fn fault(path: &Path, message: String) -> ModelError {
    ModelError::File { file: path.display().to_string(), message }
}
