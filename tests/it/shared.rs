//! A store in a folder that two Unix users of one group share.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;

use crate::project::{Project, Ran, files, of_four_stages};

const GROUP: u32 = 47_110;

/// Runs `watershed` as a user of the group with the usual umask.
pub fn run_as(project: &Project, user: u32, store: &Path, arguments: &[&str]) -> Output {
    let mut all = arguments.to_vec();
    all.extend(["--cache", store.to_str().unwrap()]);
    let mut command = project.command(&all);
    command.uid(user).gid(GROUP).env("HOME", "/nonexistent");
    command.output().unwrap()
}

fn give_to(path: &Path, user: u32) {
    chown(path, Some(user), Some(GROUP)).unwrap();
    for item in std::fs::read_dir(path).unwrap().flatten() {
        chown(item.path(), Some(user), Some(GROUP)).unwrap();
    }
}

#[test]
fn two_users_of_a_group_share_one_store() {
    // SAFETY: asks for the user's number only.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root may run programs as two other users");
        return;
    }
    let store = tempfile::tempdir().unwrap();
    chown(store.path(), Some(47_111), Some(GROUP)).unwrap();
    std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o2775)).unwrap();
    let (ann, bob) = (47_111, 47_112);
    let projects = [of_four_stages(), of_four_stages()];
    give_to(&projects[0].path(""), ann);
    give_to(&projects[1].path(""), bob);
    let run = |project: &Project, user, arguments: &[&str]| {
        let output = run_as(project, user, store.path(), &[&["run", "--format", "json"], arguments].concat());
        let ran = Ran::of(&output);
        assert_eq!(
            ran.code,
            0,
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ran
    };
    assert_eq!(run(&projects[0], ann, &[]).outcome("ran").len(), 4);
    assert_eq!(run(&projects[1], bob, &[]).outcome("hit").len(), 4);
    assert_eq!(run(&projects[1], bob, &["--set", "large.val=9"]).outcome("ran"), ["large"]);
    assert_eq!(run(&projects[0], ann, &["--set", "large.val=9"]).outcome("hit").len(), 4);
    let blobs = files(&store.path().join("v1/cas"));
    assert!(blobs.iter().all(|blob| std::fs::metadata(blob).unwrap().mode() & 0o777 == 0o444));
    // What one user's disk damaged, the other's run repairs.
    crate::project::replace(&files(&store.path().join("v1/ac"))[0], b"torn");
    assert_eq!(run(&projects[1], bob, &["--set", "large.val=9"]).code, 0);
    let freed = run_as(&projects[1], bob, store.path(), &["cache", "gc", "--keep", "1", "--apply"]);
    assert!(freed.status.success(), "{}", String::from_utf8_lossy(&freed.stderr));
}
