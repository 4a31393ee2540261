//! Golden outputs: what each kind writes on a tiny input, pinned by kind and VERSION.
//!
//! `tests/golden/pipeline.yaml` runs through the engine; `tests/golden/<kind>@<VERSION>` holds, for each of the kind's data
//! outputs, the action key and the digest. Under one key there is one result, so the same key with another digest means that
//! the kind changed without a higher VERSION: stores in the field would serve the old bytes. Another key only means that what
//! the kind reads has changed. Of `lora-train`, `generate` and `rank`, whose last digits depend on the machine, numbers are pinned.
//!
//! After raising a VERSION, or after a change above, write the files anew and look at their difference:
//! `WATERSHED_RENEW=1 cargo test --release --test it golden`. It refuses to write another digest under the same key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use watershed_stages::kinds;

use crate::project::{Project, Ran, files};

/// Largest difference of a loss, of a run on another processor.
const TOLERANCE: f64 = 1e-4;

/// Share of the generated tokens that must be the same: a near tie may go the other way on another processor.
const SAME_TOKENS: f64 = 0.9;

/// What a kind wrote: a name, for example `mixed.examples`, to words.
type Lines = BTreeMap<String, Vec<String>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn golden_outputs_are_those_of_each_kinds_version() {
    let project = Project::new("stages: {}\n");
    for path in files(&folder()) {
        let name = path.strip_prefix(folder()).unwrap().to_str().unwrap();
        project.write(name, &std::fs::read_to_string(&path).unwrap());
    }
    let ran = project.run(&["pipeline.yaml", "--keep-going"]);
    let written = written(&project, &ran);
    let mut faults = Vec::new();
    // What is fetched is pinned by its digest already.
    for kind in kinds().into_iter().filter(|kind| !kind.fetches) {
        match written.get(kind.name) {
            Some(lines) => faults.extend(compare(kind.name, kind.version, lines)),
            None if ran.error("tuned").contains("needs the program `watershed-torch`") => {
                eprintln!("skipped: `watershed-torch` is not built, which executes `{}`", kind.name);
            }
            None => panic!("no stage of tests/golden/pipeline.yaml ran `{}`: {}", kind.name, failures(&ran)),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn failures(ran: &Ran) -> String {
    let failed = ran.events.iter().filter(|e| e["outcome"] == "failed");
    failed.map(|e| format!("`{}`: {}; ", e["stage"].as_str().unwrap(), e["error"])).collect()
}

/// Reads, by kind, what the finished stages wrote.
fn written(project: &Project, ran: &Ran) -> BTreeMap<String, Lines> {
    let mut all: BTreeMap<String, Lines> = BTreeMap::new();
    for stage in ran.outcome("ran").into_iter().chain(ran.outcome("hit")) {
        let of = |event: &str| ran.events.iter().find(|e| e["event"] == event && e["stage"] == stage.as_str()).unwrap();
        let kind = of("stage_planned")["kind"].as_str().unwrap();
        let lines = match kind {
            "lora-train" => losses(project, &stage),
            "generate" => tokens(project, &stage),
            "rank" => scores(project, &stage),
            _ => digests(project, &stage, of("stage_finished")["key"].as_str().unwrap()),
        };
        all.entry(kind.to_string()).or_default().extend(lines);
    }
    all
}

fn digests(project: &Project, stage: &str, key: &str) -> Lines {
    let record = std::fs::read_to_string(project.store().join("v1/ac").join(&key[..2]).join(&key[2..])).unwrap();
    let record: Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    let data = record["outputs"].as_object().unwrap().iter().filter(|(_, stored)| stored["report"] != true);
    let line = |(port, stored): (&String, &Value)| {
        let digest = stored["artifact"]["digest"].as_str().unwrap();
        (format!("{stage}.{port}"), vec![key[..32].to_string(), digest[..32].to_string()])
    };
    data.map(line).collect()
}

fn losses(project: &Project, stage: &str) -> Lines {
    let place = project.path("curves-out");
    project.says(&["get", "pipeline.yaml", &format!("{stage}.curves"), "-o", place.to_str().unwrap()]);
    let mut lines = Lines::new();
    for file in ["metrics", "eval"] {
        for line in std::fs::read_to_string(place.join(format!("{file}.jsonl"))).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            lines.insert(format!("{stage}.{file}.{}", line["step"]), vec![line["loss"].to_string()]);
        }
    }
    lines
}

fn tokens(project: &Project, stage: &str) -> Lines {
    let answers = project.says(&["get", "pipeline.yaml", &format!("{stage}.answers"), "-o", "-"]);
    let answers = answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ids = |answer: &Value| answer["token_ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    answers.map(|a| (format!("{stage}.{}", a["id"].as_str().unwrap()), ids(&a))).collect()
}

fn scores(project: &Project, stage: &str) -> Lines {
    let ranking = project.says(&["get", "pipeline.yaml", &format!("{stage}.ranking"), "-o", "-"]);
    let mut lines = Lines::new();
    for (row, line) in ranking.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        for (item, score) in line["items"].as_array().unwrap().iter().zip(line["scores"].as_array().unwrap()) {
            lines.insert(format!("{stage}.{row}.{}", item.as_str().unwrap()), vec![score.to_string()]);
        }
    }
    lines
}

/// Compares with the file of this kind and version, or writes it; returns what is wrong.
fn compare(kind: &str, version: u32, lines: &Lines) -> Vec<String> {
    let path = folder().join(format!("{kind}@{version}"));
    let pinned: Lines = std::fs::read_to_string(&path).unwrap_or_default().lines().filter_map(parse).collect();
    let mut faults: Vec<String> = Vec::new();
    for name in pinned.keys().chain(lines.keys().filter(|name| !pinned.contains_key(*name))) {
        faults.extend(judge(kind, pinned.get(name), lines.get(name)).map(|what| format!("{name}: {what}")));
    }
    let has_changed = faults.iter().any(|fault| fault.contains("raise its VERSION"));
    if std::env::var_os("WATERSHED_RENEW").is_some() && !has_changed {
        renew(kind, &path, lines);
        faults.clear();
    }
    faults
}

fn parse(line: &str) -> Option<(String, Vec<String>)> {
    let mut words = line.split_whitespace().map(str::to_string);
    Some((words.next()?, words.collect()))
}

fn judge(kind: &str, pinned: Option<&Vec<String>>, now: Option<&Vec<String>>) -> Option<String> {
    let renew = "write tests/golden anew with WATERSHED_RENEW=1";
    let (Some(pinned), Some(now)) = (pinned, now) else {
        return Some(format!("`{kind}` wrote it only once, now or for its golden file: {renew}"));
    };
    let is_same = match kind {
        "lora-train" | "rank" => (number(&pinned[0]) - number(&now[0])).abs() <= TOLERANCE,
        "generate" => {
            let same = pinned.iter().zip(now).filter(|(a, b)| a == b).count();
            same as f64 >= SAME_TOKENS * pinned.len().max(now.len()) as f64
        }
        _ if pinned[0] != now[0] => return Some(format!("`{kind}` has other inputs than before: {renew}")),
        _ => pinned == now,
    };
    (!is_same).then(|| format!("outputs of `{kind}` changed: raise its VERSION in {}, then {renew}", source_of(kind)))
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// Returns the file that holds a kind's VERSION.
fn source_of(kind: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = format!("KIND: &'static str = \"{kind}\"");
    let holds = |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains(&words));
    let found = files(&root.join("stages/src")).into_iter().find(holds);
    found.map_or("its source".into(), |path| path.strip_prefix(root).unwrap_or(&path).display().to_string())
}

/// Writes the file of this version and removes those of others.
fn renew(kind: &str, path: &Path, lines: &Lines) {
    let former = files(&folder()).into_iter().filter(|p| {
        p.file_name().and_then(|n| n.to_str()).and_then(|n| n.rsplit_once('@')).is_some_and(|(name, _)| name == kind)
    });
    former.for_each(|p| std::fs::remove_file(p).unwrap());
    let text: String = lines.iter().map(|(name, words)| format!("{name} {}\n", words.join(" "))).collect();
    std::fs::write(path, text).unwrap();
}

#[test]
fn another_digest_under_the_same_key_asks_for_a_higher_version() {
    let line = |words: [&str; 2]| words.map(str::to_string).to_vec();
    let (old, changed, moved) = (line(["key", "a"]), line(["key", "b"]), line(["other", "b"]));
    assert_eq!(judge("mix", Some(&old), Some(&old)), None);
    let fault = judge("mix", Some(&old), Some(&changed)).unwrap();
    assert!(fault.starts_with("outputs of `mix` changed: raise its VERSION in stages/src/mix.rs"), "{fault}");
    assert!(judge("mix", Some(&old), Some(&moved)).unwrap().contains("other inputs"));
    assert!(judge("lora-train", Some(&line(["1.0", ""])), Some(&line(["1.01", ""]))).is_some());
    assert!(judge("lora-train", Some(&line(["1.0", ""])), Some(&line(["1.00005", ""]))).is_none());
}
