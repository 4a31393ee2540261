//! Bad input: one clear error that says what, where and how to mend it, and everything finished stays a hit.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::fixture::{copy, tiny_llama, weights};
use crate::project::{Project, Ran, files, has_worker, rows};
use crate::server::Server;

const KEY: &str = "sk-canary-1234567890abcdef";

/// Runs, expects this exit code and these words in the error of `stage`, and that the next run finds `finished` in the store.
fn fails(project: &Project, stage: &str, code: i32, words: &[&str], finished: &[&str]) {
    fails_with(&|| project.command(&["run", "--format", "json"]), stage, code, words, finished);
}

fn fails_with(command: &dyn Fn() -> Command, stage: &str, code: i32, words: &[&str], finished: &[&str]) {
    let ran = Ran::of(&command().output().unwrap());
    let error = ran.error(stage);
    assert_eq!((ran.code, ran.outcome("failed")), (code, vec![stage.to_string()]), "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    let again = Ran::of(&command().output().unwrap());
    assert_eq!((again.code, again.outcome("hit")), (code, finished.iter().map(|s| s.to_string()).collect()));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Reviews of 2018, one a line.
fn reviews(count: usize) -> Vec<String> {
    let line = |i| {
        format!(
            "{{\"reviewerID\":\"U{}\",\"asin\":\"B{}\",\"overall\":4.0,\"unixReviewTime\":15000{i:05},\"reviewText\":\"no {i}\"}}",
            i % 50,
            i % 7
        )
    };
    (0..count).map(line).collect()
}

/// `fine` needs nothing; `rows` reads `reviews`.
fn of_reviews(name: &str, bytes: Option<&[u8]>) -> Project {
    let project = Project::new(&format!(
        "stages:
  fine: {{use: synthetic, with: {{customers: 20, items: 30}}}}
  rows: {{use: ingest, in: {{reviews: ./{name}}}}}
"
    ));
    if let Some(bytes) = bytes {
        std::fs::write(project.path(name), bytes).unwrap();
    }
    project
}

#[test]
fn a_missing_file_is_a_fault_of_the_pipeline() {
    let project = of_reviews("reviews.json.gz", None);
    for command in ["check", "run"] {
        let output = project.watershed(&[command]);
        assert_eq!(output.status.code(), Some(3));
        let said = text(&output);
        assert!(said.contains("there is no file or folder `./reviews.json.gz`"), "{said}");
        assert!(said.contains("watershed.yaml:3:37") && said.contains("help: looked for"), "{said}");
    }
    assert!(!project.store().join("v1").exists());
}

#[test]
fn a_cut_off_gz_fails_and_says_where() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(reviews(500).join("\n").as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    let half = whole.len() / 2;
    let project = of_reviews("reviews.json.gz", Some(&whole[..half]));
    let place = format!("at byte {half}");
    fails(&project, "rows", 1, &["reviews.json.gz", &place, "fetch the file again", "max_bad: 1"], &["fine"]);
    std::fs::write(project.path("reviews.json.gz"), &whole).unwrap();
    let mended = project.run(&[]);
    assert_eq!(
        (mended.code, mended.outcome("ran"), mended.outcome("hit")),
        (0, vec!["rows".into()], vec!["fine".into()])
    );
}

#[test]
fn a_malformed_line_is_quarantined_and_too_many_fail() {
    let mut lines = reviews(200);
    lines[6] = "{\"asin\":".into();
    let project = of_reviews("reviews.json", Some(lines.join("\n").as_bytes()));
    assert_eq!(project.run(&[]).code, 0);
    let quarantine = project.says(&["get", "rows.quarantine", "-o", "-"]);
    assert!(quarantine.contains("\"line\":7,\"reason\":\"not JSON"), "{quarantine}");
    lines[7..20].fill("nope".into());
    project.write("reviews.json", &lines.join("\n"));
    fails(&project, "rows", 1, &["14 of 200 rows", "`max_bad: 1%`", "line 7: not JSON", "mend the rows"], &["fine"]);
}

/// `rows -> tuned` on the base `./base`, which the caller fills.
fn of_training(base: &str, run: &str) -> Project {
    let project = Project::new(&format!(
        "stages:
  rows:  {{use: examples, in: {{files: ./data.jsonl}}}}
  tuned: {{use: lora-train, in: {{train: rows, base: ./{base}}}, with: {{max_len: 64, max_steps: 2, batch_size: 2}}, run: {{{run}}}}}
"
    ));
    project.write("data.jsonl", &rows(8));
    project
}

#[test]
fn an_unknown_model_file_is_refused_by_name() {
    if !has_worker() {
        return;
    }
    let cases = [
        ("noise.gguf", vec!["noise.gguf", "does not begin with `GGUF`", "give a GGUF file, or a Hugging Face folder"]),
        ("model.bin", vec!["model.bin", "never unpickled", "convert the model to safetensors"]),
        ("model.safetensors", vec!["model.safetensors", "give the folder that holds it"]),
    ];
    for (name, words) in cases {
        let project = of_training(name, "device: cpu");
        project.write(name, &"noise ".repeat(500));
        fails(&project, "tuned", 1, &words, &["rows"]);
    }
}

#[test]
fn a_cut_off_safetensors_file_is_refused() {
    let Some(model) = tiny_llama("model").filter(|_| has_worker()) else { return };
    let project = of_training("base", "device: cpu");
    copy(&model, &project.path("base"));
    let file = weights(&project.path("base")).remove(0);
    std::fs::File::options().write(true).open(&file).unwrap().set_len(5000).unwrap();
    let name = format!("base/{}", file.file_name().unwrap().to_string_lossy());
    fails(&project, "tuned", 1, &[&name, "is the download whole?"], &["rows"]);
}

#[test]
fn base_and_tokenizer_that_do_not_fit_are_told_with_their_sizes() {
    let Some(model) = tiny_llama("model").filter(|_| has_worker()) else { return };
    let project = of_training("base", "device: cpu");
    copy(&model, &project.path("base"));
    let path = project.path("base/tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
    let mut more = tokens[0].clone();
    (more["id"], more["content"]) = (70_000.into(), "<more>".into());
    tokens.push(more);
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let words =
        ["base and tokenizer do not fit", "ids", "embedding rows", "use the tokenizer that came with the model"];
    fails(&project, "tuned", 1, &words, &["rows"]);
}

#[test]
fn cuda_without_a_device_is_the_environments_fault() {
    if Path::new("/dev/nvidia0").exists() {
        return eprintln!("skipped: this machine has an NVIDIA device");
    }
    let Some(model) = tiny_llama("model") else { return };
    let project = of_training("base", "device: cuda");
    copy(&model, &project.path("base"));
    fails(&project, "tuned", 6, &["`tuned`", "no NVIDIA device", "use `auto` or `cpu`"], &["rows"]);
}

#[test]
fn a_missing_worker_program_is_the_environments_fault() {
    let Some(model) = tiny_llama("model") else { return };
    let project = of_training("base", "device: cpu");
    copy(&model, &project.path("base"));
    let alone = tempfile::tempdir().unwrap();
    let program = alone.path().join("watershed");
    std::fs::copy(env!("CARGO_BIN_EXE_watershed"), &program).unwrap();
    let command = || {
        let mut command = Command::new(&program);
        command.args(["run", "--format", "json"]).current_dir(project.path("."));
        command.env_remove("WATERSHED_TORCH").env_remove("WATERSHED_CACHE");
        command
    };
    let words = ["`watershed-torch`", "WATERSHED_TORCH", "cargo build --release -p watershed-torch"];
    fails_with(&command, "tuned", 6, &words, &["rows"]);
}

/// `rows -> labels`, asked from `endpoint` with one retry.
fn of_teacher(endpoint: &str) -> Project {
    let project = Project::new(&format!(
        "stages:
  rows:   {{use: examples, in: {{files: ./data.jsonl}}}}
  labels:
    use: teacher-label
    in: {{prompts: rows}}
    with: {{backend: openai, endpoint: \"{endpoint}\", model: tiny}}
    run: {{api_key: {{env: TEACHER_KEY}}, request_retries: 1, request_timeout: 5}}
"
    ));
    project.write("data.jsonl", &rows(3));
    project
}

fn teacher_fails(endpoint: &str, words: &[&str]) -> Project {
    let project = of_teacher(endpoint);
    let command = || {
        let mut command = project.command(&["run", "--format", "json"]);
        command.env("TEACHER_KEY", KEY);
        command
    };
    let words: Vec<&str> = words.iter().copied().chain([endpoint, "0 of 3 rows are answered"]).collect();
    fails_with(&command, "labels", 1, &words, &["rows"]);
    project
}

#[test]
fn a_teacher_that_refuses_is_quoted_without_the_key() {
    let body = format!("{{\"error\":{{\"message\":\"wrong key {KEY}\",\"code\":\"invalid_api_key\"}}}}");
    let server = Server::answers(401, &body);
    let project = teacher_fails(&server.endpoint(), &["refuses the key (401)", "[redacted]", "run.api_key"]);
    assert!(server.was_asked_with(KEY), "the key never travelled, so its absence would prove nothing");
    project.says(&["report", "-o", "report.html"]);
    for path in files(&project.path(".")) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|w| w == KEY.as_bytes()), "the key is in `{}`", path.display());
    }
}

#[test]
fn a_teacher_with_passing_faults_is_asked_again_and_then_named() {
    let cases = [
        (429, "{\"error\":{\"message\":\"slow down\"}}", vec!["429: slow down", "2 tries", "run.requests_per_minute"]),
        (500, "oops", vec!["500: oops", "2 tries", "run again"]),
        (200, "<html>", vec!["sends no chat completion", "is `with.endpoint` an OpenAI-compatible server?"]),
    ];
    for (status, body, words) in cases {
        teacher_fails(&Server::answers(status, body).endpoint(), &words);
    }
}

#[test]
fn a_teacher_that_hangs_up_or_is_not_there_is_named() {
    let server = Server::hangs_up();
    teacher_fails(&server.endpoint(), &["breaks the connection", "2 tries"]);
    let gone = Server::address_of_nobody();
    teacher_fails(&gone, &["cannot be reached", "run again once the server is well"]);
}

#[test]
fn a_missing_key_names_its_variable() {
    let project = of_teacher("http://127.0.0.1:9/v1");
    let command = || {
        let mut command = project.command(&["run", "--format", "json"]);
        command.env_remove("TEACHER_KEY");
        command
    };
    fails_with(&command, "labels", 1, &["`run.api_key`", "`TEACHER_KEY`", "export it"], &["rows"]);
}

/// A file system of 1 MB, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: PathBuf) -> Option<SmallDisk> {
        std::fs::create_dir_all(&place).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&place).output();
        if !mount.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: this user may not mount a small disk");
            return None;
        }
        Some(SmallDisk(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

/// Runs a stage that writes 3 MB on a disk of 1 MB.
fn fills_the_disk(big: &str) {
    let project = Project::new(&format!(
        "stages:\n  small: {{use: command, with: {{shell: 'echo 1 > $OUT_out'}}}}\n  big: {{{big}}}\n"
    ));
    let Some(disk) = SmallDisk::mount(project.path("disk")) else { return };
    let place = disk.0.to_str().unwrap().to_string();
    let command = || project.command(&["run", "--keep-going", "--format", "json", "--cache", &place]);
    fails_with(&command, "big", 6, &[&place, "free some space"], &["small"]);
    // With room the finished stage is still there.
    let remount = Command::new("mount").args(["-o", "remount,size=30m"]).arg(&disk.0).status().unwrap();
    assert!(remount.success());
    let mended = Ran::of(&command().output().unwrap());
    assert_eq!(
        (mended.code, mended.outcome("ran"), mended.outcome("hit")),
        (0, vec!["big".into()], vec!["small".into()])
    );
}

#[test]
fn a_command_on_a_full_disk_is_the_environments_fault() {
    fills_the_disk("use: command, in: {x: small}, with: {shell: 'head -c 3000000 /dev/zero > $OUT_out'}");
}

#[test]
fn a_built_in_kind_on_a_full_disk_is_the_environments_fault() {
    fills_the_disk("use: synthetic, with: {customers: 3000, items: 3000}");
}
