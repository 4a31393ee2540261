//! From examples to token ids and labels, and from rows to updates: once, for previews, training and generation.
//!
//! Everything here is pure arithmetic on the rows and the parameters, so that `plan` can say before any training what the
//! training will do: `template` makes text, `tokenizer` makes ids, `labels` marks what is learned, `order` and `batch` say
//! which rows form which update, `schedule` gives each update its learning rate.

pub mod batch;
pub mod chat;
#[cfg(test)]
pub mod fixture;
pub mod labels;
pub mod order;
pub mod schedule;
pub mod signs;
pub mod template;
pub mod tokenizer;

pub use labels::{Encoder, Row};
pub use template::{Template, TemplateChoice};
pub use tokenizer::Tokenizer;
