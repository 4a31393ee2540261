//! The pipeline of the design, word for word: the first golden test of `check`.

use std::fs;

use watershed_engine::language::{Kinds, LoadRequest, json_schema, load};

const DESIGN: &str = include_str!("design.yaml");

/// Kinds of the example that this build does not have.
fn missing(kinds: &Kinds) -> Vec<&'static str> {
    let used = DESIGN.split("use: ").skip(1).map(|rest| rest.split([',', '\n', '}']).next().unwrap_or_default());
    let mut missing: Vec<&str> = used.filter(|name| kinds.get(name).is_none()).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

#[test]
fn the_pipeline_of_the_design_has_no_faults() {
    let kinds = Kinds::new(watershed_stages::kinds());
    let missing = missing(&kinds);
    let folder = tempfile::tempdir().unwrap();
    for file in ["data/reviews.jsonl.gz", "data/items.jsonl.gz", "data/alpaca.json.gz", "models/smollm2-135m.gguf"] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::write(folder.path().join("watershed.yaml"), DESIGN).unwrap();
    for sweep in [None, Some("table1"), Some("ranks")] {
        let mut request = LoadRequest::new(folder.path().join("watershed.yaml"));
        (request.sweep, request.check_all) = (sweep.map(str::to_string), true);
        let study = match load(&request, &kinds) {
            Ok(study) => study,
            // Stages of other kinds are checked all the same.
            Err(faults) if !missing.is_empty() && faults.errors.iter().all(|e| e.code == "E007") => {
                eprintln!("skipped in part: no kinds {}", missing.join(", "));
                continue;
            }
            Err(faults) => panic!("{faults}"),
        };
        assert_eq!(
            study.cases.len(),
            match sweep {
                None => 1,
                Some("table1") => 2,
                _ => 6,
            }
        );
    }
}

#[test]
fn the_schema_names_every_kind() {
    let kinds = Kinds::new(watershed_stages::kinds());
    let schema = json_schema(&kinds);
    let names = schema["$defs"]["stage"]["properties"]["use"]["enum"].as_array().map_or(0, Vec::len);
    assert_eq!(names, kinds.names().count());
}
