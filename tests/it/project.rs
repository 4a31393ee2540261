//! A project in a temporary folder, and `watershed` run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A project that is removed when dropped.
pub struct Project {
    folder: tempfile::TempDir,
}

/// What a run did.
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Its events.
    pub events: Vec<Value>,
}

impl Project {
    /// Makes a project with this pipeline.
    pub fn new(pipeline: &str) -> Project {
        let project = Project { folder: tempfile::tempdir().unwrap() };
        project.write("watershed.root", "");
        project.write("watershed.yaml", pipeline);
        project
    }

    /// Makes a project as `init --template` does.
    pub fn of_template(template: &str) -> Project {
        let project = Project::new("");
        std::fs::remove_file(project.path("watershed.yaml")).unwrap();
        project.says(&["init", "--template", template]);
        project
    }

    /// Returns the path of a file in the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Replaces text in the pipeline, which must be there.
    pub fn edit(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.path("watershed.yaml")).unwrap();
        assert!(text.contains(old), "`{old}` is not in the pipeline");
        self.write("watershed.yaml", &text.replace(old, new));
    }

    /// Returns a command ready to run in the project.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watershed"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("WATERSHED_CACHE").env("NO_COLOR", "1");
        command.env_remove("CUDA_VISIBLE_DEVICES").env("WATERSHED_BACKOFF", "0.02");
        command
    }

    /// Runs `watershed`.
    pub fn watershed(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs `watershed` and returns its stdout; the exit code must be 0.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.watershed(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?} ended with {}:\n{out}{err}", output.status);
        out.into_owned()
    }

    /// Runs the pipeline.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["run", "--format", "json"];
        all.extend(arguments);
        Ran::of(&self.watershed(&all))
    }

    /// Returns the plan as JSON.
    pub fn plan(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["plan", "--format", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.says(&all)).unwrap()
    }

    /// Returns the folder of the store.
    pub fn store(&self) -> PathBuf {
        self.path(".watershed")
    }

    /// Returns the records of the store, sorted: one for each finished action, none of those that a kill left half-written.
    pub fn records(&self) -> Vec<PathBuf> {
        let is_whole = |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('.');
        files(&self.store().join("v1/ac")).into_iter().filter(is_whole).collect()
    }

    /// Returns the blobs of the store, sorted.
    pub fn blobs(&self) -> Vec<PathBuf> {
        files(&self.store().join("v1/cas"))
    }
}

impl Ran {
    /// Reads the events that a run printed.
    pub fn of(output: &Output) -> Ran {
        let text = String::from_utf8_lossy(&output.stdout);
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ran { code: output.status.code().unwrap_or(-1), events }
    }

    /// Returns the titles of the nodes that ended so, sorted.
    pub fn outcome(&self, outcome: &str) -> Vec<String> {
        let finished = self.events.iter().filter(|e| e["event"] == "stage_finished" && e["outcome"] == outcome);
        let mut titles: Vec<String> = finished.map(title).collect();
        titles.sort();
        titles
    }

    /// Returns the texts of the reasons for which a stage ran.
    pub fn reasons(&self, stage: &str) -> Vec<String> {
        let finished = self.events.iter().find(|e| e["event"] == "stage_finished" && e["stage"] == stage).unwrap();
        let reasons = finished["reasons"].as_array().unwrap();
        reasons.iter().map(|r| r["text"].as_str().unwrap().to_string()).collect()
    }

    /// Returns the error of a failed stage.
    pub fn error(&self, stage: &str) -> String {
        let finished = self.events.iter().find(|e| e["event"] == "stage_finished" && e["stage"] == stage).unwrap();
        finished["error"].as_str().unwrap_or_default().to_string()
    }
}

/// Says whether the worker program was built, with a visible skip.
pub fn has_worker() -> bool {
    let found = Path::new(env!("CARGO_BIN_EXE_watershed")).with_file_name("watershed-torch").is_file();
    if !found {
        eprintln!("skipped: `watershed-torch` is not built");
    }
    found
}

fn title(event: &Value) -> String {
    let stage = event["stage"].as_str().unwrap();
    event["case"].as_str().map_or_else(|| stage.to_string(), |case| format!("{stage}@{case}"))
}

/// Returns all files below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = item.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Flips one bit of a file, which may be read-only.
pub fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let place = bit / 8 % bytes.len();
    bytes[place] ^= 1 << (bit % 8);
    replace(path, &bytes);
}

/// Writes other bytes into a file of the store, which is read-only.
pub fn replace(path: &Path, bytes: &[u8]) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Rows enough to split, one JSON object a line.
pub fn rows(count: usize) -> String {
    (0..count).map(|i| format!("{{\"prompt\": \"What is {i}?\", \"completion\": \"It is {i}.\"}}\n")).collect()
}

/// A project of four light stages: `rows -> parts -> (small, large)`.
pub fn of_four_stages() -> Project {
    let project = Project::new(
        "name: four
params: {seed: 1}
stages:
  rows:  {use: examples, in: {files: ./data.jsonl}}
  parts: {use: split, in: rows, with: {val: 6, test: 4, seed: \"${params.seed}\"}}
  small: {use: split, in: parts.val, with: {val: 2}}
  large: {use: split, in: parts.train, with: {val: 5}}
",
    );
    project.write("data.jsonl", &rows(40));
    project
}
