//! `cache gc`: frees what no kept run refers to; without `--apply` only tells what would go.

use clap::Args;
use serde_json::json;
use watershed_cache::gc::{Choice, Policy, Swept};
use watershed_cache::{ActionResult, CacheError, Store};

use crate::cli::{Common, Format, out};
use crate::record::Provenance;
use crate::roots::{self, Roots};
use crate::runlog::now_ms;
use crate::stage::{Kind, Reproducible};

/// Options of `cache gc`.
#[derive(Args)]
pub struct Options {
    /// Keeps the results of this many runs, beside pinned ones and those under way.
    #[arg(long, value_name = "RUNS", default_value_t = 20)]
    keep: usize,
    /// Frees only until the store is this small, the oldest first, what a teacher or a GPU made last; for example `20GiB`.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    budget: Option<u64>,
    /// Frees the replies of paid requests too: asking again costs money again.
    #[arg(long)]
    include_paid: bool,
    /// Does it; without this nothing is touched.
    #[arg(long)]
    apply: bool,
}

pub fn gc(store: &Store, options: &Options, common: &Common, kinds: &[Kind]) -> Result<i32, CacheError> {
    // Held to the end: a run that starts meanwhile waits for the sweep.
    let alone = store.alone()?;
    let roots = roots::of(store, options.keep)?;
    let now_ns = i128::from(now_ms()) * 1_000_000;
    let policy = Policy {
        roots: &roots.keys,
        budget_bytes: options.budget,
        include_paid: options.include_paid,
        is_precious: &|result| is_precious(result, kinds),
        now_ns,
        is_alone: alone.is_some(),
    };
    let choice = store.choose(&policy)?;
    let swept = options.apply.then(|| store.sweep(&choice, alone.is_some(), now_ns)).transpose()?;
    match common.format {
        Format::Json => out::json(&document(&choice, &roots, swept)),
        _ => out::say(text(&choice, &roots, swept, options)),
    }
    Ok(0)
}

/// What this program does not know how to make counts as precious.
fn is_precious(result: &ActionResult, kinds: &[Kind]) -> bool {
    let id = Provenance::of(result).map(|p| p.manifest.kind);
    let kind = kinds.iter().find(|kind| Some(&kind.id) == id.as_ref());
    kind.is_none_or(|kind| kind.reproducible != Reproducible::Yes)
}

fn document(choice: &Choice, roots: &Roots, swept: Option<Swept>) -> serde_json::Value {
    json!({
        "applied": swept.is_some(), "results": choice.results(), "objects": choice.objects.len(),
        "checkpoints": choice.partials.len(), "paid_replies": choice.memos.len(), "debris": choice.debris.len(),
        "bytes": choice.bytes, "store_bytes": choice.store_bytes, "kept_results": choice.kept,
        "kept_runs": roots.runs, "pinned_runs": roots.pinned,
        "freed_bytes": swept.map(|s| s.freed_bytes), "trash_bytes": swept.map(|s| s.trash_bytes),
    })
}

fn text(choice: &Choice, roots: &Roots, swept: Option<Swept>, options: &Options) -> String {
    let mut lines = vec![format!(
        "{} results, {} checkpoints, {} paid replies: {} of {}",
        choice.results(),
        choice.partials.len(),
        choice.memos.len(),
        out::bytes(choice.bytes),
        out::bytes(choice.store_bytes)
    )];
    lines.push(format!("kept: {} results; {} runs hold theirs, {} pinned", choice.kept, roots.runs, roots.pinned));
    let left = choice.store_bytes.saturating_sub(choice.bytes);
    if let Some(budget) = options.budget.filter(|budget| left > *budget) {
        lines.push(format!(
            "{} would be left, above the budget of {}: the rest is held by runs (`--keep`, `cache unpin`)",
            out::bytes(left),
            out::bytes(budget)
        ));
    }
    match swept {
        None => lines.push("this was a dry run; `--apply` frees it".into()),
        Some(Swept { freed_bytes, trash_bytes: 0 }) => lines.push(format!("freed {}", out::bytes(freed_bytes))),
        Some(Swept { freed_bytes, trash_bytes }) => lines.push(format!(
            "freed {}; {} wait in `trash/`, because runs are under way: `cache gc --apply` after them deletes it",
            out::bytes(freed_bytes),
            out::bytes(trash_bytes)
        )),
    }
    lines.join("\n")
}

fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
    ];
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    let bytes = number.trim().parse::<f64>().ok().map(|n| n * factor);
    let bytes = bytes.filter(|b| (0.0..1e18).contains(b)).map(|b| b as u64);
    bytes.ok_or_else(|| "expected a size, for example 500MiB or 20GB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!([size("1KiB"), size("1.5MB"), size("0"), size("12 B")], [Ok(1024), Ok(1_500_000), Ok(0), Ok(12)]);
        assert_eq!([size("-1"), size("x"), size("NaN"), size("1e30")].map(|s| s.is_err()), [true; 4]);
    }
}
