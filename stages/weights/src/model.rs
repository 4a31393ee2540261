//! One model on disk, whichever format holds it: its configuration and its tensors by Hugging Face name.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::{Error, LlamaConfig, Result};

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
}

/// An opened model: mapped files, parsed headers, nothing copied.
pub struct ModelFiles {
    path: PathBuf,
    config: LlamaConfig,
}

/// One tensor's place in a mapped file.
pub struct TensorView<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl ModelFiles {
    /// Opens a Hugging Face folder or a GGUF file, by what is there rather than by its name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for pickled weights and other architectures; [`Error::Damaged`] for a bad header.
    pub fn open(path: &Path) -> Result<ModelFiles> {
        Err(Error::unsupported(path, "not read yet"))
    }

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Returns the tensor of this Hugging Face name (`model.layers.0.self_attn.q_proj.weight`), also from a GGUF file.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        Err(Error::Missing { path: self.path.clone(), tensor: name.to_owned() })
    }
}

impl TensorView<'_> {
    /// Returns how the numbers are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the sizes, outermost first (`[out, in]` for a projection).
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the stored bytes, little-endian, rows in Hugging Face order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
