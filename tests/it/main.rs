//! Stories: build a project in a temporary folder, run, change one thing, run again, compare which actions ran.

mod cli;
mod crash;
mod houses;
mod language;
mod project;
mod rerun;
mod store;
mod sweep;
mod templates;
