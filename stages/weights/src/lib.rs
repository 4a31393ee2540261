//! Model files without a tensor library: Hugging Face folders, GGUF files, adapters; reading, merging and writing them.
//!
//! Files are mapped, never read whole: a tensor is a view into the map until somebody asks for its numbers. Pickled
//! weights (`.bin`, `.pt`, `.pth`) are refused, because reading them runs code.

pub mod adapter;
pub mod config;
pub mod dequant;
pub mod dtype;
pub mod error;
#[cfg(test)]
#[path = "../../../tests/it/fixture.rs"]
mod fixture;
pub mod folder;
pub mod gguf;
mod leftover;
pub mod merged;
pub mod model;
pub mod quantise;
pub mod tensor;

pub use adapter::Adapter;
pub use config::LlamaConfig;
pub use dtype::Dtype;
pub use error::Error;
pub use gguf::Gguf;
pub use merged::Merged;
pub use model::ModelFiles;
pub use tensor::TensorView;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
