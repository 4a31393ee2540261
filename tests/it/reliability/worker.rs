//! What becomes of a stage whose worker fails it: rows 42, 44.

use std::os::unix::fs::PermissionsExt;

use watershed_engine::Stage;

use crate::project::{Project, Ran, rows};

/// A copy of the program beside a worker that greets as `watershed-torch` does and then dies of `death`.
fn with_worker(death: &str) -> Project {
    let project = Project::new(
        "stages:
  base:    {use: random-model, in: {tokenizer: ./tokenizer.json}, with: {config: {bos_token_id: 1, eos_token_id: 2, hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, max_position_embeddings: 512, vocab_size: 512, tie_word_embeddings: true}}}
  rows:    {use: examples, in: ./data.jsonl}
  answers: {use: generate, in: {base: base, prompts: rows}, with: {max_new_tokens: 8}}
  other:   {use: command, in: {x: rows}, with: {shell: 'wc -l < $IN_x > $OUT_out'}}
",
    );
    project.write("tokenizer.json", include_str!("../../../templates/tokenizer.json"));
    project.write("data.jsonl", &rows(3));
    let hello = r#"{"worker": "hello", "protocol": 1, "build": "BUILD", "kinds": [["generate", VERSION]]}"#;
    let version = watershed_stages::generate::Generate::VERSION.to_string();
    let hello = hello.replace("BUILD", env!("CARGO_PKG_VERSION")).replace("VERSION", &version);
    project.write(
        "bin/watershed-torch",
        &format!("#!/bin/sh\necho '{hello}'\nread -r order\necho 'terrible things' >&2\n{death}\n"),
    );
    std::fs::set_permissions(project.path("bin/watershed-torch"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_watershed"), project.path("bin/watershed")).unwrap();
    project
}

fn run_copy(project: &Project, arguments: &[&str]) -> Ran {
    let mut command = std::process::Command::new(project.path("bin/watershed"));
    command.args(["run", "--format", "json"]).args(arguments).current_dir(project.path(""));
    command.env_remove("WATERSHED_CACHE");
    loop {
        match command.output() {
            // a child that another test has just forked may hold the copy open for writing until it executes its own program
            Err(busy) if busy.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            done => return Ran::of(&done.unwrap()),
        }
    }
}

#[test]
fn row_42_a_worker_that_dies_fails_its_stage_with_the_end_of_its_log() {
    for (death, told) in [("kill -9 $$", "signal: 9"), ("kill -ABRT $$", "signal: 6"), ("kill -SEGV $$", "signal: 11")]
    {
        let project = with_worker(death);
        let ran = run_copy(&project, &["--keep-going"]);
        assert_eq!((ran.code, ran.outcome("failed")), (1, vec!["answers".into()]), "{:?}", ran.events);
        assert!(ran.outcome("ran").contains(&"other".to_string()), "{:?}", ran.events);
        let error = ran.error("answers");
        assert!(error.contains(told) && error.ends_with(":\nterrible things"), "{error}");
        assert_eq!(error.contains("needs more memory than there is"), told == "signal: 9", "{error}");
    }
}

fn has_nvidia() -> bool {
    let names = std::fs::read_dir("/dev").unwrap().flatten().map(|item| item.file_name());
    names.filter_map(|name| name.into_string().ok()).any(|name| name.starts_with("nvidia"))
}

#[test]
fn row_44_without_a_gpu_a_stage_that_wants_one_is_exit_6_and_never_runs_on_the_processor() {
    if has_nvidia() {
        eprintln!("skipped: this machine has an NVIDIA device");
        return;
    }
    let project = with_worker("echo '{\"worker\": \"done\"}'");
    project.edit("max_new_tokens: 8}}", "max_new_tokens: 8}, run: {device: cuda}}");
    let ran = run_copy(&project, &["--keep-going"]);
    assert_eq!((ran.code, ran.outcome("failed")), (6, vec!["answers".into()]));
    for word in ["`answers` asks for `device: cuda`", "offers no NVIDIA device", "use `auto` or `cpu`"] {
        assert!(ran.error("answers").contains(word), "{}", ran.error("answers"));
    }
    let told = String::from_utf8_lossy(&project.watershed(&["doctor"]).stdout).into_owned();
    assert!(told.contains("no NVIDIA device: training and sampling run on processors"), "{told}");
}
