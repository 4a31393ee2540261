//! `cache ls`: the results in the store, newest first.

use serde_json::{Value, json};
use watershed_cache::{ActionResult, CacheError, Digest, Store};

use crate::cli::{Common, Format, out};
use crate::record::Provenance;

/// One result.
struct Line {
    key: Digest,
    result: ActionResult,
    provenance: Option<Provenance>,
}

pub fn ls(store: &Store, common: &Common) -> Result<i32, CacheError> {
    let read = store.records()?.into_iter().map(|(object, result)| {
        let provenance = Provenance::of(&result);
        Line { key: object.digest, result, provenance }
    });
    let mut lines: Vec<Line> = read.collect();
    lines.sort_by_key(|line| (std::cmp::Reverse(line.finished_ms()), line.key));
    match common.format {
        Format::Json => out::json(&json!({"results": lines.iter().map(Line::document).collect::<Vec<_>>()})),
        _ if lines.is_empty() => out::say("the store holds no results yet"),
        _ => out::say(text(&lines)),
    }
    Ok(0)
}

impl Line {
    fn finished_ms(&self) -> u64 {
        self.provenance.as_ref().map_or(0, |p| p.finished_ms)
    }

    fn kind(&self) -> String {
        self.provenance.as_ref().map_or_else(|| "-".into(), |p| format!("{}@{}", p.manifest.kind, p.manifest.version))
    }

    fn bytes(&self) -> u64 {
        self.result.outputs.values().map(|stored| stored.artifact.size).sum()
    }

    fn document(&self) -> Value {
        let outputs = self.result.outputs.iter().map(|(port, stored)| {
            let artifact = &stored.artifact;
            json!({"port": port, "digest": artifact.digest, "bytes": artifact.size, "folder": artifact.folder, "report": stored.report})
        });
        json!({
            "key": self.key, "kind": self.kind(), "bytes": self.bytes(), "finished_ms": self.finished_ms(),
            "wall_ms": self.provenance.as_ref().map(|p| p.wall_ms), "outputs": outputs.collect::<Vec<_>>(),
        })
    }
}

fn text(lines: &[Line]) -> String {
    let head = ["key", "kind", "size", "took", "outputs"].map(String::from);
    let rows = lines.iter().map(|line| {
        let took = line.provenance.as_ref().map_or_else(|| "-".into(), |p| out::duration(p.wall_ms));
        let outputs: Vec<&str> = line.result.outputs.keys().map(String::as_str).collect();
        vec![line.key.hex()[..12].to_string(), line.kind(), out::bytes(line.bytes()), took, outputs.join(", ")]
    });
    out::table(&head, &rows.collect::<Vec<_>>())
}
