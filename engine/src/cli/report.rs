//! `report`: a run as one HTML page that opens offline.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use watershed_cache::Store;

use super::{Common, Format, open, out};
use crate::archive::{self, Run};
use crate::report;

/// Options of `report`.
#[derive(Args)]
pub struct Options {
    /// Run: an id, a prefix, `last` or `last~1`.
    #[arg(default_value = "last")]
    run: String,
    /// File to write.
    #[arg(short, long, value_name = "PATH", default_value = "report.html")]
    output: PathBuf,
}

pub fn report(options: &Options, common: &Common) -> i32 {
    let written = Store::open(&open::cache_here(common)).map_err(|e| e.to_string()).and_then(|store| {
        let folder = archive::find(&store.runs(), &options.run)?;
        let run = Run::read(&folder).map_err(|e| format!("cannot read `{}`: {e}", folder.display()))?;
        let page = report::html::page(&store, &run, &folder);
        std::fs::write(&options.output, page).map_err(|e| format!("cannot write `{}`: {e}", options.output.display()))
    });
    match written {
        Ok(()) => {
            match common.format {
                Format::Json => out::json(&json!({"wrote": options.output})),
                _ => out::say(format!("wrote {}", options.output.display())),
            }
            0
        }
        Err(error) => {
            out::complain(format!("error: {error}"));
            1
        }
    }
}
