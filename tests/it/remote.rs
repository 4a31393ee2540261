//! Inputs from elsewhere: a real server on 127.0.0.1, and a Hugging Face cache as its library lays it out.

use std::os::unix::fs::symlink;
use std::process::Output;

use serde_json::Value;

use crate::project::{Project, Ran, flip, rows};
use crate::server::Server;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn sha256(text: &str) -> String {
    let mut command = std::process::Command::new("sha256sum");
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..64].to_string()
}

fn reads(input: &str) -> String {
    format!(
        "stages:\n  rows:  {{use: examples, in: {{files: \"{input}\"}}}}\n  parts: {{use: split, in: rows, with: {{val: 4}}}}\n"
    )
}

fn address(server: &Server, name: &str, digest: &str) -> String {
    format!("{}/{name}#sha256={digest}", server.endpoint())
}

/// A project that reads `data.jsonl` from a server, which pins these bytes.
fn fetching(server: &Server, pinned: &str) -> Project {
    Project::new(&reads(&address(server, "data.jsonl", &sha256(pinned))))
}

fn fetch_stage(text: &str) -> String {
    format!("fetch:data.jsonl#{}", &sha256(text)[..8])
}

#[test]
fn a_file_from_elsewhere_is_fetched_once_and_known_by_its_digest() {
    let (server, text) = (Server::answers(200, &rows(40)), rows(40));
    let project = fetching(&server, &text);
    let states: Vec<Value> =
        project.plan(&[])["stages"].as_array().unwrap().iter().map(|s| s["state"].clone()).collect();
    assert_eq!(states, ["run", "depends", "depends"]);
    assert_eq!(server.times_asked(), 0);
    assert_eq!(project.run(&[]).outcome("ran"), [fetch_stage(&text), "parts".into(), "rows".into()]);
    project.says(&["get", "rows", "-o", "rows.jsonl"]);
    // Nothing is fetched again: not by a second run, not from a mirror, not by a reader that is new.
    assert_eq!(project.run(&["--offline"]).outcome("hit").len(), 3);
    let mirror = Server::answers(500, "");
    project.write("watershed.yaml", &reads(&address(&mirror, "other/data.jsonl", &sha256(&text))));
    assert_eq!(project.run(&[]).outcome("hit").len(), 3);
    project.edit("val: 4", "val: 6");
    assert_eq!(project.run(&["--offline"]).outcome("ran"), ["parts"]);
    assert_eq!((server.times_asked(), mirror.times_asked()), (1, 0));
}

#[test]
fn the_same_rows_from_elsewhere_and_from_a_file_are_the_same_to_all_below() {
    let (server, text) = (Server::answers(200, &rows(40)), rows(40));
    let project = fetching(&server, &text);
    assert_eq!(project.run(&[]).code, 0);
    project.write("data.jsonl", &text);
    project.write("watershed.yaml", &reads("./data.jsonl"));
    assert_eq!(project.run(&[]).outcome("hit"), ["parts", "rows"]);
}

#[test]
fn bytes_with_another_digest_are_refused_and_kept_nowhere() {
    let (server, promised) = (Server::answers(200, "something else"), rows(40));
    let project = fetching(&server, &promised);
    let ran = project.run(&[]);
    let error = ran.error(&fetch_stage(&promised));
    assert_eq!((ran.code, ran.outcome("skipped").len()), (1, 2));
    assert!(
        error.contains(&format!("has sha256 {}, expected {}", sha256("something else"), sha256(&promised))),
        "{error}"
    );
    assert_eq!(project.blobs().len(), 0);
}

#[test]
fn a_server_that_fails_is_asked_three_times_and_one_that_lacks_the_file_once() {
    for (status, times) in [(503, 3), (404, 1)] {
        let server = Server::answers(status, "sorry");
        let ran = fetching(&server, &rows(4)).run(&[]);
        let error = ran.error(&fetch_stage(&rows(4)));
        assert!(ran.code == 1 && error.contains(&format!("the server answers {status}")), "{error}");
        assert_eq!(server.times_asked(), times);
    }
}

#[test]
fn offline_says_what_it_would_have_fetched() {
    let server = Server::answers(200, &rows(40));
    let ran = fetching(&server, &rows(40)).run(&["--offline"]);
    let error = ran.error(&fetch_stage(&rows(40)));
    assert!(ran.code == 1 && error.contains("/data.jsonl` is not in the store and `--offline` forbids"), "{error}");
    assert_eq!(server.times_asked(), 0);
}

#[test]
fn a_damaged_copy_is_fetched_again() {
    let (server, text) = (Server::answers(200, &rows(40)), rows(40));
    let project = fetching(&server, &text);
    assert_eq!(project.run(&[]).code, 0);
    let is_copy = |path: &std::path::PathBuf| std::fs::read_to_string(path).is_ok_and(|t| t == text);
    flip(&project.blobs().into_iter().find(is_copy).unwrap(), 100);
    let again: Ran = project.run(&["--force", "rows"]);
    assert_eq!((again.code, server.times_asked()), (0, 2));
    assert_eq!(again.outcome("ran"), [fetch_stage(&text), "rows".into()]);
}

/// A project beside a cache with one snapshot, whose files link to blobs.
fn with_cache(kind: &str, files: &[(&str, &str)]) -> Project {
    let project = Project::new("");
    let repository = format!("hf/hub/{kind}--owner--name");
    for (name, text) in files {
        project.write(&format!("{repository}/blobs/{name}"), text);
        project.write(&format!("{repository}/snapshots/{COMMIT}/here"), "");
        let link = project.path(&format!("{repository}/snapshots/{COMMIT}/{name}"));
        symlink(format!("../../blobs/{name}"), link).unwrap();
    }
    project.write(&format!("{repository}/refs/main"), COMMIT);
    std::fs::create_dir(project.path("mine")).unwrap();
    project.write("mine/watershed.root", "");
    project
}

fn watershed(project: &Project, pipeline: &str, arguments: &[&str]) -> Output {
    project.write("mine/watershed.yaml", pipeline);
    let mut command = project.command(arguments);
    let command =
        command.current_dir(project.path("mine")).env_remove("HF_HUB_CACHE").env("HF_HOME", project.path("hf"));
    command.output().unwrap()
}

fn run(project: &Project, pipeline: &str) -> Ran {
    Ran::of(&watershed(project, pipeline, &["run", "--format", "json"]))
}

/// Returns code and help of the only fault.
fn fault(project: &Project, input: &str) -> (String, String) {
    let output = watershed(project, &reads(input), &["check", "--format", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [only] = document["errors"].as_array().unwrap().as_slice() else { panic!("{document}") };
    (only["code"].as_str().unwrap().into(), only["help"].as_str().unwrap().into())
}

#[test]
fn a_file_of_a_dataset_is_read_from_the_cache() {
    let project = with_cache("datasets", &[("rows.jsonl", &rows(40))]);
    let pipeline = reads(&format!("hf:datasets/owner/name@{COMMIT}/rows.jsonl"));
    assert_eq!(run(&project, &pipeline).outcome("ran"), ["parts", "rows"]);
    assert_eq!(run(&project, &pipeline).outcome("hit"), ["parts", "rows"]);
    // A run for people goes by the compiled plan, which must see that the cache holds other bytes now.
    assert!(watershed(&project, &pipeline, &["run"]).status.success());
    project.write("hf/hub/datasets--owner--name/blobs/rows.jsonl", &rows(50));
    let said = String::from_utf8(watershed(&project, &pipeline, &["run"]).stdout).unwrap();
    assert!(said.contains("ok: 2 ran, 0 in the store"), "{said}");
}

#[test]
fn a_whole_snapshot_is_an_input_too() {
    let project = with_cache("models", &[("config.json", "{}"), ("tokenizer.json", "{}")]);
    let pipeline = format!(
        "stages:\n  list: {{use: command, in: {{model: 'hf:owner/name@{COMMIT}'}}, with: {{shell: 'ls $IN_model > $OUT_out'}}}}\n"
    );
    assert_eq!(run(&project, &pipeline).outcome("ran"), ["list"]);
    assert_eq!(run(&project, &pipeline).outcome("hit"), ["list"]);
}

#[test]
fn what_is_not_in_the_cache_is_told_with_the_command_that_fetches_it() {
    let project = with_cache("datasets", &[("rows.jsonl", &rows(4))]);
    let (code, help) = fault(&project, &format!("hf:other/model@{COMMIT}"));
    assert_eq!(code, "E021");
    assert!(help.starts_with(&format!("fetch it with `hf download other/model --revision {COMMIT}`")), "{help}");
    let (code, help) = fault(&project, &format!("hf:datasets/owner/name@{COMMIT}/x.jsonl"));
    assert_eq!(code, "E021");
    assert!(
        help.contains(&format!("`hf download owner/name x.jsonl --repo-type dataset --revision {COMMIT}`")),
        "{help}"
    );
}

#[test]
fn a_branch_is_refused_with_the_commit_it_stands_for() {
    let project = with_cache("datasets", &[("rows.jsonl", &rows(4))]);
    let pinned = format!("in the cache it is `hf:datasets/owner/name@{COMMIT}/rows.jsonl`");
    for revision in ["main", "0123abcd", &COMMIT[..12]] {
        let (code, help) = fault(&project, &format!("hf:datasets/owner/name@{revision}/rows.jsonl"));
        assert_eq!(code, "E034");
        assert_eq!(help == pinned, revision != "0123abcd", "{help}");
    }
}

#[test]
fn a_link_that_leaves_its_repository_is_refused() {
    let project = with_cache("datasets", &[("rows.jsonl", &rows(4))]);
    let link = project.path(&format!("hf/hub/datasets--owner--name/snapshots/{COMMIT}/passwords.jsonl"));
    symlink("/etc/passwd", link).unwrap();
    assert_eq!(fault(&project, &format!("hf:datasets/owner/name@{COMMIT}/passwords.jsonl")).0, "E022");
}
