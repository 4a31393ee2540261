//! Garbage collection: what no root refers to goes, records before what they refer to.
//!
//! A sweep is chosen first ([`Store::choose`]) and carried out after ([`Store::sweep`]); a dry run stops between. Nothing is
//! deleted where it lies: it is renamed into `trash/` and deleted from there. While runs share the store, the trash stays:
//! a look-up that misses an object takes it back from there, so a run never loses what it has already counted on. The
//! trash is emptied when gc has the store alone, or once it is a week old.

mod choose;
mod sweep;

pub use choose::{Choice, Policy};
pub use sweep::Swept;

/// A day in nanoseconds.
const DAY_NS: i128 = 86_400_000_000_000;
