//! LLaMA on libtorch: training of low-rank adapters, evaluation, and generation.
//!
//! Takes token ids and labels and knows nothing of text, files of examples or the engine; the program beside it does.
//! Tensors live on one device and never cross threads. Rows are packed end to end, so no token of padding is computed.
//!
//! What a caller can mend comes back as an [`Error`], running out of memory too. Another failing libtorch call (a driver
//! fault) panics, as tch does; the program is one process per action, and its end fails that action alone.

mod adamw;
mod attention;
mod beam;
mod block;
mod draw;
mod kv_cache;
mod linear;
mod loss;
mod memory;
mod narrow;
mod packed;
mod peft;
mod pick;
mod reader;
mod recompute;
mod rope;
mod source;
mod state;
mod trie;
mod writing;

pub mod device;
pub mod error;
pub mod evaluate;
pub mod generate;
pub mod lora;
pub mod model;
pub mod rank;
pub mod row;
pub mod trainer;

pub use error::Error;
pub use evaluate::{Evaluation, divergence, evaluate, evaluate_unless};
pub use generate::{Answer, Finish, GenerateConfig, Prompt, Watch, generate};
pub use lora::{Init, Lora, LoraConfig, Scaling, Target};
pub use model::{Compute, Model};
pub use pick::Mode;
pub use rank::{Context, score_titles};
pub use row::Row;
pub use trainer::{LossNorm, OptimizerConfig, StepConfig, StepReport, Trainer};
pub use trie::Trie;

/// Asked between passes of the model; true ends the work with [`Error::Cancelled`].
pub type Halt<'a> = &'a dyn Fn() -> bool;

/// What this library's functions return.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod naive;
#[cfg(test)]
#[path = "../../../tests/it/fixture.rs"]
mod place;
