//! Who imports whom, read from the manifests.

use std::collections::BTreeMap;
use std::path::Path;

fn own_dependencies(manifest: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default().split("\n[").next().unwrap_or_default();
    let mut names: Vec<String> = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter_map(|name| name.strip_prefix("watershed-"))
        .map(String::from)
        .collect();
    names.sort();
    names
}

#[test]
fn imports_go_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("cache/Cargo.toml", &[][..]),
        ("engine/Cargo.toml", &["cache"][..]),
        ("stages/weights/Cargo.toml", &[][..]),
        ("stages/Cargo.toml", &["engine", "weights"][..]),
        ("stages/torch/Cargo.toml", &["engine", "stages", "weights"][..]),
        ("Cargo.toml", &["engine", "stages"][..]),
    ]);
    for (manifest, expected) in allowed {
        assert_eq!(own_dependencies(manifest), expected, "{manifest}");
    }
}

#[test]
fn the_torch_library_knows_neither_engine_nor_kinds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/torch/src");
    for path in crate::project::files(&folder) {
        let relative = path.strip_prefix(&folder).unwrap();
        let program = relative == Path::new("main.rs") || relative.starts_with("program");
        let text = std::fs::read_to_string(&path).unwrap();
        let imports = text.contains("watershed_engine") || text.contains("watershed_stages");
        assert!(program || !imports, "{} imports engine or stages", path.display());
    }
}

#[test]
fn only_one_module_names_the_yaml_crate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/src");
    let users: Vec<_> = crate::project::files(&folder)
        .into_iter()
        .filter(|p| std::fs::read_to_string(p).unwrap().contains("serde_saphyr"))
        .map(|p| p.strip_prefix(&folder).unwrap().to_path_buf())
        .collect();
    assert_eq!(users, [Path::new("yaml.rs")]);
}
