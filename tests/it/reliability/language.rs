//! The language and the command line under faults: rows 15, 17, 18, 23, 24 and 45.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::project::{Project, files, of_four_stages, rows};

/// Longest that a refusal may take in a test. Measured: 5 to 60 ms; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(2);

/// Address space that a refusal makes do with, in bytes. The resident memory that `wait4` tells would count this process too.
const MEMORY: u64 = 64 << 20;

fn told(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Returns code, line and column of the faults of a pipeline.
fn faults(project: &Project, pipeline: &str) -> Vec<(String, Option<u64>, Option<u64>)> {
    project.write("watershed.yaml", pipeline);
    let output = project.watershed(&["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let place =
        |fault: &Value| (fault["code"].as_str().unwrap().to_string(), fault["line"].as_u64(), fault["column"].as_u64());
    document["errors"].as_array().unwrap().iter().map(place).collect()
}

fn reads(path: &str) -> String {
    format!("stages:\n  rows: {{use: examples, in: {{files: {path}}}}}\n")
}

/// Runs `check` with an address space of 64 MiB; returns its exit code and its time on a processor.
fn cramped_check(project: &Project) -> (Option<i32>, Duration) {
    let mut command = project.command(&["check"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let limit = libc::rlimit { rlim_cur: MEMORY, rlim_max: MEMORY };
    // SAFETY: setrlimit is safe to call between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setrlimit(libc::RLIMIT_AS, &limit) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    };
    #[expect(clippy::zombie_processes, reason = "wait4 below reaps it")]
    let child = command.spawn().unwrap();
    let mut status = 0;
    // SAFETY: a zeroed rusage is valid, wait4 fills it and the status; the child was not waited for before.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::wait4(child.id() as i32, &mut status, 0, &mut usage), child.id() as i32);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)), time(usage.ru_utime) + time(usage.ru_stime))
}

#[test]
fn row_15_odd_names_are_kept_apart_or_refused_and_never_merged() {
    let project = Project::new(
        "stages:
  made: {use: command, in: {all: ./folder}, with: {shell: 'cp -rL $IN_all $OUT_out'}}
",
    );
    for (name, text) in [("Row", "upper"), ("row", "lower"), ("e\u{301}", "two letters"), ("\u{e9}", "one letter")] {
        project.write(&format!("folder/{name}"), text);
    }
    assert_eq!(project.run(&[]).code, 0);
    project.says(&["get", "made", "-o", "copy"]);
    let names = |folder: &str| files(&project.path(folder)).iter().map(|f| f.file_name().unwrap().to_owned()).collect();
    let (before, after): (Vec<_>, Vec<_>) = (names("folder"), names("copy"));
    assert_eq!((before.len(), after), (4, before));
    let odd = project.path("folder").join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(odd, "latin").unwrap();
    let ran = project.run(&[]);
    assert_eq!(ran.code, 1);
    assert!(ran.error("made").contains("UTF-8"), "{}", ran.error("made"));
}

#[test]
fn row_17_paths_that_leave_the_project_are_refused_at_their_place() {
    let project = Project::new("");
    project.write("data.jsonl", &rows(4));
    std::os::unix::fs::symlink("/etc", project.path("etc")).unwrap();
    let long = format!("./{}", "long/".repeat(2000));
    let cases = [
        ("../../etc/passwd", "E022"),
        ("./x/../../etc/passwd", "E022"),
        ("/etc/passwd", "E022"),
        ("./etc/passwd", "E022"),
        ("~/data.jsonl", "E014"),
        ("~root", "E014"),
        ("'C:\\data.jsonl'", "E014"),
        ("'\\\\host\\data'", "E014"),
        ("\"./data\\0.jsonl\"", "E021"),
        ("./data.jsonl/x", "E021"),
        ("./CON", "E021"),
        (long.as_str(), "E021"),
    ];
    for (path, code) in cases {
        assert_eq!(faults(&project, &reads(path)), [(code.to_string(), Some(2), Some(37))], "{path:.40}");
    }
}

#[test]
fn row_18_devices_pipes_and_sockets_are_refused_without_blocking() {
    let project = Project::new("roots: {dev: /dev}\n");
    let pipe = CString::new(project.path("pipe").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends in a zero byte and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let _socket = UnixListener::bind(project.path("socket")).unwrap();
    for path in ["./pipe", "./socket", "dev:zero"] {
        let pipeline = format!("roots: {{dev: /dev}}\n{}", reads(path));
        assert_eq!(faults(&project, &pipeline), [("E023".to_string(), Some(3), Some(37))], "{path}");
    }
    // One inside a folder is met when the folder is hashed.
    project.write("folder/data.jsonl", &rows(4));
    std::fs::rename(project.path("pipe"), project.path("folder/pipe")).unwrap();
    project.write(
        "watershed.yaml",
        "stages:\n  all: {use: command, in: {x: ./folder}, with: {shell: 'ls $IN_x > $OUT_out'}}\n",
    );
    let ran = project.run(&[]);
    assert_eq!(ran.code, 1);
    assert!(ran.error("all").contains("neither a file nor a folder"), "{}", ran.error("all"));
}

/// Texts that are made to take time or room, and the codes of their faults.
fn hostile_texts() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let line = |(a, b): (char, char)| format!("{b}: &{b} [{}]\n", vec![format!("*{a}"); 9].join(","));
    let steps = "abcdefghi".chars().zip("bcdefghij".chars());
    let bomb = format!("a: &a [{}]\n{}", ["x"; 9].join(","), steps.map(line).collect::<String>());
    let stair: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let utf16: Vec<u8> = "stages: {}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let row = reads("./data.jsonl");
    vec![
        ("200,000 brackets", "[".repeat(200_000).into(), "E004"),
        ("200,000 maps", "{a: ".repeat(200_000).into(), "E004"),
        ("a stair of 2,000 maps", stair.into(), "E004"),
        ("an alias bomb", bomb.into(), "E004"),
        ("10 MiB", vec![b'#'; 10 << 20], "E004"),
        ("a key twice", format!("{row}{}", &row[8..]).into(), "E003"),
        ("tabs", row.replace("  rows", "\trows").into(), "E002"),
        ("a zero byte", row.replace("rows", "ro\0ws").into(), "E002"),
        ("UTF-16 with its mark", [&[0xff, 0xfe], utf16.as_slice()].concat(), "E001"),
        ("UTF-16", utf16, "E002"),
        ("a quote never closed over 3 MB", format!("name: \"{}", "x".repeat(3_000_000)).into(), "E002"),
    ]
}

#[test]
fn row_23_hostile_yaml_is_a_diagnostic_in_little_time_and_memory() {
    let project = Project::new("");
    project.write("data.jsonl", &rows(4));
    for (name, text, code) in hostile_texts() {
        std::fs::write(project.path("watershed.yaml"), text).unwrap();
        let output = project.watershed(&["check"]);
        assert!(told(&output).starts_with(&format!("error[{code}]: ")), "{name}: {}", told(&output));
        let (code, time) = cramped_check(&project);
        eprintln!("{name}: {} ms", time.as_millis());
        assert_eq!(code, Some(3), "{name}");
        assert!(time < PATIENCE, "{name}: {time:?}");
    }
}

#[test]
fn row_23_a_byte_order_mark_and_windows_line_ends_are_read() {
    let project = Project::new("");
    project.write("data.jsonl", &rows(4));
    let text = format!("\u{feff}{}", reads("./data.jsonl").replace('\n', "\r\n"));
    project.write("watershed.yaml", &text);
    project.says(&["check"]);
}

#[test]
fn row_24_interpolation_bombs_cycles_and_undeclared_environment_are_refused() {
    let project = Project::new("");
    project.write("data.jsonl", &rows(4));
    let uses = |name: &str| {
        format!("stages:\n  rows: {{use: examples, in: {{files: ./data.jsonl}}, with: {{system: \"${{{name}}}\"}}}}\n")
    };
    let double = |i: usize| format!("  p{i}: \"${{params.p{}}}${{params.p{}}}\"\n", i - 1, i - 1);
    let bomb = format!("params:\n  p0: xx\n{}{}", (1..60).map(double).collect::<String>(), uses("params.p59"));
    let cycle = format!("params: {{a: \"${{params.b}}\", b: \"x${{params.a}}\"}}\n{}", uses("params.a"));
    let cases = [(bomb, "E027"), (cycle.clone(), "E026"), (uses("env.HOME"), "E025"), (uses("env.PATH:-x"), "E025")];
    for (text, code) in cases {
        let found = faults(&project, &text);
        assert_eq!((found.len(), found[0].0.as_str()), (1, code), "{text:.60}");
        let (exit, time) = cramped_check(&project);
        assert!(exit == Some(3) && time < PATIENCE, "{code}: {exit:?} after {time:?}");
    }
    project.write("watershed.yaml", &cycle);
    assert!(told(&project.watershed(&["check"])).contains("a -> b -> a"));
    // What the environment holds is never read as a reference again.
    project.write("watershed.yaml", &format!("env: [WORDS]\nparams: {{secret: hidden}}\n{}", uses("env.WORDS")));
    let mut command = project.command(&["plan", "--format", "json"]);
    let output = command.env("WORDS", "${params.secret}").output().unwrap();
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["stages"][0]["with"]["system"], "${params.secret}");
}

/// Runs a shell line in the project, where `watershed` is the program.
fn shell(project: &Project, line: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_watershed");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("watershed() {{ {program} \"$@\"; }}; {line}")]).current_dir(project.path(""));
    command.env_remove("WATERSHED_CACHE").output().unwrap()
}

#[test]
fn row_45_a_closed_pipe_a_narrow_terminal_and_no_colour_change_no_outcome() {
    let project = of_four_stages();
    let closed =
        shell(&project, "watershed kinds | head -1; watershed run --format json | head -1; watershed plan >&-");
    told(&closed);
    assert_eq!(project.run(&[]).outcome("hit").len(), 4, "the closed pipe ended the run: {}", told(&closed));
    let full = shell(&project, "watershed plan > /dev/full");
    told(&full);
    for line in ["COLUMNS=20 watershed plan", "NO_COLOR=1 watershed plan", "TERM=dumb watershed show"] {
        let output = shell(&project, line);
        assert!(output.status.success() && !told(&output).contains('\u{1b}'), "{line}: {}", told(&output));
    }
}

#[test]
fn of_very_many_faults_the_first_thousand_are_told() {
    let project = Project::new("");
    let line = |number: usize| format!("  s{number}: {{use: synthetic, with: {{sed: 1}}}}\n");
    let pipeline = format!("stages:\n{}", (0..5000).map(line).collect::<String>());
    let told = faults(&project, &pipeline);
    assert_eq!((told.len(), &told[999]), (1000, &("E006".to_string(), Some(1001), Some(33))));
    let text = project.watershed(&["check"]).stderr;
    assert!(
        String::from_utf8(text)
            .unwrap()
            .ends_with("only the first 1000 faults are shown: mend these, then check again\n")
    );
}
