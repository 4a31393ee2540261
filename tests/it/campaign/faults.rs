//! EIO, ENOSPC and SIGKILL at every system call by which a run or a gc changes the disk, injected by strace.
//!
//! strace counts calls per thread, so the n-th of a name fails in each thread that comes so far; a kill takes the first.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use super::{Numbers, assert_recovers, is_full, results};
use crate::cache::document;
use crate::project::{Project, files, of_four_stages};

/// System calls that change the disk; `?` lets strace pass over one that this machine does not have.
const CALLS: [&str; 15] = [
    "write",
    "pwrite64",
    "openat",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "chmod",
    "fchmod",
    "fsync",
    "fdatasync",
];
const FAULTS: [&str; 3] = ["error=EIO", "error=ENOSPC", "signal=KILL"];

pub fn has_strace() -> bool {
    let there = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: no strace that may trace is on this machine, so no faults were injected");
    }
    there
}

pub fn strace(project: &Project, options: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(env!("CARGO_BIN_EXE_watershed")).args(arguments);
    command.current_dir(project.path("")).env_remove("WATERSHED_CACHE").env("NO_COLOR", "1").output().unwrap()
}

/// Counts how often the busiest thread makes each call.
fn counts(project: &Project, calls: &[&'static str], arguments: &[&str]) -> BTreeMap<&'static str, usize> {
    let trace = project.path("trace");
    let set = format!("trace={}", calls.iter().map(|call| format!("?{call}")).collect::<Vec<_>>().join(","));
    let output = strace(project, &["-o", trace.to_str().unwrap(), "-e", &set], arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut threads: BTreeMap<(&str, &'static str), usize> = BTreeMap::new();
    let text = std::fs::read_to_string(&trace).unwrap();
    for line in text.lines().filter(|line| !line.contains("resumed>")) {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        let Some(call) = calls.iter().find(|call| **call == name) else { continue };
        *threads.entry((thread, call)).or_default() += 1;
    }
    let mut counts = BTreeMap::new();
    for ((_, call), count) in threads {
        let most = counts.entry(call).or_default();
        *most = count.max(*most);
    }
    counts
}

/// Every fault at every call, or a seeded twentieth of them.
fn cases(counts: &BTreeMap<&'static str, usize>, seed: u64) -> Vec<String> {
    let mut numbers = Numbers(seed);
    let all = counts.iter().flat_map(|(call, count)| (1..=*count).map(move |n| (*call, n)));
    let all = all.flat_map(|(call, n)| FAULTS.map(|fault| format!("inject={call}:{fault}:when={n}")));
    all.filter(|_| is_full() || numbers.below(20) == 0).collect()
}

fn inject(project: &Project, case: &str, arguments: &[&str]) {
    let output = strace(project, &["-o", "/dev/null", "-e", case], arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("panicked"), "{case}: {told}");
}

fn campaign_of_runs(make: &dyn Fn() -> Project, calls: &[&'static str], seed: u64) -> usize {
    let quiet = make();
    let counts = counts(&quiet, calls, &["run", "-q"]);
    let quiet = results(&quiet);
    let cases = cases(&counts, seed);
    for case in &cases {
        let project = make();
        inject(&project, case, &["run", "-q"]);
        assert_recovers(&project, &quiet, case);
    }
    cases.len()
}

#[test]
fn faults_at_every_write_of_a_run_cost_only_unfinished_work() {
    if !has_strace() {
        return;
    }
    let begun = Instant::now();
    let count = campaign_of_runs(&of_four_stages, &CALLS, 4);
    eprintln!("campaign: {count} faults in runs, {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn faults_while_a_long_stage_is_synced_cost_only_that_stage() {
    if !has_strace() {
        return;
    }
    let shell = "sleep 1; echo kept > $OUT_out";
    let make = || Project::new(&format!("stages:\n  long: {{use: command, with: {{shell: '{shell}'}}}}\n"));
    let begun = Instant::now();
    let count = campaign_of_runs(&make, &["fsync", "fdatasync", "rename", "fchmod", "chmod"], 5);
    eprintln!("campaign: {count} faults while syncing, {:.1} s", begun.elapsed().as_secs_f64());
}

/// Names of the files in the store, without what differs between two stores.
fn held(project: &Project) -> Vec<std::path::PathBuf> {
    let root = project.store().join("v1");
    let rooms = ["cas", "tree", "ac"].map(|room| files(&root.join(room)));
    let inside = |path: &std::path::PathBuf| path.strip_prefix(&root).unwrap_or(Path::new("")).to_path_buf();
    rooms.iter().flatten().map(inside).collect()
}

fn of_garbage() -> Project {
    let project = of_four_stages();
    project.run(&["--set", "params.seed=2"]);
    project.run(&[]);
    project
}

#[test]
fn faults_at_every_step_of_a_gc_lose_nothing_that_is_kept() {
    if !has_strace() {
        return;
    }
    let (begun, arguments) = (Instant::now(), ["cache", "gc", "--keep", "1", "--apply"]);
    let quiet = of_garbage();
    let counts = counts(&quiet, &CALLS, &arguments);
    let (held_when_quiet, quiet) = (held(&quiet), results(&quiet));
    let cases = cases(&counts, 6);
    for case in &cases {
        let project = of_garbage();
        inject(&project, case, &arguments);
        let verified = project.watershed(&["cache", "verify", "--read-data"]);
        assert!(verified.status.success(), "{case}: {}", String::from_utf8_lossy(&verified.stdout));
        assert_eq!(project.run(&[]).outcome("hit").len(), 4, "{case}");
        document(&project, &["gc", "--keep", "1", "--apply"], 0);
        assert_eq!((held(&project), results(&project)), (held_when_quiet.clone(), quiet.clone()), "{case}");
        assert_eq!(files(&project.store().join("trash")).len(), 0, "{case}");
    }
    eprintln!("campaign: {} faults in gc, {:.1} s", cases.len(), begun.elapsed().as_secs_f64());
}
