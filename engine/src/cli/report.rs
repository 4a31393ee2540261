//! `report`: a run as one HTML page that opens offline.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use watershed_cache::Store;

use super::{Common, Format, open, out, pick};
use crate::report;

/// Options of `report`.
#[derive(Args)]
pub struct Options {
    /// Run: an id, a prefix, `last` or `last~1`.
    #[arg(default_value = "last")]
    run: String,
    /// File to write; `-` prints the page.
    #[arg(short, long, value_name = "PATH", default_value = "report.html")]
    output: PathBuf,
}

pub fn report(options: &Options, common: &Common) -> i32 {
    match page(&options.run, common).and_then(|page| write(&page, &options.output, common)) {
        Ok(()) => 0,
        Err(error) => {
            out::complain(format!("error: {error}"));
            1
        }
    }
}

fn page(run: &str, common: &Common) -> Result<String, String> {
    let store = Store::open(&open::cache_here(common)).map_err(|e| e.to_string())?;
    let (_, run) = pick::located(&store.runs(), run)?;
    Ok(report::html::page(&store, &run))
}

fn write(page: &str, path: &Path, common: &Common) -> Result<(), String> {
    if path == Path::new("-") {
        out::copy(page.as_bytes());
        return Ok(());
    }
    std::fs::write(path, page).map_err(|e| format!("cannot write `{}`: {e}", path.display()))?;
    match common.format {
        Format::Json => out::json(&json!({"wrote": path})),
        _ => out::say(format!("wrote {}", path.display())),
    }
    Ok(())
}
