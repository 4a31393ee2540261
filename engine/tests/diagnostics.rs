//! Golden diagnostics: `golden/diagnostics/NAME.yaml` is loaded and gives exactly the text of `NAME.txt`.
//!
//! Comments at the top of a pipeline say how it is loaded: `# set: path=value`, `# sweep: NAME`, `# cases: GLOB`.
//! `WATERSHED_BLESS=1` writes the texts anew; what changed is then read in the diff.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use watershed_engine::language::{LoadRequest, load};

mod common;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/diagnostics")
}

/// Loads a golden pipeline; folders of this machine are masked.
fn shown(file: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
    let option = |name: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(&format!("# {name}: "))).map(str::to_string).collect()
    };
    let mut request = LoadRequest::new(file);
    request.env = |name| (name == "WATERSHED_TEST_SET").then(|| "value".to_string());
    (request.overrides, request.check_all) = (option("set"), true);
    (request.sweep, request.cases) = (option("sweep").pop(), option("cases").pop());
    let shown = match load(&request, &common::kinds()) {
        Ok(_) => "no faults\n".to_string(),
        Err(faults) => faults.to_string(),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let shown = shown.replace(&format!("{}/", folder().display()), "");
    shown.replace(&root.display().to_string(), "[root]")
}

#[test]
fn every_bad_pipeline_gives_its_text() {
    let mut names: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    names.sort();
    assert!(names.len() >= 20, "only {} pipelines", names.len());
    let bless = std::env::var_os("WATERSHED_BLESS").is_some();
    let mut wrong = Vec::new();
    for file in names {
        let (found, golden) = (shown(&file), file.with_extension("txt"));
        if bless {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- found\n{found}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
