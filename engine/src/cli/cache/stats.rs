//! `cache stats`: how much lies where, and for which kinds.

use std::collections::BTreeMap;

use serde_json::json;
use watershed_cache::inventory::{Amount, amount};
use watershed_cache::{CacheError, Store};

use crate::cli::{Common, Format, out};
use crate::record::Provenance;

/// Folders of the store with what people call them.
const ROOMS: [(&str, &str); 10] = [
    ("v1/cas", "blobs"),
    ("v1/tree", "listings"),
    ("v1/ac", "records"),
    ("v1/rows", "paid replies"),
    ("v1/run", "run logs"),
    ("partial", "checkpoints"),
    ("tmp", "sandboxes"),
    ("trash", "trash"),
    ("quarantine", "quarantine"),
    ("index", "index"),
];

pub fn stats(store: &Store, common: &Common) -> Result<i32, CacheError> {
    let rooms: Vec<(&str, Amount)> =
        ROOMS.iter().map(|(path, name)| (*name, amount(&store.root().join(path)))).collect();
    let kinds = by_kind(store)?;
    let total = rooms.iter().map(|(_, amount)| amount.bytes).sum::<u64>();
    // What the results would take if equal bytes were kept as often as they are referred to.
    let referred = kinds.values().map(|amount| amount.bytes).sum::<u64>();
    if common.format == Format::Json {
        let document = |(name, a): (&str, &Amount)| (name.to_string(), json!({"files": a.files, "bytes": a.bytes}));
        let rooms: serde_json::Map<_, _> = rooms.iter().map(|(name, a)| document((name, a))).collect();
        let kinds: serde_json::Map<_, _> = kinds.iter().map(|(name, a)| document((name, a))).collect();
        out::json(
            &json!({"store": store.root(), "bytes": total, "referred_bytes": referred, "rooms": rooms, "kinds": kinds}),
        );
        return Ok(0);
    }
    out::say(format!("{}  {}", store.root().display(), out::bytes(total)));
    out::say(format!("\n{}", text("room", rooms.iter().map(|(name, a)| (*name, a)))));
    if !kinds.is_empty() {
        out::say(format!("\n{}", text("results of", kinds.iter().map(|(name, a)| (name.as_str(), a)))));
    }
    Ok(0)
}

fn by_kind(store: &Store) -> Result<BTreeMap<String, Amount>, CacheError> {
    let mut kinds: BTreeMap<String, Amount> = BTreeMap::new();
    for (_, result) in store.records()? {
        let name = Provenance::of(&result).map_or_else(|| "unknown".into(), |p| p.manifest.kind);
        let amount = kinds.entry(name).or_default();
        amount.files += 1;
        amount.bytes += result.outputs.values().map(|stored| stored.artifact.size).sum::<u64>();
    }
    Ok(kinds)
}

fn text<'a>(name: &str, amounts: impl Iterator<Item = (&'a str, &'a Amount)>) -> String {
    let rows: Vec<Vec<String>> = amounts
        .filter(|(_, amount)| amount.files > 0)
        .map(|(name, amount)| vec![name.to_string(), amount.files.to_string(), out::bytes(amount.bytes)])
        .collect();
    out::table(&[name, "count", "size"].map(String::from), &rows)
}
