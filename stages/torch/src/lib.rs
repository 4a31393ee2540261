//! x
pub use tch;
