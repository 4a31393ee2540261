//! Bytes by digest, and what an action left.

pub mod memo;

pub use memo::Memo;
