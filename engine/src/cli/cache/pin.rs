//! `cache pin` and `cache unpin`: runs whose results gc never takes.

use clap::Args;
use serde_json::json;
use watershed_cache::{CacheError, Store};

use crate::cli::{Common, Format, out, pick};
use crate::roots;

/// Options of `cache pin` and `cache unpin`.
#[derive(Args)]
pub struct Options {
    /// A run's id, a prefix of it, `last` or `last~1`.
    #[arg(default_value = "last")]
    run: String,
}

pub fn pin(store: &Store, options: &Options, pinned: bool, common: &Common) -> Result<i32, CacheError> {
    let folder = match pick::find(&store.runs(), &options.run) {
        Ok(folder) => folder,
        Err(text) => {
            out::complain(format!("error: {text}"));
            return Ok(1);
        }
    };
    roots::pin(&folder, pinned).map_err(|source| CacheError::Io { verb: "pin", path: folder.clone(), source })?;
    let id = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match common.format {
        Format::Json => out::json(&json!({"run": id, "pinned": pinned})),
        _ if pinned => out::say(format!("`{id}` is pinned: gc keeps its results")),
        _ => out::say(format!("`{id}` is not pinned any more")),
    }
    Ok(0)
}
