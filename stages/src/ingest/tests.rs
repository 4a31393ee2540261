//! `ingest` as a whole: files in, files and reports out.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use watershed_engine::Kind;
use watershed_engine::job::run_alone;

use super::*;

fn line(user: &str, item: &str, stars: u32, day: u32) -> String {
    json!({"overall": stars, "verified": true, "reviewerID": user, "asin": item, "reviewText": "fine, \"really\"",
        "unixReviewTime": 1_400_000_000 + day * 86_400})
    .to_string()
}

fn meta(item: &str) -> String {
    json!({"category": ["Kitchen", "Tools"], "title": format!("Thing {item}"), "asin": item, "also_buy": []})
        .to_string()
}

fn reviews(rows: usize) -> String {
    (0..rows)
        .map(|i| line(&format!("U{}", i % 7), &format!("I{}", i % 11), 1 + (i % 5) as u32, i as u32) + "\n")
        .collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Project {
        Project(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs with these files and returns the folder of outputs.
    fn ingest(&self, params: Value, reviews: &Path, items: Option<&Path>) -> Result<PathBuf, String> {
        let out = tempfile::tempdir_in(self.0.path()).unwrap().keep();
        let mut inputs = vec![("reviews", "reviews", reviews)];
        inputs.extend(items.map(|path| ("items", "items", path)));
        run_alone(&Kind::of::<Ingest>(), params, &inputs, &out).map(|()| out).map_err(|e| e.to_string())
    }
}

fn report(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("report")).unwrap()).unwrap()
}

#[test]
fn gzip_and_plain_files_give_the_same_bytes() {
    let project = Project::new();
    let (text, items) = (reviews(50), format!("{}\n{}\n", meta("I1"), meta("I2")));
    let plain = project.ingest(json!({}), &project.file("a", &text), Some(&project.file("b", &items))).unwrap();
    let packed =
        project.ingest(json!({}), &project.file("c", gzip(&text)), Some(&project.file("d", gzip(&items)))).unwrap();
    for port in ["interactions", "items", "report", "quarantine"] {
        assert_eq!(fs::read(plain.join(port)).unwrap(), fs::read(packed.join(port)).unwrap(), "{port}");
    }
    assert_eq!(interaction::read(&plain.join("interactions")).unwrap().len(), 50);
}

#[test]
fn order_of_the_file_does_not_matter() {
    let project = Project::new();
    let text = reviews(30);
    let reversed: String = text.lines().rev().map(|l| format!("{l}\n")).collect();
    let one = project.ingest(json!({}), &project.file("a", &text), None).unwrap();
    let other = project.ingest(json!({}), &project.file("b", reversed), None).unwrap();
    assert_eq!(fs::read(one.join("interactions")).unwrap(), fs::read(other.join("interactions")).unwrap());
}

#[test]
fn one_bad_row_in_two_hundred_is_quarantined_with_its_reason() {
    let project = Project::new();
    let text = reviews(199) + "{\"overall\": 9, \"reviewerID\": \"A\", \"asin\": \"B\"}\n";
    let out = project.ingest(json!({}), &project.file("a", text), None).unwrap();
    let bad: Vec<Value> = lines::read(&out.join("quarantine")).unwrap();
    assert_eq!(bad.len(), 1);
    assert_eq!((&bad[0]["line"], &bad[0]["reason"]), (&json!(200), &json!("rating `9` is outside 1 to 5")));
    assert_eq!(report(&out)["rows"], 199);
}

#[test]
fn more_bad_rows_than_allowed_fail_with_numbers_and_reasons() {
    let project = Project::new();
    let text = reviews(97) + "{\nnot json\n{\"asin\": \"B\"}\n";
    let path = project.file("reviews.json", text);
    let error = project.ingest(json!({}), &path, None).unwrap_err();
    assert!(
        error.contains("3 of 100 rows") && error.contains("`max_bad: 1%`") && error.contains("line 98: not JSON"),
        "{error}"
    );
    assert!(project.ingest(json!({"max_bad": 3}), &path, None).is_ok());
    assert!(project.ingest(json!({"max_bad": "3%"}), &path, None).is_ok());
}

#[test]
fn a_truncated_gzip_fails_and_a_count_accepts_what_is_there() {
    let project = Project::new();
    let packed = gzip(&reviews(2000));
    let path = project.file("reviews.json.gz", &packed[..packed.len() - 100]);
    let error = project.ingest(json!({}), &path, None).unwrap_err();
    assert!(error.contains("reviews.json.gz") && error.contains(&format!("at byte {}", packed.len() - 100)), "{error}");
    let out = project.ingest(json!({"max_bad": 1}), &path, None).unwrap();
    let kept = report(&out)["rows"].as_u64().unwrap();
    assert!(kept > 500 && kept < 2000, "{kept}");
}

#[test]
fn files_that_are_no_reviews_are_one_clear_error() {
    let project = Project::new();
    let cases = [
        (project.file("empty", ""), "is empty"),
        (project.0.path().to_path_buf(), "is a folder"),
        (project.file("prose", "once upon a time\n"), "cannot tell what"),
        (project.file("zst", [0x28, 0xb5, 0x2f, 0xfd]), "zstd"),
        (project.file("py", "{'asin': '1'}\n"), "Amazon 2014 metadata (Python literals), which is not read yet"),
        (project.file("meta", meta("I1")), "are `reviews` and `items` swapped?"),
        (project.0.path().join("absent"), "cannot read"),
    ];
    for (path, words) in cases {
        let error = project.ingest(json!({}), &path, None).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn without_metadata_the_items_are_an_empty_file() {
    let project = Project::new();
    let out = project.ingest(json!({}), &project.file("a", reviews(5)), None).unwrap();
    assert_eq!(fs::read(out.join("items")).unwrap(), b"");
}

#[test]
fn repeats_and_the_join_are_counted() {
    let project = Project::new();
    let text = [line("U", "I1", 5, 0), line("U", "I1", 5, 0), line("U", "I1", 4, 9), line("V", "I2", 3, 1)].join("\n");
    let items = [meta("I1"), meta("I1"), meta("I9")].join("\n");
    let out = project.ingest(json!({}), &project.file("a", text), Some(&project.file("b", items))).unwrap();
    let report = report(&out);
    let numbers = [
        "rows",
        "users",
        "items",
        "exact_duplicates",
        "repeated_user_item",
        "catalogue",
        "catalogue_duplicates",
        "joined_items",
        "joined_rows",
    ];
    assert_eq!(numbers.map(|n| report[n].as_u64().unwrap()), [4, 2, 2, 1, 2, 2, 1, 1, 3]);
    assert_eq!((&report["first_day"], &report["stars"]["5"]), (&json!("2014-05-13"), &json!(2)));
}

#[test]
fn csv_is_read_by_the_columns_the_user_names() {
    let project = Project::new();
    let path =
        project.file("a.csv", "who,what,stars,when,words\nU,I,5,2018-06-17,\"a, \"\"b\"\"\nc\"\nU,J,,2018-06-18,x\n");
    let error = project.ingest(json!({}), &path, None).unwrap_err();
    assert!(error.contains("columns: {user_id: …}") && error.contains("who, what, stars"), "{error}");
    let columns = json!({"user_id": "who", "item_id": "what", "rating": "stars", "time": "when", "text": "words"});
    let out = project.ingest(json!({"columns": columns, "max_bad": 1}), &path, None).unwrap();
    let rows = interaction::read(&out.join("interactions")).unwrap();
    assert_eq!((rows.len(), rows[0].text.as_str(), rows[0].time_ms), (1, "a, \"b\"\nc", 1_529_193_600_000));
    let bad: Vec<Value> = lines::read(&out.join("quarantine")).unwrap();
    assert_eq!((&bad[0]["line"], &bad[0]["reason"]), (&json!(4), &json!("rating `` is no number")));
}

#[test]
fn our_own_interactions_are_read_back_unchanged() {
    let project = Project::new();
    let first = project.ingest(json!({}), &project.file("a", reviews(20)), None).unwrap();
    let again = project.ingest(json!({}), &first.join("interactions"), None).unwrap();
    assert_eq!(fs::read(first.join("interactions")).unwrap(), fs::read(again.join("interactions")).unwrap());
}

#[test]
fn only_the_first_rows_are_read_when_limited() {
    let project = Project::new();
    let out = project.ingest(json!({"limit_rows": 7}), &project.file("a", reviews(20)), None).unwrap();
    assert_eq!(report(&out)["rows"], 7);
}

#[test]
fn joining_2018_files_by_parent_asin_is_refused() {
    let project = Project::new();
    let error = project.ingest(json!({"join": "parent_asin"}), &project.file("a", reviews(3)), None).unwrap_err();
    assert!(error.contains("no `parent_asin`"), "{error}");
}

/// Returns the folder of real reviews in `shared/data`, beside the repository or above it.
pub(crate) fn real_reviews() -> Option<PathBuf> {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    let found = folders.map(|f| f.join("../shared/data/amazon/reviews2018")).find(|f| f.exists());
    if found.is_none() {
        eprintln!("skipped: no real reviews in `../shared/data`");
    }
    found
}

/// Facts of `docs/data.md`, counted from the files themselves by other means.
#[test]
fn the_real_files_have_the_known_numbers() {
    let Some(folder) = real_reviews() else { return };
    let known = [
        ("Magazine_Subscriptions", [2375, 348, 157, 73, 2320, 1065, 151], [102, 118, 239, 375, 1541], "2001-11-12"),
        ("Gift_Cards", [2972, 458, 148, 7, 1547, 0, 148], [22, 11, 33, 154, 2752], "2012-01-31"),
    ];
    let project = Project::new();
    for (name, numbers, stars, first_day) in known {
        let reviews = folder.join(format!("{name}_5.json.gz"));
        let out = project.ingest(json!({}), &reviews, Some(&folder.join(format!("meta_{name}.json.gz")))).unwrap();
        let report = report(&out);
        let keys =
            ["rows", "users", "items", "repeated_user_item", "catalogue", "catalogue_duplicates", "joined_items"];
        assert_eq!(keys.map(|key| report[key].as_u64().unwrap()), numbers, "{name}");
        assert_eq!(["1", "2", "3", "4", "5"].map(|s| report["stars"][s].as_u64().unwrap()), stars, "{name}");
        assert_eq!(report["first_day"], first_day, "{name}");
        assert_eq!(fs::read(out.join("quarantine")).unwrap(), b"");
    }
}
