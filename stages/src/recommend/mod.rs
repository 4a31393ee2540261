//! Recommenders from ratings alone: the systems that a language model is compared with.
//!
//! `ratings` numbers the data, `params` and `check` are the user's side, `algorithm` names the algorithms, `model` says what
//! each fitted one can do, `predict`, `measure` and `saved` make the outputs; the rest is one file per family of algorithms.
//! Where Surprise has the algorithm, its conventions hold and its numbers are reproduced (`agreement`); each exception is
//! named in its file.

pub mod algorithm;
pub mod check;
pub mod measure;
pub mod model;
pub mod order;
pub mod params;
pub mod predict;
pub mod ratings;
pub mod saved;

mod biases;
mod ease;
mod item_knn;
mod knn;
mod popularity;
mod similarity;
mod slope_one;
mod svd;

#[cfg(test)]
mod agreement;
