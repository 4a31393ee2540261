//! Stories: build a project in a temporary folder, run, change one thing, run again, compare which actions ran.

// A panic is how a test reports; clippy's exception for tests covers test functions only, not their helpers.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod bad_input;
mod cache;
mod campaign;
mod choose;
mod cli;
mod command;
mod config;
mod crash;
mod determinism;
mod diagnostics;
mod diff;
mod docs;
mod edit;
mod explain;
mod fixture;
mod fuzz;
mod gc;
mod get;
mod golden;
mod help;
mod houses;
mod inside;
mod keys;
mod language;
mod mask;
mod model;
mod peek;
mod project;
mod reliability;
mod remote;
mod rerun;
mod schema;
mod server;
mod shared;
mod show;
mod standing;
mod store;
mod sweep;
mod teacher;
mod templates;
mod training;
mod why;
