//! The kind as a whole, with the shell of this machine.

use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};
use watershed_engine::job::{Cancel, JobEvent, Limits, Sink};
use watershed_engine::{Job, JobInput, JobSpec, Kind, RecordType, StageError};

use super::Command;

#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    cancel: Cancel,
}

impl Sink for Heard {
    fn emit(&self, event: JobEvent) {
        if let JobEvent::Log { text, .. } = event {
            if text == "cancel me" {
                self.cancel.cancel();
            }
            self.lines.lock().unwrap().push(text);
        }
    }
}

fn spec(with: Value, folder: &Path) -> JobSpec {
    let kind = Kind::of::<Command>();
    let params = (kind.resolve)(&with).unwrap();
    assert_eq!((kind.check)(&params), vec![]);
    let mut spec = JobSpec { kind: kind.name.into(), seed: 7, folder: "/project".into(), ..JobSpec::default() };
    spec.scratch = folder.join(".scratch");
    for port in (kind.ports)(&params).outputs {
        spec.outputs.insert(port.name.to_string(), folder.join(port.name.as_ref()));
    }
    spec.params = params;
    spec.limits = Limits { cpus: 3, gpus: vec![1, 2], ..Limits::default() };
    spec
}

fn input(path: &Path) -> JobInput {
    JobInput { label: "x".into(), path: path.into(), digest: String::new(), record: RecordType::Bytes, gathered: false }
}

fn run(spec: JobSpec) -> (Result<(), StageError>, Vec<String>) {
    let heard = Heard::default();
    let result = (Kind::of::<Command>().run)(&Job::new(spec, &heard, heard.cancel.clone()));
    (result, heard.lines.into_inner().unwrap())
}

fn output(with: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    run(spec(with, folder.path())).0.unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "only the output and the private folder are there"
    );
    std::fs::read_to_string(folder.path().join("out")).unwrap()
}

fn fault(with: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    run(spec(with, folder.path())).0.unwrap_err().to_string()
}

#[test]
fn environment_holds_what_is_listed_and_nothing_else() {
    // SAFETY: no other thread of this test program reads or writes this variable.
    unsafe { std::env::set_var("WATERSHED_PASSED", "yes") };
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(json!({"argv": ["sh", "-c", "env > $OUT_out"], "env": {"N": 4, "FLAG": true}}), folder.path());
    spec.run = json!({"pass_env": ["WATERSHED_PASSED"], "path": ["./bin"]});
    run(spec).0.unwrap();
    let text = std::fs::read_to_string(folder.path().join("out")).unwrap();
    let own_of_sh = ["PWD", "OLDPWD", "SHLVL", "_"];
    let mut names: Vec<&str> =
        text.lines().map(|l| l.split_once('=').unwrap().0).filter(|n| !own_of_sh.contains(n)).collect();
    names.sort_unstable();
    let threads = ["MKL_NUM_THREADS", "N", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"];
    let mut wanted = vec!["CUDA_VISIBLE_DEVICES", "FLAG", "HOME", "LANG", "OUT_out", "PATH", "PYTHONDONTWRITEBYTECODE"];
    wanted.extend(threads);
    wanted.extend(["RAYON_NUM_THREADS", "TMPDIR", "VECLIB_MAXIMUM_THREADS", "WATERSHED_PASSED", "WATERSHED_SEED"]);
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    for line in
        ["N=4", "FLAG=true", "OMP_NUM_THREADS=3", "CUDA_VISIBLE_DEVICES=1,2", "WATERSHED_SEED=7", "LANG=C.UTF-8"]
    {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(text.contains("PATH=/project/bin:"), "{text}");
}

#[test]
fn current_folder_is_private_and_empty() {
    assert_eq!(output(json!({"shell": "ls -A > ${out.out}; touch junk; ls -A \"$HOME\" \"$TMPDIR\" >/dev/null"})), "");
}

#[test]
fn inputs_keep_their_suffixes_and_places_are_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("reviews.csv.gz");
    std::fs::write(&data, "42").unwrap();
    let shell = "x=1; cat \"${in.data}\" > \"${out.out}\"; echo \" ${x} ${IN_data##*/}\" >> \"$OUT_out\"";
    let mut spec = spec(json!({"shell": shell}), folder.path());
    spec.inputs.insert("data".into(), vec![input(&data)]);
    run(spec).0.unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("out")).unwrap(), "42 1 data.csv.gz\n");
}

#[test]
fn failing_command_shows_its_last_lines() {
    let text = fault(json!({"shell": "echo before; echo 'no such column' >&2; exit 3"}));
    assert_eq!(text, "the command ended with exit code 3; its last lines:\n  before\n  no such column");
    assert!(fault(json!({"shell": "kill -9 $$"})).contains("killed by signal 9"));
}

#[test]
fn missing_output_and_missing_program_are_named() {
    assert!(
        fault(json!({"shell": "true", "out": ["table"]}))
            .contains("wrote no output `table`: it belongs at `$OUT_table`")
    );
    let folder = tempfile::tempdir().unwrap();
    let (result, _) = run(spec(json!({"argv": ["no-such-program-here"]}), folder.path()));
    assert!(matches!(result, Err(StageError::Environment(text)) if text.contains("`no-such-program-here`")));
}

#[test]
fn metrics_must_be_numbers() {
    let with = |json: &str| json!({"shell": format!("echo '{json}' > $OUT_m"), "out": {"m": "metrics"}});
    assert!(fault(with(r#"{"a": "high"}"#)).contains("its `a` is no number"));
    let folder = tempfile::tempdir().unwrap();
    run(spec(with(r#"{"a": 1.5}"#), folder.path())).0.unwrap();
}

#[test]
fn lines_of_both_streams_reach_the_log_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (_, lines) = run(spec(json!({"shell": "echo a; echo b >&2; printf c", "out": []}), folder.path()));
    assert_eq!(lines, ["a", "b", "c"]);
}

#[test]
fn cancelled_command_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let (result, _) = run(spec(json!({"shell": "echo cancel me; sleep 1000"}), folder.path()));
    assert!(matches!(result, Err(StageError::Cancelled)));
    assert!(started.elapsed().as_secs() < 9, "the polite signal was enough");
}

#[test]
fn daemon_left_behind_does_not_outlive_its_stage() {
    let pid = output(json!({"shell": "sleep 1000 & echo $! > $OUT_out"}));
    super::child::tests::expect_gone(pid.trim());
}

#[test]
fn faults_of_parameters_are_told_together() {
    let kind = Kind::of::<Command>();
    let with = json!({"argv": [], "shell": "${out.x}", "out": {"a-b": "bytes", "a_b": "csv"}, "env": {"IN_x": 1, "1a": []}, "tools": {"python": []}});
    let faults = (kind.check)(&(kind.resolve)(&with).unwrap());
    let paths: Vec<&str> = faults.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["argv", "out", "out.a_b", "env.1a", "env.1a", "env.IN_x", "shell", "tools.python"]);
}

#[test]
fn spellings_of_the_same_outputs_are_one() {
    let out =
        |out: Value| (Kind::of::<Command>().resolve)(&json!({"shell": "true", "out": out})).unwrap()["out"].clone();
    assert_eq!(out(json!({"out": "bytes"})), (Kind::of::<Command>().defaults)()["out"]);
    assert_eq!(out(json!({"b": "bytes", "a": "bytes"})), out(json!(["b", "a"])));
    assert_eq!(out(json!({"a": "csv", "b": "bytes"})), json!({"a": "csv", "b": "bytes"}));
}

#[test]
fn script_without_version_is_a_lint() {
    let kind = Kind::of::<Command>();
    let lints = |with| (kind.preview)(&(kind.resolve)(&with).unwrap(), &Default::default()).unwrap().lints;
    assert_eq!(lints(json!({"shell": "python3 x.py"}))[0].code, "L010");
    assert!(lints(json!({"shell": "python3 x.py", "tools": {"python": ["python3", "-V"]}})).is_empty());
    assert!(lints(json!({"shell": "wc -l"})).is_empty());
}

/// Prints what a trivial stage costs; `cargo test --release -p watershed-stages --lib trivial -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn thousand_trivial_commands() {
    let folder = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    for n in 0..1000 {
        let own = folder.path().join(n.to_string());
        std::fs::create_dir(&own).unwrap();
        run(spec(json!({"shell": "echo x > $OUT_out"}), &own)).0.unwrap();
    }
    eprintln!("1000 commands: {:?}", started.elapsed());
    let started = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(std::process::Command::new("/bin/sh").args(["-c", "echo x > /dev/null"]).status().unwrap().success());
    }
    eprintln!("1000 bare shells: {:?}", started.elapsed());
}
