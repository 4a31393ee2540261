//! Golden keys: the action key of every node of every pipeline that ships, in all cases of all its sweeps.
//!
//! `tests/golden/keys/<pipeline>` has a line a node: title, kind with VERSION, key. A sweep lists only what the lines above do
//! not hold already. Another key means that whoever has the result pays for it again, so it needs a reason: the pipeline asks
//! for other work, or a VERSION was raised. After one of these, write the files anew and look at their difference:
//! `WATERSHED_RENEW=1 cargo test --release --test it keys::pinned`.

use std::collections::BTreeSet;

use watershed_engine::language::Kinds;

use super::{Shipped, by_name, manifests, repository, shipped_kinds};

/// One line: title, kind with VERSION, key, and what the manifest holds, for the message.
struct Line {
    place: String,
    text: String,
    made_of: String,
}

/// Returns the lines of one pipeline, with a head before the nodes of each sweep.
fn lines(shipped: &Shipped, kinds: &Kinds, name: &str) -> Vec<Line> {
    let sweeps = shipped.sweeps(name).into_iter().map(Some);
    let (mut lines, mut seen) = (Vec::new(), BTreeSet::new());
    for sweep in [None].into_iter().chain(sweeps) {
        let place = sweep.as_ref().map_or_else(|| name.to_string(), |sweep| format!("{name}, sweep {sweep}"));
        let head = sweep.as_ref().map(|sweep| format!("sweep {sweep}"));
        lines.extend(head.map(|text| Line { place: place.clone(), text, made_of: String::new() }));
        let graph = shipped.graph(kinds, name, sweep.as_deref());
        for (node, manifest) in graph.nodes.iter().zip(manifests(&graph, by_name)) {
            let kind = format!("{}@{}", node.stage.kind.name, manifest.version);
            if seen.insert((node.stage.name.clone(), manifest.key())) {
                let text = format!("{} {kind} {}", node.title(), &manifest.key().hex()[..32]);
                let made_of = serde_json::to_string(&manifest).unwrap();
                lines.push(Line { place: place.clone(), text, made_of });
            }
        }
    }
    lines
}

/// Returns what differs from the pinned text: each line that it lacks, and how many lines are gone.
fn judge(pinned: &str, lines: &[Line]) -> Vec<String> {
    let known: BTreeSet<&str> = pinned.lines().collect();
    let mut faults: Vec<String> = lines.iter().filter(|line| !known.contains(line.text.as_str())).map(fault).collect();
    let now: BTreeSet<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let gone: Vec<&str> = known.into_iter().filter(|line| !now.contains(line)).collect();
    if faults.is_empty() && !gone.is_empty() {
        faults.push(format!("pinned, and no node's any more: {}", gone.join("; ")));
    }
    faults
}

fn fault(line: &Line) -> String {
    let words: Vec<&str> = line.text.split(' ').collect();
    let [title, kind, key] = words[..] else { return format!("{}: `{}` is new", line.place, line.text) };
    format!("{}: `{title}` ({kind}) has the key {key}, which is not pinned; it is made of {}", line.place, line.made_of)
}

const MEND: &str = "a key changes only with the work: when a pipeline asks for other work, or with a raised VERSION where a \
    kind's results change. A new parameter must have a default that keeps the old results. If this change is meant, write \
    tests/golden/keys anew with WATERSHED_RENEW=1 and look at the difference";

#[test]
fn golden_keys_are_those_of_every_shipped_pipeline() {
    let (shipped, kinds) = (Shipped::new(), Kinds::new(shipped_kinds()));
    let renews = std::env::var_os("WATERSHED_RENEW").is_some();
    let mut faults = Vec::new();
    for name in Shipped::names() {
        let path = repository().join("tests/golden/keys").join(name.replace('/', "-").trim_end_matches(".yaml"));
        let lines = lines(&shipped, &kinds, &name);
        if renews {
            let text: String = lines.iter().map(|line| format!("{}\n", line.text)).collect();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        faults.extend(judge(&std::fs::read_to_string(&path).unwrap_or_default(), &lines));
    }
    assert!(faults.is_empty(), "{}\n{MEND}", faults.join("\n"));
}

#[test]
fn another_key_is_told_with_pipeline_node_and_kind() {
    let line = |text: &str| Line { place: "p.yaml, sweep s".into(), text: text.into(), made_of: "{}".into() };
    let pinned = "parts split@1 aa\ntuned@x lora-train@1 bb\n";
    assert_eq!(judge(pinned, &[line("parts split@1 aa"), line("tuned@x lora-train@1 bb")]), [""; 0]);
    let faults = judge(pinned, &[line("parts split@1 aa"), line("tuned@x lora-train@1 cc")]);
    assert_eq!(
        faults,
        ["p.yaml, sweep s: `tuned@x` (lora-train@1) has the key cc, which is not pinned; it is made of {}"]
    );
    assert_eq!(judge(pinned, &[line("parts split@1 aa")]).len(), 1, "a node that is gone");
}
