//! Reads the reference numbers that the tests of this folder compare with.

use serde_json::Value;

/// Returns the reference file, or `None`, said aloud, where the folder of fixtures holds none.
pub(crate) fn load() -> Option<Value> {
    crate::fixture::json("metrics-reference.json")
}

/// Returns the entries of `section`, or none, said aloud.
pub(crate) fn list(reference: &Value, pointer: &str) -> Vec<Value> {
    let found = reference.pointer(pointer).and_then(Value::as_array).cloned();
    if found.is_none() {
        eprintln!("skipped: the reference file holds no `{pointer}`");
    }
    found.unwrap_or_default()
}

/// Returns the tolerance called `name`.
pub(crate) fn tolerance(reference: &Value, name: &str) -> f64 {
    reference["tolerances"][name].as_f64().expect("the reference file gives its tolerances")
}

/// Compares a number, or its absence, with the reference.
pub(crate) fn assert_close(ours: Option<f64>, theirs: &Value, tolerance: f64, what: &str) {
    match (ours, theirs.as_f64()) {
        (None, None) => {}
        (Some(a), Some(b)) => assert!((a - b).abs() <= tolerance, "{what}: ours {a}, reference {b}"),
        (a, b) => panic!("{what}: ours {a:?}, reference {b:?}"),
    }
}
