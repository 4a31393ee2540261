//! Watershed's engine: from the text of a pipeline to its finished run.
//!
//! One direction, and a module for each step of it:
//!
//! ```text
//! text -> Node tree (spans) -> Study (checked) -> Graph (acyclic) -> walk: key -> look up -> execute -> publish -> RunLog -> report
//! ```
//!
//! The engine knows no kind of stage: the root program hands it a list of [`Kind`]s made from [`Stage`]s.

pub mod archive;
pub mod backoff;
pub mod cancel;
pub mod case_table;
pub mod cases;
pub mod checkpoint;
pub mod cli;
pub mod code;
pub mod comparison;
pub mod compiled;
pub mod determinism;
pub mod diagnostic;
pub mod difference;
pub mod edit;
pub mod environment;
pub mod estimate;
pub mod event;
pub mod execute;
pub mod fault;
pub mod findings;
pub mod graph;
pub mod history;
pub mod ignore;
pub mod input;
pub mod job;
pub mod key;
pub mod language;
pub mod layout;
pub mod lookup;
pub mod losses;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod node;
pub mod peek;
pub mod plan;
pub mod port;
pub mod preview;
pub mod probe;
pub mod process;
pub mod progress;
pub mod reason;
pub mod record;
pub mod report;
pub mod roots;
pub mod run;
pub mod runlog;
pub mod sealed;
pub mod session;
pub mod settings;
mod shelf;
pub mod signal;
pub mod slots;
pub mod stage;
pub mod study;
pub mod suffix;
pub mod verdict;
pub mod walk;
pub mod warnings;
pub mod worker;
pub mod yaml;

pub use fault::StageError;
pub use job::{Job, JobInput, JobSpec};
pub use port::{Ports, RecordType};
pub use stage::{Kind, Stage};
