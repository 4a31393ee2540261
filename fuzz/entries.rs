//! What is fed with bytes that nobody promised anything about: shared by the fuzz targets and by `tests/it/fuzz.rs`.
//!
//! None may panic, and each must end soon, whatever the bytes are.

use std::sync::OnceLock;

use watershed_cache::{ActionResult, Digest};
use watershed_engine::archive::Run;
use watershed_engine::language::{Kinds, LoadRequest, load};
use watershed_engine::record::Provenance;

/// Loads the bytes as a pipeline, in all its cases, and writes its faults down.
pub fn yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    static KINDS: OnceLock<Kinds> = OnceLock::new();
    let mut request = LoadRequest::new("-");
    (request.text, request.check_all) = (Some(text.to_string()), true);
    request.env = |_| None;
    if let Err(faults) = load(&request, KINDS.get_or_init(|| Kinds::new(watershed_stages::kinds()))) {
        assert!(!faults.to_string().is_empty() && faults.errors.iter().all(|fault| !fault.message.is_empty()));
    }
}

/// Loads a pipeline whose texts, one in each manner of `${}`, are the bytes.
pub fn interpolation(bytes: &[u8]) {
    let text = serde_json::Value::from(String::from_utf8_lossy(bytes));
    yaml(
        format!(
            "params: {{a: 1, m: {{k: [2, x]}}, t: {text}}}\nenv: {{E: e}}\nstages:\n  \
             c: {{use: command, in: {{x: {text}}}, with: {{shell: {text}, argv: [{text}, \"${{params.t}}\"]}}, run: {{memory: {text}}}}}\n"
        )
        .as_bytes(),
    );
}

/// Reads the bytes as the body of a record whose digest is right, and as a whole record.
pub fn record(bytes: &[u8]) {
    let whole = [bytes, b"\n", Digest::of(bytes).hex().as_bytes(), b"\n"].concat();
    for bytes in [bytes, &whole] {
        let _ = ActionResult::newer_version(bytes);
        if let Some(result) = ActionResult::parse(bytes) {
            let _ = Provenance::of(&result);
            assert_eq!(ActionResult::parse(&result.to_bytes()), Some(result));
        }
    }
}

/// Reads the bytes as the log of a run, and shows the run.
pub fn run_log(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    std::fs::write(folder.path().join("events.jsonl"), bytes).expect("it can be written");
    let Ok(run) = Run::read(folder.path()) else { return };
    for node in &run.nodes {
        assert!(node.title().starts_with(&node.stage));
    }
}
