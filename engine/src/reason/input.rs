//! In which inputs two manifests differ, and how people read of it.
//!
//! A manifest's label may end in the suffixes of the file's name, which a program sees (see [`crate::suffix`]). They are no part
//! of an input's place: under another suffix it is the same input, and one leaf.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::{reason, union};
use crate::event::Reason;
use crate::graph::{From, Node, NodeInput};
use crate::key::Manifest;
use crate::suffix::suffixes;

/// What a manifest holds of an input.
#[derive(PartialEq)]
struct Seen {
    digest: String,
    suffix: String,
}

/// Returns the inputs in which two manifests differ; with the node, whose `new` is, the texts name their sources.
pub fn differences(stage: &str, old: &Manifest, new: &Manifest, node: Option<&Node>) -> Vec<Reason> {
    let crowded = crowded(old).union(&crowded(new)).cloned().collect();
    let (was, is) = (places(old, &crowded), places(new, &crowded));
    let mut reasons = Vec::new();
    for place in union(was.keys(), is.keys()) {
        let (before, after) = (was.get(place), is.get(place));
        if before != after {
            let (old, new) = values(before, after);
            let from = node.map(|node| source_text(node, place)).unwrap_or_default();
            let text = text(place, &from, before, after);
            reasons.push(Reason { text, ..reason("input", &format!("{stage}.in.{place}"), old, new) });
        }
    }
    reasons
}

/// Returns the input of a node that lies at a place: `PORT`, or `PORT.LABEL` where the port takes several.
pub fn at<'n>(node: &'n Node, place: &str) -> Option<&'n NodeInput> {
    let fitting = node.inputs.iter().filter_map(|input| Some((fit(input, place)?, input)));
    fitting.max_by_key(|(length, _)| *length).map(|(_, input)| input)
}

/// Returns how much of a place an input's label fits; `None` where it lies elsewhere.
fn fit(input: &NodeInput, place: &str) -> Option<usize> {
    if place == input.port {
        return Some(0);
    }
    let rest = place.strip_prefix(&input.port)?.strip_prefix('.')?;
    let whole = rest.strip_prefix(&input.label).is_some_and(|more| more.is_empty() || more.starts_with('.'));
    let (name, _) = split(&input.label);
    if whole { Some(input.label.len()) } else { (rest == name).then_some(name.len()) }
}

/// Splits the suffixes from a label; one that begins with a dot is nothing else.
fn split(label: &str) -> (&str, &str) {
    let name = match label.starts_with('.') {
        true => "",
        false => label.strip_suffix(&suffixes(Path::new(label))).unwrap_or(label),
    };
    (name, &label[name.len()..])
}

fn joined(port: &str, label: &str) -> String {
    if label.is_empty() { port.to_string() } else { format!("{port}.{label}") }
}

/// Returns the places at which there would be several inputs if their suffixes were left out.
fn crowded(manifest: &Manifest) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let places = manifest.inputs.iter().map(|input| joined(&input.port, split(&input.label).0));
    places.filter(|place| !seen.insert(place.clone())).collect()
}

fn places(manifest: &Manifest, crowded: &BTreeSet<String>) -> BTreeMap<String, Seen> {
    let place = |input: &crate::key::InputDigest| {
        let (name, suffix) = split(&input.label);
        let short = joined(&input.port, name);
        let (place, suffix) =
            if crowded.contains(&short) { (joined(&input.port, &input.label), "") } else { (short, suffix) };
        (place, Seen { digest: input.digest.hex(), suffix: suffix.to_string() })
    };
    manifest.inputs.iter().map(place).collect()
}

/// Returns the digests, or the suffixes where nothing else differs.
fn values(old: Option<&Seen>, new: Option<&Seen>) -> (Value, Value) {
    match (old, new) {
        (Some(was), Some(is)) if was.digest == is.digest => (was.suffix.as_str().into(), is.suffix.as_str().into()),
        _ => {
            let digest = |seen: Option<&Seen>| seen.map_or(Value::Null, |seen| seen.digest.as_str().into());
            (digest(old), digest(new))
        }
    }
}

fn text(place: &str, from: &str, old: Option<&Seen>, new: Option<&Seen>) -> String {
    let (Some(was), Some(is)) = (old, new) else {
        return if old.is_none() { format!("input {place}{from} added") } else { format!("input {place} removed") };
    };
    let changed = if was.digest == is.digest { "" } else { " changed" };
    let word = |suffix: &str| if suffix.is_empty() { "none".to_string() } else { suffix.to_string() };
    let suffix = match was.suffix == is.suffix {
        true => String::new(),
        false => format!(", suffix {} -> {}", word(&was.suffix), word(&is.suffix)),
    };
    format!("input {place}{from}{changed}{suffix}")
}

fn source_text(node: &Node, place: &str) -> String {
    let source = at(node, place);
    match source.map(|input| &input.from) {
        Some(From::Path { text, .. }) => format!(": {text}"),
        Some(From::Cases) => " (the overrides of the cases)".into(),
        _ => source.map(|input| format!(" <- {}", input.label)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use watershed_cache::Digest;

    use super::*;
    use crate::key::InputDigest;

    fn manifest(inputs: &[(&str, &str)]) -> Manifest {
        let digest = |(label, bytes): &(&str, &str)| InputDigest {
            port: "x".into(),
            label: label.to_string(),
            digest: Digest::of(bytes.as_bytes()),
        };
        Manifest {
            kind: "watershed/command".into(),
            version: 1,
            build: None,
            params: BTreeMap::new(),
            inputs: inputs.iter().map(digest).collect(),
            env: BTreeMap::new(),
            tools: BTreeMap::new(),
            outputs: BTreeMap::new(),
        }
    }

    fn told(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        let reasons = differences("a", &manifest(old), &manifest(new), None);
        reasons.into_iter().map(|reason| format!("{} | {}", reason.path, reason.text)).collect()
    }

    #[test]
    fn the_suffix_of_a_file_is_no_part_of_its_place() {
        assert_eq!(told(&[(".csv", "1")], &[(".csv", "2")]), ["a.in.x | input x changed"]);
        assert_eq!(told(&[(".csv", "1")], &[(".txt", "1")]), ["a.in.x | input x, suffix .csv -> .txt"]);
        assert_eq!(told(&[("", "1")], &[(".csv.gz", "2")]), ["a.in.x | input x changed, suffix none -> .csv.gz"]);
        assert_eq!(told(&[("data.csv", "1")], &[("data.csv", "2")]), ["a.in.x.data | input x.data changed"]);
        assert_eq!(told(&[(".csv", "1")], &[]), ["a.in.x | input x removed"]);
    }

    #[test]
    fn two_files_that_differ_in_their_suffixes_only_stay_two() {
        let both = [("data.csv", "1"), ("data.txt", "2")];
        assert_eq!(
            told(&both, &[("data.csv", "1"), ("data.txt", "3")]),
            ["a.in.x.data.txt | input x.data.txt changed"]
        );
        assert_eq!(told(&both[..1], &both), ["a.in.x.data.txt | input x.data.txt added"]);
    }

    #[test]
    fn a_rename_tells_the_suffixes_and_a_change_the_digests() {
        let values = |old, new| {
            let reason = differences("a", &manifest(&[old]), &manifest(&[new]), None).remove(0);
            (reason.old, reason.new)
        };
        assert_eq!(values((".csv", "1"), (".txt", "1")), (".csv".into(), ".txt".into()));
        let digest = |text: &str| Value::from(Digest::of(text.as_bytes()).hex());
        assert_eq!(values((".csv", "1"), (".txt", "2")), (digest("1"), digest("2")));
    }
}
