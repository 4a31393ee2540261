//! The store under faults: rows 1-9, 12-14, 16, 19 and 46. The campaign does rows 1-4 at every system call.

use std::os::unix::fs::MetadataExt;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::cache::{data_blobs, document};
use crate::campaign::faults::{has_strace, strace};
use crate::campaign::{assert_recovers, results};
use crate::project::{Project, Ran, files, flip, of_four_stages, replace};
use crate::shared::run_as;

fn told(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn under(project: &Project, case: &str, arguments: &[&str]) -> Output {
    strace(project, &["-o", "/dev/null", "-e", case], arguments)
}

fn quiet() -> std::collections::BTreeSet<(String, String, String)> {
    let project = of_four_stages();
    project.run(&[]);
    results(&project)
}

#[test]
fn row_01_a_kill_at_a_rename_of_publish_costs_one_action() {
    if !has_strace() {
        return;
    }
    for n in 1..=4 {
        let project = of_four_stages();
        under(&project, &format!("inject=rename,renameat,renameat2:signal=KILL:when={n}"), &["run", "-q"]);
        assert_recovers(&project, &quiet(), &format!("rename {n}"));
    }
}

#[test]
fn row_02_a_full_disk_is_exit_6_with_path_and_mend_and_the_store_stays_readable() {
    if !has_strace() {
        return;
    }
    for case in ["inject=mkdir:error=ENOSPC:when=2+", "inject=rename,renameat:error=ENOSPC:when=1+"] {
        let project = of_four_stages();
        let output = under(&project, case, &["run"]);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(6), "{case}: {text}");
        assert!(text.contains("free some space") && text.contains(".watershed"), "{case}: {text}");
        assert_recovers(&project, &quiet(), case);
    }
}

#[test]
fn row_03_a_blob_that_the_disk_cannot_read_is_made_again() {
    if !has_strace() {
        return;
    }
    let project = of_four_stages();
    project.run(&[]);
    let listed = document(&project, &["ls"], 0);
    let outputs = listed["results"].as_array().unwrap().iter().flat_map(|r| r["outputs"].as_array().unwrap());
    let train = outputs.filter(|o| o["port"] == "train").max_by_key(|o| o["bytes"].as_u64()).unwrap();
    let hex = train["digest"].as_str().unwrap();
    let blob = project.store().join("v1/cas").join(&hex[..2]).join(&hex[2..]);
    let options = ["-o", "/dev/null", "-P", blob.to_str().unwrap(), "-e", "inject=read:error=EIO"];
    let output = strace(&project, &options, &["get", "parts.train", "-o", "-"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0), "{}", told(&output));
    assert_eq!(project.run(&[]).outcome("ran"), ["parts"]);
    document(&project, &["verify", "--read-data"], 0);
}

#[test]
fn row_04_a_failed_sync_fails_the_publish_and_is_not_tried_again() {
    if !has_strace() {
        return;
    }
    let shell = "sleep 1; echo kept > $OUT_out";
    let project = Project::new(&format!("stages:\n  long: {{use: command, with: {{shell: '{shell}'}}}}\n"));
    let output = under(&project, "inject=fsync,fdatasync:error=EIO:when=1", &["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("cannot publish `"), "{}", told(&output));
    assert_eq!(project.records().len(), 0);
    assert_eq!(project.run(&[]).outcome("ran"), ["long"]);
}

#[test]
fn row_05_a_torn_write_is_found_when_it_is_read() {
    let project = of_four_stages();
    project.run(&[]);
    let quiet = results(&project);
    let torn: [fn(Vec<u8>) -> Vec<u8>; 3] = [
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |bytes| bytes.iter().enumerate().map(|(i, b)| if i < bytes.len() / 2 { *b } else { 0 }).collect(),
        |bytes| bytes.iter().rev().copied().collect(),
    ];
    for tear in torn {
        for blob in data_blobs(&project) {
            replace(&blob, &tear(std::fs::read(&blob).unwrap()));
            project.watershed(&["cache", "verify", "--read-data"]);
            assert_eq!(project.run(&[]).code, 0);
            assert_eq!(results(&project), quiet);
            document(&project, &["verify", "--read-data"], 0);
        }
    }
}

#[test]
fn row_06_a_flipped_bit_in_a_lock_or_a_log_changes_nothing() {
    let project = of_four_stages();
    project.run(&[]);
    for lock in files(&project.store().join("locks")) {
        std::fs::write(lock, "no state here").unwrap();
    }
    flip(&files(&project.store().join("v1/run"))[0], 4_567);
    assert_eq!(project.run(&[]).outcome("hit").len(), 4);
    assert!(project.says(&["runs"]).contains("four"));
    assert_eq!(project.run(&["--set", "large.val=9"]).outcome("ran"), ["large"]);
}

#[test]
fn row_07_interrupted_calls_are_repeated_and_too_few_descriptors_fail_cleanly() {
    let project = of_four_stages();
    let binary = env!("CARGO_BIN_EXE_watershed");
    let mut few = std::process::Command::new("sh");
    few.args(["-c", &format!("ulimit -n 6; exec {binary} run")]).current_dir(project.path(""));
    let output = few.env_remove("WATERSHED_CACHE").output().unwrap();
    assert!(!output.status.success(), "{}", told(&output));
    assert_recovers(&project, &quiet(), "six descriptors");
    if has_strace() {
        let project = of_four_stages();
        let output = under(&project, "inject=write:error=EINTR:when=2+3", &["run"]);
        assert!(output.status.success(), "{}", told(&output));
        assert_eq!(results(&project), quiet());
    }
}

#[test]
fn row_08_clocks_decide_nothing() {
    let project = of_four_stages();
    project.run(&[]);
    let year = Duration::from_secs(31_557_600);
    for then in [SystemTime::now() - 10 * year, SystemTime::now() + 10 * year] {
        let data = std::fs::File::options().append(true).open(project.path("data.jsonl")).unwrap();
        data.set_modified(then).unwrap();
        for blob in project.blobs() {
            std::fs::File::open(blob).unwrap().set_modified(then).unwrap();
        }
        assert_eq!(project.run(&[]).outcome("hit").len(), 4);
        assert_eq!(document(&project, &["gc", "--apply"], 0)["results"], 0);
    }
}

#[test]
fn row_09_an_edit_that_keeps_size_and_mtime_is_seen() {
    let project = of_four_stages();
    let path = project.path("data.jsonl");
    project.run(&[]);
    for word in ["Was", "Now"] {
        let before = std::fs::metadata(&path).unwrap();
        let old = std::fs::read_to_string(&path).unwrap();
        let new = old.replacen(&old[12..15], word, 1);
        assert_eq!((old.len(), old != new), (new.len(), true));
        std::fs::write(&path, new).unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!((before.size(), before.mtime_nsec()), (after.size(), after.mtime_nsec()));
        assert!(project.run(&[]).outcome("ran").contains(&"rows".to_string()));
    }
}

#[test]
fn row_12_gc_beside_a_run_takes_nothing_from_it() {
    let project = Project::new(
        "stages:
  a: {use: command, with: {shell: 'sleep 0.4; echo 1 > $OUT_out'}}
  b: {use: command, in: {x: a}, with: {shell: 'sleep 0.4; cat $IN_x > $OUT_out'}}
  c: {use: command, in: {x: b}, with: {shell: 'sleep 0.4; (cat $IN_x; echo 2) > $OUT_out'}}
  d: {use: command, in: {x: c, y: a}, with: {shell: 'cat $IN_x $IN_y > $OUT_out'}}
",
    );
    let mut command = project.command(&["run", "--format", "json"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    // The run takes 1.2 s: once it has ended, keeping no run would free its results, and rightly.
    while begun.elapsed() < Duration::from_millis(600) {
        document(&project, &["gc", "--keep", "0", "--apply"], 0);
    }
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.outcome("ran").len()), (0, 4));
    assert_eq!(project.says(&["get", "d", "-o", "-"]), "1\n2\n1\n");
    assert_eq!(project.run(&["--frozen"]).code, 0);
}

#[test]
fn row_13_a_store_that_may_only_be_read_serves_hits_and_refuses_to_run_in_words() {
    // SAFETY: asks for the user's number only.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root may run a program as a user who may not write here");
        return;
    }
    let project = of_four_stages();
    project.run(&[]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.path(""), mode).unwrap();
    let stranger = |arguments: &[&str]| run_as(&project, 47_113, &project.store(), arguments);
    let plan: serde_json::Value = serde_json::from_slice(&stranger(&["plan", "--format", "json"]).stdout).unwrap();
    assert!(plan["stages"].as_array().unwrap().iter().all(|stage| stage["state"] == "hit"), "{plan}");
    assert_eq!(String::from_utf8_lossy(&stranger(&["get", "rows", "-o", "-"]).stdout).lines().count(), 40);
    let output = stranger(&["run"]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(6), "{text}");
    assert!(text.contains("Permission denied") && text.contains("check the folder's permissions"), "{text}");
}

#[test]
fn row_14_a_file_system_without_locks_is_refused_in_words() {
    if !has_strace() {
        return;
    }
    let project = of_four_stages();
    let output = under(&project, "inject=flock:error=ENOLCK", &["run"]);
    assert!(!output.status.success());
    assert!(told(&output).contains("cannot lock `"), "{}", told(&output));
    assert_recovers(&project, &quiet(), "no locks");
}

#[test]
fn row_16_a_link_in_an_output_is_refused() {
    for shell in ["ln -s /etc/passwd $OUT_out", "ln -s ../../../in $OUT_out"] {
        let project = Project::new(&format!("stages:\n  a: {{use: command, with: {{shell: '{shell}'}}}}\n"));
        let ran = project.run(&[]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.error("a").contains("is neither a file nor a folder") || ran.error("a").contains("link"),
            "{}",
            ran.error("a")
        );
        assert_eq!(project.records().len(), 0);
    }
}

#[test]
fn row_19_a_hostile_record_is_no_hit_and_does_no_harm() {
    let project = of_four_stages();
    project.run(&[]);
    let quiet = results(&project);
    let digest = "0".repeat(64);
    let many = (0..50_000).map(|i| format!("\"p{i}\":{{\"artifact\":{{\"digest\":\"{digest}\",\"size\":1}}}}"));
    let record = |outputs: &str| format!("{{\"record_version\":1,\"outputs\":{{{outputs}}},\"detail\":null}}");
    let output = |size: &str, more: &str| {
        format!("\"train\":{{\"artifact\":{{\"digest\":\"{digest}\",\"size\":{size}{more}}}}}")
    };
    let hostile = [
        "{}".to_string(),
        "[".repeat(100_000),
        record(""),
        record(&output("18446744073709551615", "")),
        record(&output("-1", "")),
        record(&output("1e400", "")),
        record(&output("1", ",\"folder\":true")),
        record(&output("1", "").replace(&digest, "../../../../etc/passwd")),
        record(&many.collect::<Vec<_>>().join(",")),
    ];
    for body in hostile {
        for path in project.records() {
            replace(&path, format!("{body}\n{}\n", blake3::hash(body.as_bytes()).to_hex()).as_bytes());
        }
        let output = project.watershed(&["run"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(results(&project), quiet, "{}", &body[..body.len().min(80)]);
        told(&project.watershed(&["cache", "verify"]));
    }
}

#[test]
fn row_46_the_older_of_two_versions_refuses_the_newer_in_words() {
    let project = of_four_stages();
    project.run(&[]);
    replace(&project.path(".watershed/layout"), b"v2\n");
    for arguments in [&["run"][..], &["plan"], &["cache", "gc", "--apply"], &["cache", "verify"], &["runs"]] {
        let output = project.watershed(arguments);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {text}");
        assert!(text.contains("has layout v2, this program reads layout v1; use a newer watershed"), "{text}");
    }
}
