//! The store: damage is found before use and repaired; outputs come out as ordinary files.

use std::os::unix::fs::PermissionsExt;

use crate::project::of_four_stages;

#[test]
fn a_missing_blob_is_a_miss() {
    let project = of_four_stages();
    project.run(&[]);
    let before = project.blobs();
    for blob in &before {
        std::fs::remove_file(blob).unwrap();
    }
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.outcome("ran"), ["large", "parts", "rows", "small"]);
    assert_eq!(ran.reasons("rows"), ["an output is missing from the store or damaged"]);
    assert_eq!(project.blobs(), before);
}

#[test]
fn a_damaged_blob_is_found_before_a_stage_reads_it_and_made_again() {
    let project = of_four_stages();
    project.run(&[]);
    let before = project.blobs();
    for blob in &before {
        let mut bytes = std::fs::read(blob).unwrap();
        let Some(last) = bytes.last_mut() else { continue };
        *last ^= 1;
        std::fs::set_permissions(blob, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(blob, bytes).unwrap();
    }
    let ran = project.run(&["--set", "large.val=9"]);
    assert_eq!(ran.code, 0);
    assert!(ran.outcome("ran").contains(&"parts".to_string()), "{:?}", ran.events);
    let clean = of_four_stages();
    clean.run(&["--set", "large.val=9"]);
    let get = |p: &crate::project::Project| p.says(&["get", "large.val", "--set", "large.val=9", "-o", "-"]);
    assert_eq!(get(&project), get(&clean));
}

#[test]
fn a_torn_record_is_a_miss() {
    let project = of_four_stages();
    project.run(&[]);
    for record in project.records() {
        let bytes = std::fs::read(&record).unwrap();
        std::fs::set_permissions(&record, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(project.run(&[]).outcome("ran"), ["large", "parts", "rows", "small"]);
}

#[test]
fn losing_the_index_loses_nothing_but_time() {
    let project = of_four_stages();
    project.run(&[]);
    std::fs::remove_dir_all(project.store().join("index")).unwrap();
    assert_eq!(project.run(&[]).outcome("ran").len(), 0);
}

#[test]
fn get_copies_an_output_as_an_ordinary_file() {
    let project = of_four_stages();
    project.run(&[]);
    project.says(&["get", "parts.val", "-o", "val.jsonl"]);
    let mode = std::fs::metadata(project.path("val.jsonl")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644);
    assert_eq!(std::fs::read_to_string(project.path("val.jsonl")).unwrap().lines().count(), 6);
    assert_eq!(project.says(&["get", "rows", "-o", "-"]).lines().count(), 40);
    let several = project.watershed(&["get", "parts", "-o", "x"]);
    assert_eq!(several.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&several.stderr).contains("`parts.test` or `parts.train` or `parts.val`"));
}

#[test]
fn the_users_own_files_are_only_read() {
    let project = of_four_stages();
    let path = project.path("data.jsonl");
    let before = std::fs::metadata(&path).unwrap();
    project.run(&[]);
    let after = std::fs::metadata(&path).unwrap();
    use std::os::unix::fs::MetadataExt;
    let stat = |m: &std::fs::Metadata| (m.ino(), m.nlink(), m.mode(), m.mtime(), m.ctime());
    assert_eq!(stat(&before), stat(&after));
}

#[test]
fn one_store_serves_two_projects() {
    let (one, two) = (of_four_stages(), of_four_stages());
    let store = tempfile::tempdir().unwrap();
    let cache = store.path().to_str().unwrap();
    one.run(&["--cache", cache]);
    assert_eq!(two.run(&["--cache", cache]).outcome("hit").len(), 4);
}

#[test]
fn a_store_of_a_newer_version_is_refused_in_words() {
    let project = of_four_stages();
    project.write(".watershed/layout", "v9\n");
    let output = project.watershed(&["plan"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("use a newer watershed"));
}
