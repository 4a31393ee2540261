//! Model files without a tensor library: Hugging Face folders, GGUF files, and what their headers say.
//!
//! Files are mapped, never read whole: a tensor is a view into the map until somebody asks for its numbers. Pickled
//! weights (`.bin`, `.pt`, `.pth`) are refused, because reading them runs code.

pub mod config;
pub mod error;
pub mod model;

pub use config::{Llama3Rope, LlamaConfig};
pub use error::Error;
pub use model::{Dtype, ModelFiles, TensorView};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
