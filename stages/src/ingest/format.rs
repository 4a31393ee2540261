//! Which format a file has, told by its content and never by its name.
//!
//! The first lines vote: a malformed first line must not hide what the rest plainly is. Formats that are known and not read
//! yet are refused by name, so that nobody takes them for damage.

use serde_json::{Map, Value};
use watershed_engine::{JobInput, StageError};

use super::source::{Line, Source};

/// Lines that are looked at.
const LOOK_LINES: usize = 20;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Reviews as 2018 JSON lines.
    Reviews2018,
    /// Metadata as 2018 JSON lines.
    Items2018,
    /// A table with a header, separated by commas.
    Csv,
    /// A format that has a name and no reader here.
    NotYet(&'static str),
}

impl Format {
    /// Returns the name used in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Reviews2018 => "Amazon 2018 reviews",
            Format::Items2018 => "Amazon 2018 metadata",
            Format::Csv => "CSV",
            Format::NotYet(name) => name,
        }
    }
}

/// Tells the format of a file from its first lines.
///
/// # Errors
/// When the file cannot be opened, or looks like nothing known.
pub fn detect(input: &JobInput) -> Result<Format, StageError> {
    let mut source = Source::open(input)?;
    let mut first = None;
    for _ in 0..LOOK_LINES {
        let Some(Line::Whole(bytes)) = source.next_line()? else { break };
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() {
            continue;
        }
        if let Some(format) = of_json(line).or_else(|| if first.is_none() { of_text(line) } else { None }) {
            return Ok(format);
        }
        first.get_or_insert_with(|| line.chars().take(80).collect::<String>());
    }
    Err(unknown(&source, &first.unwrap_or_default()))
}

fn unknown(source: &Source, first: &str) -> StageError {
    StageError::failed(format!(
        "cannot tell what `{}` is; it begins `{first}`; expected JSON lines of Amazon reviews or metadata (2018), or CSV with a \
         header; if it is one of these, say so with `format`",
        source.path.display()
    ))
}

fn of_json(line: &str) -> Option<Format> {
    let object: Map<String, Value> = serde_json::from_str(line).ok()?;
    let has = |key: &str| object.contains_key(key);
    if has("parent_asin") {
        return Some(Format::NotYet(if has("user_id") { "Amazon 2023 reviews" } else { "Amazon 2023 metadata" }));
    }
    if has("reviewerID") {
        let is_2014 = object.get("helpful").is_some_and(Value::is_array);
        return Some(if is_2014 { Format::NotYet("Amazon 2014 reviews") } else { Format::Reviews2018 });
    }
    let is_2014 =
        has("salesRank") || has("imUrl") || has("related") || object.get("categories").is_some_and(Value::is_array);
    match has("asin") {
        true if is_2014 => Some(Format::NotYet("Amazon 2014 metadata")),
        true => Some(Format::Items2018),
        false => None,
    }
}

/// Tells formats that are no JSON lines from the first line that holds anything.
fn of_text(line: &str) -> Option<Format> {
    let tabs = line.matches('\t').count();
    if line.starts_with("{'") {
        Some(Format::NotYet("Amazon 2014 metadata (Python literals)"))
    } else if line.starts_with("marketplace\tcustomer_id") {
        Some(Format::NotYet("Amazon Customer Reviews TSV"))
    } else if line.starts_with("product/productId:") {
        Some(Format::NotYet("SNAP 2013 reviews"))
    } else if tabs > 0 && line.contains(":token") {
        Some(Format::NotYet("RecBole atomic files"))
    } else if tabs == 3 && line.split('\t').all(|cell| cell.parse::<f64>().is_ok()) {
        Some(Format::NotYet("MovieLens u.data"))
    } else if line.split("::").count() == 4 {
        Some(Format::NotYet("MovieLens ratings.dat"))
    } else if line.starts_with(['{', '[', '<']) || !line.contains(',') {
        None
    } else if is_ratings_row(line) {
        Some(Format::NotYet("Amazon ratings CSV without a header"))
    } else {
        Some(Format::Csv)
    }
}

/// `user,item,4.0,1393545600`: four cells, the last two numbers, so no header.
fn is_ratings_row(line: &str) -> bool {
    let cells: Vec<&str> = line.split(',').collect();
    cells.len() == 4 && cells[2..].iter().all(|cell| cell.trim().parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use watershed_engine::RecordType;

    use super::*;

    fn of(text: &str) -> Result<Format, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("misleading.csv");
        std::fs::write(&path, text).unwrap();
        let input =
            JobInput { label: "x".into(), path, digest: String::new(), record: RecordType::Bytes, gathered: false };
        detect(&input).map_err(|e| e.to_string())
    }

    #[test]
    fn content_decides_and_the_name_does_not() {
        assert_eq!(of("{\"reviewerID\": \"A\", \"asin\": \"B\", \"verified\": true}\n"), Ok(Format::Reviews2018));
        assert_eq!(of("{\"asin\": \"B\", \"also_buy\": []}\n"), Ok(Format::Items2018));
        assert_eq!(of("\u{feff}user,item,rating\n"), Ok(Format::Csv));
    }

    #[test]
    fn a_malformed_first_line_does_not_hide_the_format() {
        assert_eq!(of("{\"reviewerID\n\n{\"reviewerID\": \"A\", \"asin\": \"B\"}\n"), Ok(Format::Reviews2018));
    }

    #[test]
    fn known_formats_without_a_reader_are_named() {
        let cases = [
            ("{\"reviewerID\": \"A\", \"asin\": \"B\", \"helpful\": [0, 0]}", "Amazon 2014 reviews"),
            ("{'asin': '1', 'title': \"a\"}", "Amazon 2014 metadata (Python literals)"),
            ("{\"parent_asin\": \"B\", \"user_id\": \"A\"}", "Amazon 2023 reviews"),
            ("{\"parent_asin\": \"B\", \"store\": \"A\"}", "Amazon 2023 metadata"),
            ("marketplace\tcustomer_id\treview_id", "Amazon Customer Reviews TSV"),
            ("A1,B000000001,5.0,1393545600", "Amazon ratings CSV without a header"),
            ("1\t242\t3\t881250949", "MovieLens u.data"),
        ];
        for (text, name) in cases {
            assert_eq!(of(text), Ok(Format::NotYet(name)), "{text}");
        }
    }

    #[test]
    fn a_file_of_something_else_is_an_error_that_shows_its_start() {
        let error = of("once upon a time\n").unwrap_err();
        assert!(error.contains("`once upon a time`") && error.contains("`format`"), "{error}");
    }
}
