//! A file of named tensors, read with the checks that every weight needs.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::ModelError;
use crate::files;

/// The tensors of one safetensors file, in host memory.
pub struct TensorFile {
    file: String,
    tensors: HashMap<String, Tensor>,
}

impl TensorFile {
    /// Reads a file whose digest was checked before.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        Self::parse(path, &files::read(path)?)
    }

    /// Reads the bytes of a file.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let file = path.display().to_string();
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|error| {
            let text = error.to_string();
            ModelError::File {
                file: file.clone(),
                message: text.lines().next().unwrap_or_default().to_owned(),
            }
        })?;
        Ok(Self { file, tensors })
    }

    /// Tensors that are in memory already.
    pub fn from_tensors(file: &str, tensors: HashMap<String, Tensor>) -> Self {
        Self { file: file.to_owned(), tensors }
    }

    /// What errors call this file.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Names of all tensors.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether the file has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The dimensions of a tensor.
    pub(super) fn dims(&self, name: &str) -> Result<&[usize], ModelError> {
        self.tensors.get(name).map(Tensor::dims).ok_or_else(|| self.missing(name))
    }

    /// A tensor of exactly this shape, in float32.
    pub(super) fn get(&self, name: &str, expected: &[usize]) -> Result<Tensor, ModelError> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        if tensor.dims() != expected {
            return Err(ModelError::Shape {
                file: self.file.clone(),
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: tensor.dims().to_vec(),
            });
        }
        if !tensor.dtype().is_float() {
            let message = format!("tensor {name} is {}, expected a float type", tensor.dtype().as_str());
            return Err(ModelError::File { file: self.file.clone(), message });
        }
        Ok(tensor.to_dtype(DType::F32)?)
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::MissingTensor { file: self.file.clone(), name: name.to_owned() }
    }
}
