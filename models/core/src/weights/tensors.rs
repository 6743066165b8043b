//! A file of named tensors, in the format of <https://github.com/huggingface/safetensors>.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use crate::card::WEIGHTS_FILE;
use crate::error::ModelError;
use crate::files;

/// Joins the files of weights that are spread over several.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Weights as torch alone writes them.
pub const PICKLE_FILE: &str = "pytorch_model.bin";

/// Bytes before the header, which hold its length.
const LENGTH_BYTES: usize = 8;
/// Longest header that is read; the format's own limit.
const HEADER_BYTES_MAX: usize = 100_000_000;
/// Bytes of a tensor that are read at once: a whole number of values of every type.
const PIECE_BYTES: usize = 1 << 18;

/// The tensors of one safetensors file, or of several that an index joins. A tensor's values are read when
/// they are asked for.
pub struct TensorFile {
    /// What errors call all of it.
    file: String,
    parts: Vec<Part>,
}

/// One file.
struct Part {
    file: String,
    metadata: Metadata,
    /// Where the values begin.
    offset: usize,
    source: Bytes,
}

/// Which of several files has which tensor, as `model.safetensors.index.json` says it.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

enum Bytes {
    InMemory(Vec<u8>),
    OnDisk(File),
}

impl TensorFile {
    /// Opens the weights in a folder whose files' digests were checked before: `model.safetensors`, or the
    /// files that its index names.
    ///
    /// # Errors
    /// When there are none, or one cannot be read or is not in the format.
    pub fn open_folder(folder: &Path) -> Result<Self, ModelError> {
        let (whole, index) = (folder.join(WEIGHTS_FILE), folder.join(INDEX_FILE));
        if !whole.exists() && index.is_file() {
            return Self::open_index(folder, &index);
        }
        let pickle = folder.join(PICKLE_FILE);
        if !whole.exists() && pickle.exists() {
            let message = format!(
                "is a pickle, which is a program and is not run; needed: {WEIGHTS_FILE}, as save_pretrained of transformers \
                 writes it, or a revision of the repository that has it"
            );
            return Err(fault(&pickle, message));
        }
        Self::open(&whole)
    }

    /// Opens a file whose digest was checked before.
    ///
    /// # Errors
    /// When it cannot be read or is not in the format.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Ok(Self { file: path.display().to_string(), parts: vec![Part::open(path)?] })
    }

    /// Takes the bytes of a file; `path` is what errors call it.
    ///
    /// # Errors
    /// When they are not in the format.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let size = bytes.len();
        let part = Part::new(path, Bytes::InMemory(bytes), size)?;
        Ok(Self { file: path.display().to_string(), parts: vec![part] })
    }

    /// Opens the files that an index names, which must have the tensors that it says, and no others.
    fn open_index(folder: &Path, path: &Path) -> Result<Self, ModelError> {
        let index: Index =
            serde_json::from_slice(&files::read(path)?).map_err(|error| fault(path, error.to_string()))?;
        let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (tensor, shard) in &index.weight_map {
            shards.entry(shard).or_default().insert(tensor);
        }
        let mut parts = Vec::new();
        for (shard, tensors) in shards {
            let is_name = Path::new(shard).components().eq([Component::Normal(shard.as_ref())]);
            if !is_name {
                return Err(fault(path, format!("weight_map: {shard:?} is not a file of the same folder")));
            }
            let part = Part::open(&folder.join(shard))?;
            let names = part.metadata.offset_keys();
            let found: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            if let Some(tensor) = tensors.difference(&found).next() {
                return Err(fault(path, format!("weight_map: {shard} has no tensor {tensor}")));
            }
            if let Some(tensor) = found.difference(&tensors).next() {
                return Err(fault(path, format!("weight_map: does not name tensor {tensor} of {shard}")));
            }
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(fault(path, "weight_map: is empty".to_owned()));
        }
        Ok(Self { file: path.display().to_string(), parts })
    }

    /// What errors call this file.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Names of all tensors.
    pub(super) fn names(&self) -> Vec<String> {
        self.parts.iter().flat_map(|part| part.metadata.offset_keys()).collect()
    }

    /// Whether the file has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The dimensions of a tensor.
    pub(super) fn dims(&self, name: &str) -> Result<&[usize], ModelError> {
        self.part(name).map(|(_, info)| info.shape.as_slice())
    }

    /// The values of a tensor of exactly this shape, row-major, in float32.
    pub(super) fn get(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
        let (part, info) = self.part(name)?;
        part.get(name, info, expected)
    }

    fn part(&self, name: &str) -> Result<(&Part, &TensorInfo), ModelError> {
        let missing = || ModelError::MissingTensor { file: self.file.clone(), name: name.to_owned() };
        self.find(name).ok_or_else(missing)
    }

    fn find(&self, name: &str) -> Option<(&Part, &TensorInfo)> {
        self.parts.iter().find_map(|part| part.metadata.info(name).map(|info| (part, info)))
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |error: std::io::Error| fault(path, error.to_string());
        let disk = File::open(path).map_err(io)?;
        let size = disk.metadata().map_err(io)?.len();
        Self::new(path, Bytes::OnDisk(disk), usize::try_from(size).unwrap_or(usize::MAX))
    }

    fn new(path: &Path, source: Bytes, size: usize) -> Result<Self, ModelError> {
        let read = |start, end| {
            let mut bytes = Vec::new();
            let read = source.read(start, end, &mut bytes);
            read.map(|()| bytes).map_err(|error| fault(path, error.to_string()))
        };
        let length = read(0, LENGTH_BYTES)?.as_slice().try_into().map_or(u64::MAX, u64::from_le_bytes);
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

    fn get(&self, name: &str, info: &TensorInfo, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
        if info.shape != expected {
            return Err(ModelError::Shape {
                file: self.file.clone(),
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: info.shape.clone(),
            });
        }
        let refused = |message: String| ModelError::File { file: self.file.clone(), message };
        let values = match info.dtype {
            Dtype::F32 => self.widen(info, f32::from_le_bytes),
            Dtype::F16 => self.widen(info, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => self.widen(info, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => self.widen(info, |bytes| f64::from_le_bytes(bytes) as f32),
            other => return Err(refused(format!("tensor {name} is {other}, expected a float type"))),
        };
        let values = values.map_err(|error| refused(error.to_string()))?;
        // No answer of it would be one.
        values.ok_or_else(|| refused(format!("tensor {name} holds values that are not finite numbers")))
    }

    /// Reads in pieces, so that a large tensor is never held as bytes too. None: not all values are finite.
    fn widen<const N: usize>(
        &self,
        info: &TensorInfo,
        value: impl Fn([u8; N]) -> f32,
    ) -> std::io::Result<Option<Vec<f32>>> {
        let (start, end) = info.data_offsets;
        let (start, end) = (self.offset + start, self.offset + end);
        let mut values = Vec::with_capacity(end.saturating_sub(start) / N);
        let mut piece = Vec::new();
        for from in (start..end).step_by(PIECE_BYTES) {
            self.source.read(from, end.min(from + PIECE_BYTES), &mut piece)?;
            let known = values.len();
            values.extend(piece.as_chunks().0.iter().map(|bytes| value(*bytes)));
            if !values[known..].iter().all(|value| value.is_finite()) {
                return Ok(None);
            }
        }
        Ok(Some(values))
    }
}

impl Bytes {
    /// Reads the bytes between two offsets, in the place of what is in `bytes`.
    fn read(&self, start: usize, end: usize, bytes: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Bytes::InMemory(all) => {
                let part = all.get(start..end).ok_or(std::io::ErrorKind::UnexpectedEof)?;
                bytes.clear();
                bytes.extend_from_slice(part);
                Ok(())
            }
            Bytes::OnDisk(disk) => {
                bytes.resize(end.saturating_sub(start), 0);
                disk.read_exact_at(bytes, start as u64)
            }
        }
    }
}

fn fault(path: &Path, message: String) -> ModelError {
    ModelError::File { file: path.display().to_string(), message }
}
