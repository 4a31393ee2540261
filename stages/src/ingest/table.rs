//! Reviews from a CSV table whose columns the user names.

use csv::{ByteRecord, ReaderBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::StageError;

use super::amazon2018::parse_rating;
use super::quarantine::Quarantine;
use super::source::Source;
use super::time;
use crate::record::interaction::Interaction;

/// Which column of a CSV file holds what. A column not named here is looked for under its own name (`user_id` …).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Customer.
    pub user_id: Option<String>,
    /// Product.
    pub item_id: Option<String>,
    /// Stars from 1 to 5.
    pub rating: Option<String>,
    /// Unix seconds or milliseconds, or a date like `2018-06-17`.
    pub time: Option<String>,
    /// Display name of the customer.
    pub user_name: Option<String>,
    /// Headline of the review.
    pub title: Option<String>,
    /// The review.
    pub text: Option<String>,
    /// Variant, for example `Size: 6 Feet`.
    pub style: Option<String>,
}

/// Column numbers of the fields.
struct Layout {
    user_id: usize,
    item_id: usize,
    rating: usize,
    time: usize,
    user_name: Option<usize>,
    title: Option<usize>,
    text: Option<usize>,
    style: Option<usize>,
}

/// Reads a table up to `limit` rows, and puts rows that cannot be read into quarantine.
///
/// # Errors
/// When a column is missing or the disk fails.
pub fn read(
    source: Source,
    columns: &Columns,
    limit: u64,
    bad: &mut Quarantine,
) -> Result<Vec<Interaction>, StageError> {
    let path = source.path.clone();
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(source);
    let header = reader
        .headers()
        .map_err(|e| StageError::failed(format!("cannot read the header of `{}`: {e}", path.display())))?;
    let names: Vec<String> = header.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_string()).collect();
    let layout = Layout::find(columns, &names).map_err(|e| StageError::failed(format!("`{}`: {e}", path.display())))?;
    let (mut rows, mut record) = (Vec::new(), ByteRecord::new());
    while bad.rows < limit {
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                bad.rows += 1;
                match layout.row(&record, names.len()) {
                    Ok(row) => rows.push(row),
                    Err(reason) => bad.add(record.position().map_or(0, csv::Position::line), reason, &text_of(&record)),
                }
            }
            Err(error) => {
                let line = reader.position().line();
                let csv::ErrorKind::Io(error) = error.into_kind() else {
                    return Err(StageError::failed(format!("`{}` is no CSV at line {line}", path.display())));
                };
                bad.add_break(line, reader.get_ref().broken(&error)?);
                break;
            }
        }
    }
    Ok(rows)
}

fn text_of(record: &ByteRecord) -> String {
    record.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

impl Layout {
    fn find(columns: &Columns, names: &[String]) -> Result<Layout, String> {
        let optional = |field: &str, given: &Option<String>| -> Result<Option<usize>, String> {
            let wanted = given.as_deref().unwrap_or(field);
            let at = names.iter().position(|name| name == wanted);
            if at.is_none() && given.is_some() {
                return Err(format!(
                    "no column `{wanted}`, which `columns.{field}` names; the header has: {}",
                    names.join(", ")
                ));
            }
            Ok(at)
        };
        let required = |field: &str, given: &Option<String>| {
            optional(field, given)?.ok_or_else(|| {
                format!(
                    "no column `{field}`; say which one it is with `columns: {{{field}: …}}`; the header has: {}",
                    names.join(", ")
                )
            })
        };
        Ok(Layout {
            user_id: required("user_id", &columns.user_id)?,
            item_id: required("item_id", &columns.item_id)?,
            rating: required("rating", &columns.rating)?,
            time: match &columns.time {
                None if !names.iter().any(|n| n == "time") && names.iter().any(|n| n == "time_ms") => {
                    required("time", &Some("time_ms".into()))?
                }
                given => required("time", given)?,
            },
            user_name: optional("user_name", &columns.user_name)?,
            title: optional("title", &columns.title)?,
            text: optional("text", &columns.text)?,
            style: optional("style", &columns.style)?,
        })
    }

    fn row(&self, record: &ByteRecord, width: usize) -> Result<Interaction, String> {
        if record.len() != width {
            return Err(format!("{} cells where the header has {width}", record.len()));
        }
        let cell = |at: usize| std::str::from_utf8(&record[at]).map_err(|_| format!("cell {} is not UTF-8", at + 1));
        let optional = |at: Option<usize>| at.map_or(Ok(String::new()), |at| cell(at).map(str::to_string));
        let id = |at: usize, name: &str| match cell(at)?.trim() {
            "" => Err(format!("no `{name}`")),
            id => Ok(id.to_string()),
        };
        Ok(Interaction {
            user_id: id(self.user_id, "user_id")?,
            item_id: id(self.item_id, "item_id")?,
            rating: parse_rating(cell(self.rating)?)?,
            time_ms: time::of_cell(cell(self.time)?)?,
            user_name: optional(self.user_name)?,
            title: optional(self.title)?,
            text: optional(self.text)?,
            style: optional(self.style)?,
        })
    }
}
