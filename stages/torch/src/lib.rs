//! LLaMA on libtorch: training of low-rank adapters, evaluation, and generation.
//!
//! Takes token ids and labels and knows nothing of text, files of examples or the engine; the program beside it does.
//! Everything here runs on the calling thread's device; tensors never cross threads.

pub mod device;
pub mod error;
pub mod evaluate;
pub mod generate;
pub mod lora;
pub mod model;
pub mod row;
pub mod trainer;

pub use error::Error;
pub use evaluate::{Evaluation, divergence, evaluate};
pub use generate::{Answer, Finish, GenerateConfig, Mode, Prompt, generate};
pub use lora::{Init, Lora, LoraConfig, Scaling, Target};
pub use model::{Compute, Model};
pub use row::Row;
pub use trainer::{LossNorm, OptimizerConfig, StepConfig, StepReport, Trainer};

/// What this library's functions return.
pub type Result<T> = std::result::Result<T, Error>;
