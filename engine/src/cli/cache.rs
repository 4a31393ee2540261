//! `cache`: what the store holds, whether it is whole, and how to free its room. One file a verb.

mod gc;
mod ls;
mod pin;
mod stats;
mod verify;

use std::path::Path;

use clap::{Args, Subcommand};
use watershed_cache::{CacheError, Store};

use super::{Common, open, out};
use crate::stage::Kind;

/// Options of `cache`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Lists results, newest first.
    Ls,
    /// Frees what no kept run refers to; tells what would go unless `--apply` is given.
    Gc(gc::Options),
    /// Keeps the results of a run whatever comes after it.
    Pin(pin::Options),
    /// Takes a run's pin away.
    Unpin(pin::Options),
    /// Tells how much lies where.
    Stats,
    /// Reads records and listings, with `--read-data` the bytes too; damage is set aside and made anew by the next run.
    Verify(verify::Options),
}

pub fn cache(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let folder = open::cache_here(common);
    let ended = Store::open(&folder).and_then(|store| match &options.verb {
        // An empty store is whole and takes no room; a name that was mistyped looks just like it.
        Verb::Stats | Verb::Verify(_) if common.cache.is_some() && !is_store(&store) => Ok(no_store(&folder)),
        Verb::Ls => ls::ls(&store, common),
        Verb::Gc(options) => gc::gc(&store, options, common, &kinds()),
        Verb::Pin(options) => pin::pin(&store, options, true, common),
        Verb::Unpin(options) => pin::pin(&store, options, false, common),
        Verb::Stats => stats::stats(&store, common),
        Verb::Verify(options) => verify::verify(&store, options, common),
    });
    ended.unwrap_or_else(|error| refuse(&error))
}

/// Says whether somebody ever wrote into a store.
fn is_store(store: &Store) -> bool {
    store.versioned().is_dir() || store.root().join("layout").is_file()
}

fn no_store(folder: &Path) -> i32 {
    let folder = folder.display();
    out::complain(format!("error: there is no store at `{folder}`; the first `watershed run --cache` makes it"));
    open::INVALID
}

fn refuse(error: &CacheError) -> i32 {
    out::complain(format!("error: {error}"));
    if error.is_environment() { 6 } else { 4 }
}
