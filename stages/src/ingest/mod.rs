//! Kind `ingest`: reviews and product metadata as people have them, into `interactions` and `items`.
//!
//! A file is opened by its content (`source`), its format told by its first lines (`format`) and each format has a file of its
//! own that turns one line into one record or a reason (`amazon2018`, `table`). Rows that cannot be read go to quarantine with
//! their reasons; text is kept as it stands, since mending it is `clean`'s work and shall be visible there. Plain and gzip
//! files with the same contents give the same bytes.

mod amazon2018;
pub mod catalogue;
mod format;
mod price;
mod quarantine;
mod report;
mod source;
mod table;
mod time;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::port::RecordType::{Bytes, Interactions, Items};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, JobInput, Ports, Stage, StageError};

use self::format::Format;
use self::quarantine::Quarantine;
use self::report::{FileReport, Report};
use self::source::{Line, Source};
use self::table::Columns;
use crate::amount::Amount;
use crate::record::interaction::{self, Interaction};
use crate::record::item::{self, Item};
use crate::record::lines;

/// Reads reviews and product metadata.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Format of the files; `detect` tells it from their content, each file for itself.
    pub format: FormatName,
    /// Rows of a file that may be unreadable, as a count or a share, before the stage fails. They are in the `quarantine`
    /// report with their reasons. A file that breaks off exceeds every share.
    pub max_bad: Amount,
    /// Which column holds what in a CSV file, for example `{user_id: customer, item_id: sku, rating: stars, time: date}`.
    pub columns: Columns,
    /// By which id reviews and metadata join: `by_format` takes the one that the format has (2018: `asin`).
    pub join: Join,
    /// Read only the first rows of the reviews.
    pub limit_rows: Option<u64>,
}

/// A format that can be named in `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    /// Told by the content.
    #[default]
    Detect,
    /// Amazon reviews and metadata of 2018, JSON lines.
    Amazon2018,
    /// Comma-separated values with a header.
    Csv,
}

/// An id that joins reviews and metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// The id that the format has.
    #[default]
    ByFormat,
    /// The id of a product's family, which variants share.
    ParentAsin,
    /// The id of the product.
    Asin,
}

impl Default for Ingest {
    fn default() -> Ingest {
        Ingest {
            format: FormatName::Detect,
            max_bad: Amount::Percent(1.0),
            columns: Columns::default(),
            join: Join::ByFormat,
            limit_rows: None,
        }
    }
}

impl Stage for Ingest {
    const KIND: &'static str = "ingest";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("reviews", Bytes)
            .may_read("items", Bytes)
            .writes("interactions", Interactions)
            .writes("items", Items)
            .reports("quarantine")
            .reports("report")
    }

    fn run(&self, _: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let reviews = job.inputs("reviews").first().ok_or_else(|| StageError::failed("input `reviews` is missing"))?;
        let (rows, found, bad) = self.read_reviews(reviews, job)?;
        let mut files = vec![file_report(reviews, found, &bad)];
        let mut all_bad = bad.bad;
        let mut catalogue = Vec::new();
        if let Some(input) = job.inputs("items").first() {
            let (items, found, bad) = self.read_items(input, job)?;
            files.push(file_report(input, found, &bad));
            all_bad.extend(bad.bad);
            catalogue = items;
        }
        let (catalogue, repeats) = catalogue::one_each(catalogue);
        let report = Report::of(files, &rows, &catalogue, repeats);
        tell(job, &report, all_bad.len());
        lines::write(job.output("report"), [&report])?;
        lines::write(job.output("quarantine"), &all_bad)?;
        interaction::write(job.output("interactions"), rows)?;
        item::write(job.output("items"), catalogue)
    }
}

impl Ingest {
    fn read_reviews(&self, input: &JobInput, job: &Job) -> Result<(Vec<Interaction>, Format, Quarantine), StageError> {
        let found = self.format_of(input, Format::Reviews2018)?;
        let source = Source::open(input)?;
        let mut bad = Quarantine::new(&source.label, &source.path);
        let limit = self.limit_rows.unwrap_or(u64::MAX);
        let rows = match found {
            Format::Reviews2018 => read_lines(source, amazon2018::review, limit, &mut bad, job)?,
            Format::Csv => table::read(source, &self.columns, limit, &mut bad)?,
            other => return Err(wrong_port(input, "reviews", other)),
        };
        self.check_join(input, found)?;
        bad.enforce(self.max_bad)?;
        if rows.is_empty() {
            return Err(StageError::failed(format!("`{}` holds no row that can be read", input.path.display())));
        }
        Ok((rows, found, bad))
    }

    fn read_items(&self, input: &JobInput, job: &Job) -> Result<(Vec<Item>, Format, Quarantine), StageError> {
        let found = self.format_of(input, Format::Items2018)?;
        let source = Source::open(input)?;
        let mut bad = Quarantine::new(&source.label, &source.path);
        let items = match found {
            Format::Items2018 => read_lines(source, amazon2018::item, u64::MAX, &mut bad, job)?,
            other => return Err(wrong_port(input, "items", other)),
        };
        bad.enforce(self.max_bad)?;
        Ok((items, found, bad))
    }

    /// Returns the format the user names, `amazon2018` being the one of the port, or else the one found.
    fn format_of(&self, input: &JobInput, of_port: Format) -> Result<Format, StageError> {
        match self.format {
            FormatName::Detect => format::detect(input),
            FormatName::Amazon2018 => Ok(of_port),
            // Metadata has no table format: beside CSV reviews it is told by its content.
            FormatName::Csv if of_port == Format::Items2018 => format::detect(input),
            FormatName::Csv => Ok(Format::Csv),
        }
    }

    fn check_join(&self, input: &JobInput, found: Format) -> Result<(), StageError> {
        if self.join == Join::ParentAsin {
            return Err(StageError::failed(format!(
                "`{}` is {}, which has no `parent_asin`; write `join: by_format`",
                input.path.display(),
                found.name()
            )));
        }
        Ok(())
    }
}

fn wrong_port(input: &JobInput, port: &str, found: Format) -> StageError {
    let (path, name) = (input.path.display(), found.name());
    StageError::failed(match found {
        Format::NotYet(_) => {
            format!("`{path}` is {name}, which is not read yet; convert it to the 2018 JSON lines or to CSV")
        }
        Format::Csv => format!("`{path}` is CSV; input `{port}` takes Amazon 2018 metadata"),
        _ => format!("`{path}` is {name}, given as `{port}`; are `reviews` and `items` swapped?"),
    })
}

/// Reads a file of one record a line; `parse` returns the record or the reason for its quarantine.
fn read_lines<T>(
    mut source: Source,
    parse: fn(&str) -> Result<T, String>,
    limit: u64,
    bad: &mut Quarantine,
    job: &Job,
) -> Result<Vec<T>, StageError> {
    let mut rows = Vec::new();
    while bad.rows < limit {
        let line = source.line + 1;
        let bytes = match source.next_line()? {
            None => break,
            Some(Line::Whole(bytes)) => bytes,
            Some(Line::TooLong(start)) => {
                bad.rows += 1;
                bad.add(line, "the line is longer than 16 MiB", &String::from_utf8_lossy(start));
                continue;
            }
            Some(Line::Broken(found)) => {
                bad.add_break(line, found);
                break;
            }
        };
        let bytes = if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        bad.rows += 1;
        match std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_string()).and_then(parse) {
            Ok(row) => rows.push(row),
            Err(reason) => bad.add(line, reason, &String::from_utf8_lossy(bytes)),
        }
        if bad.rows.is_multiple_of(10_000) {
            job.check_cancelled()?;
            job.progress(bad.rows, 0, "rows", "");
        }
    }
    Ok(rows)
}

fn file_report(input: &JobInput, format: Format, bad: &Quarantine) -> FileReport {
    FileReport { file: input.label.clone(), format: format.name(), rows: bad.rows, quarantined: bad.bad.len() as u64 }
}

fn tell(job: &Job, report: &Report, quarantined: usize) {
    job.count("rows_in", report.files.iter().map(|f| f.rows).sum::<u64>() as f64);
    job.count("rows_out", report.rows as f64);
    job.count("quarantined", quarantined as f64);
    if report.files.len() > 1 && report.joined_items == 0 {
        job.warn("no product of the reviews is in the metadata; are both files of the same set?");
    }
}

#[cfg(test)]
pub(crate) mod tests;
