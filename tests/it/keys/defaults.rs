//! Defaults are pinned by kind and VERSION, because keys leave them out: a changed one would serve the old results.
//!
//! `tests/golden/defaults` has a line a parameter: kind with VERSION, path, default. A new line is fine (a new parameter keeps
//! the old results by its default); another default under the same VERSION is not.
//! `WATERSHED_RENEW=1 cargo test --release --test it keys::defaults` writes the file, and refuses that.

use std::collections::BTreeMap;

use serde_json::Value;
use watershed_engine::Kind;

use super::fields::fields;
use super::repository;

/// Kind with VERSION and path, to the default as JSON.
type Defaults = BTreeMap<String, String>;

fn defaults(kinds: &[Kind]) -> Defaults {
    let mut all = Defaults::new();
    for kind in kinds {
        let values = (kind.defaults)();
        for field in fields(&(kind.schema)()) {
            let value = field.path.iter().try_fold(&values, |value, name| value.get(name)).unwrap_or(&Value::Null);
            all.insert(format!("{}@{} {}", kind.name, kind.version, field.name()), value.to_string());
        }
    }
    all
}

fn parse(text: &str) -> Defaults {
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (kind, path, value) = (words.next()?, words.next()?, words.next()?);
        Some((format!("{kind} {path}"), value.to_string()))
    };
    text.lines().filter_map(line).collect()
}

/// Returns the defaults that changed under the same VERSION.
fn changed(pinned: &Defaults, now: &Defaults) -> Vec<String> {
    let both = pinned.iter().filter_map(|(name, old)| Some((name, old, now.get(name)?)));
    both.filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| {
            format!("{name}: the default was {old} and is {new}; keys leave it out, so raise the kind's VERSION")
        })
        .collect()
}

#[test]
fn a_default_changes_only_with_the_version_of_its_kind() {
    let path = repository().join("tests/golden/defaults");
    let now = defaults(&watershed_stages::kinds());
    let pinned = parse(&std::fs::read_to_string(&path).unwrap_or_default());
    let faults = changed(&pinned, &now);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    if std::env::var_os("WATERSHED_RENEW").is_some() {
        let text: String = now.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        std::fs::write(&path, text).unwrap();
    } else {
        assert!(pinned == now, "parameters came or went: write tests/golden/defaults anew with WATERSHED_RENEW=1");
    }
}

#[test]
fn a_changed_default_asks_for_a_higher_version_and_a_new_parameter_does_not() {
    let pinned = parse("mix@1 seed 0\nmix@1 total null\n");
    assert_eq!(changed(&pinned, &parse("mix@1 seed 0\nmix@1 total null\nmix@1 more 3\n")), [""; 0]);
    assert_eq!(changed(&pinned, &parse("mix@2 seed 1\nmix@2 total 5\n")), [""; 0]);
    assert_eq!(
        changed(&pinned, &parse("mix@1 seed 0\nmix@1 total 5\n")),
        ["mix@1 total: the default was null and is 5; keys leave it out, so raise the kind's VERSION"]
    );
}
