//! `cache verify`: reads records and listings, with `--read-data` blobs too, and sets damage aside.

use clap::Args;
use serde_json::json;
use watershed_cache::verify::{Damage, Scope, Verified};
use watershed_cache::{CacheError, Store};

use crate::cli::{Common, Format, out};
use crate::runlog::now_ms;

/// Options of `cache verify`.
#[derive(Args)]
pub struct Options {
    /// Reads every blob and compares it with its digest.
    #[arg(long)]
    read_data: bool,
    /// Reads only this share of the blobs, another one each time, for example `5%`.
    #[arg(long, value_name = "N%", requires = "read_data", value_parser = share)]
    subset: Option<f64>,
}

/// Exit code of a store in which something was damaged or lacking.
const DAMAGED: i32 = 1;

pub fn verify(store: &Store, options: &Options, common: &Common) -> Result<i32, CacheError> {
    let scope = Scope { read_data: options.read_data, share: options.subset.unwrap_or(1.0), salt: now_ms() };
    let found = store.scrub(scope)?;
    match common.format {
        Format::Json => out::json(&document(&found)),
        _ => out::say(text(&found, options.read_data)),
    }
    Ok(if found.damage.is_empty() && found.incomplete.is_empty() { 0 } else { DAMAGED })
}

fn document(found: &Verified) -> serde_json::Value {
    let damage = |d: &Damage| json!({"room": d.room, "name": d.name, "what": d.what});
    json!({
        "records": found.records, "trees": found.trees, "blobs": found.blobs, "blobs_read": found.blobs_read,
        "bytes_read": found.bytes_read, "memos": found.memos,
        "damage": found.damage.iter().map(damage).collect::<Vec<_>>(), "incomplete": found.incomplete,
    })
}

fn text(found: &Verified, read_data: bool) -> String {
    let mut lines = vec![format!(
        "read {} records, {} listings, {} paid replies; {} of {} blobs ({})",
        found.records,
        found.trees,
        found.memos,
        found.blobs_read,
        found.blobs,
        out::bytes(found.bytes_read)
    )];
    lines.extend(
        found.damage.iter().map(|d| format!("damaged: {}/{}: {}; moved to `quarantine/`", d.room, d.name, d.what)),
    );
    lines.extend(found.incomplete.iter().map(|key| format!("incomplete: result {key} lacks bytes")));
    lines.push(verdict(found, read_data).into());
    lines.join("\n")
}

fn verdict(found: &Verified, read_data: bool) -> &'static str {
    if !found.damage.is_empty() || !found.incomplete.is_empty() {
        "nothing damaged will be used; `watershed run` makes again what it needs"
    } else if read_data {
        "no damage found"
    } else {
        "no damage found; `--read-data` also reads the bytes"
    }
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
    let share = number.map(|n| n / 100.0).filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a share above 0% up to 100%, for example 5%".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!([share("0%"), share("5"), share("101%")].map(|s| s.is_err()), [true; 3]);
    }
}
