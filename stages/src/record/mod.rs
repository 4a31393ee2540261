//! Record types on disk, as `docs/kinds.md` fixes them: a struct, a reader and a writer each.

pub mod answer;
pub mod example;
pub mod interaction;
pub mod item;
pub mod lines;
pub mod ranking;
