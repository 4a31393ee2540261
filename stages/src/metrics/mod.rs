//! What is measured about answers, rankings and ratings: pure functions, one family a file.
//!
//! Nothing here reads a file or knows a stage; `evaluate` joins the families, and `generate` calls [`parroting::parroting`]
//! on its own. Every formula agrees with the reference numbers in `tests/fixtures/metrics-reference.json`, which public
//! packages made.

pub mod diversity;
pub mod grounding;
pub mod interval;
pub mod normalise;
pub mod parroting;
pub mod ranking;
pub mod significance;
pub mod spans;

#[cfg(test)]
pub(crate) mod reference;
