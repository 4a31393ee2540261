//! How records lie in a file: a JSON array, JSON lines, or CSV with a header; plain or gz, with or without a byte order mark.
//!
//! Each record keeps the line where it begins, so that a fault can be found in the user's own file.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Deserializer, Map, Value};
use watershed_engine::StageError;

use super::Bad;

/// One object of a file, its meaning still unknown.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Line where it begins, from 1.
    pub line: usize,
    /// Its fields; those of CSV are texts.
    pub fields: Map<String, Value>,
}

/// Reads every record of a file; those that cannot be parsed come back as [`Bad`].
///
/// # Errors
/// When the file cannot be read or unpacked, or a JSON array is broken (what follows the break has no boundaries).
pub fn read(path: &Path) -> Result<Vec<Result<Record, Bad>>, StageError> {
    let bytes = unpacked(path)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let place = |e: String| StageError::failed(format!("`{}` {e}", path.display()));
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Ok(Vec::new()),
        Some(b'[') => array(text).map_err(place),
        Some(b'{') => Ok(lines(text)),
        Some(_) => csv(text).map_err(place),
    }
}

fn unpacked(path: &Path) -> Result<Vec<u8>, StageError> {
    let bytes = fs::read(path).map_err(|e| StageError::io("read", path, &e))?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text).map_err(|e| {
        let name = path.display();
        StageError::failed(format!(
            "cannot unpack `{name}`: {e} after {} bytes; the file is cut off or damaged",
            text.len()
        ))
    })?;
    Ok(text)
}

fn array(text: &[u8]) -> Result<Vec<Result<Record, Bad>>, String> {
    let mut records = Vec::new();
    let mut cursor = Cursor { text, at: 0, line: 1 };
    cursor.expect(b'[')?;
    loop {
        cursor.skip_space();
        if cursor.peek() == Some(b']') {
            return Ok(records);
        }
        if !records.is_empty() {
            cursor.expect(b',')?;
            cursor.skip_space();
        }
        let line = cursor.line;
        records.push(object(line, cursor.value()?));
    }
}

fn lines(text: &[u8]) -> Vec<Result<Record, Bad>> {
    let numbered = text.split(|byte| *byte == b'\n').enumerate().map(|(index, line)| (index + 1, line.trim_ascii()));
    numbered
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| match serde_json::from_slice(line) {
            Ok(value) => object(number, value),
            Err(e) => Err(Bad { line: number, reason: format!("no JSON: {e}"), row: shortened(line) }),
        })
        .collect()
}

fn csv(text: &[u8]) -> Result<Vec<Result<Record, Bad>>, String> {
    let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let delimiter = if header.contains(&b'\t') { b'\t' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text);
    let names = reader.headers().map_err(|e| format!("is neither JSON, JSON lines nor CSV: {e}"))?.clone();
    let rows = reader.records().map(|row| match row {
        Ok(row) => {
            let fields = names.iter().zip(row.iter()).map(|(name, value)| (name.to_string(), Value::from(value)));
            Ok(Record { line: line_of(row.position()), fields: fields.collect() })
        }
        Err(e) => Err(Bad { line: line_of(e.position()), reason: e.to_string(), row: Value::Null }),
    });
    Ok(rows.collect())
}

fn object(line: usize, value: Value) -> Result<Record, Bad> {
    match value {
        Value::Object(fields) => Ok(Record { line, fields }),
        row => Err(Bad { line, reason: "expected an object".into(), row }),
    }
}

fn line_of(position: Option<&csv::Position>) -> usize {
    position.map_or(0, |p| usize::try_from(p.line()).unwrap_or(usize::MAX))
}

fn shortened(line: &[u8]) -> Value {
    String::from_utf8_lossy(line).chars().take(500).collect::<String>().into()
}

/// A place in the text of a JSON array, with its line.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.text[self.at..self.at + bytes];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.at += bytes;
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.advance(rest.len() - rest.trim_ascii_start().len());
    }

    fn expect(&mut self, wanted: u8) -> Result<(), String> {
        self.skip_space();
        match self.peek() {
            Some(byte) if byte == wanted => self.advance(1),
            Some(byte) => {
                return Err(format!(
                    "line {}: expected `{}`, found `{}`",
                    self.line,
                    wanted as char,
                    byte.escape_ascii()
                ));
            }
            None => return Err(format!("line {}: the array ends without `]`; the file is cut off", self.line)),
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Value, String> {
        let mut values = Deserializer::from_slice(&self.text[self.at..]).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(e)) if e.is_eof() => {
                return Err(format!("line {}: the array ends without `]`; the file is cut off", self.line));
            }
            Some(Err(e)) => return Err(format!("line {} column {}: {e}", self.line + e.line() - 1, e.column())),
            None => return Err(format!("line {}: the array ends without `]`; the file is cut off", self.line)),
        };
        let bytes = values.byte_offset();
        self.advance(bytes);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn records(text: &[u8]) -> Result<Vec<Result<Record, Bad>>, StageError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all(text).unwrap();
        read(file.path())
    }

    fn shape(text: &[u8]) -> Vec<(usize, Result<Value, String>)> {
        let records = records(text).unwrap().into_iter();
        records
            .map(|record| match record {
                Ok(record) => (record.line, Ok(record.fields["a"].clone())),
                Err(bad) => (bad.line, Err(bad.reason)),
            })
            .collect()
    }

    #[test]
    fn arrays_lines_and_csv_give_the_same_records_with_their_lines() {
        let one_two = |first, second| vec![(first, Ok(Value::from("1"))), (second, Ok(Value::from("2")))];
        assert_eq!(shape(b"[\n {\"a\": \"1\"},\n\n {\n\"a\": \"2\"}\n]\n"), one_two(2, 4));
        assert_eq!(shape(b"\xef\xbb\xbf{\"a\": \"1\"}\n\n{\"a\": \"2\"}\r\n"), one_two(1, 3));
        assert_eq!(shape(b"a,b\n1,x\n2,\"y\nz\"\n"), one_two(2, 3));
        assert_eq!(shape(b"a\tb, c\n1\tx\n2\ty\n"), one_two(2, 3));
        assert_eq!(shape(b"  \n"), vec![]);
    }

    #[test]
    fn a_broken_line_is_one_bad_record() {
        let found = shape(b"{\"a\": 1}\n{\"a\": \n[1]\n{\"a\": \"\xff\"}\n{\"a\": 2}\n");
        let lines: Vec<(usize, bool)> = found.iter().map(|(line, record)| (*line, record.is_ok())).collect();
        assert_eq!(lines, [(1, true), (2, false), (3, false), (4, false), (5, true)]);
        let found = shape(b"a,b\n1,x\n2\n3,y\n");
        assert_eq!(
            found.iter().map(|(line, record)| (*line, record.is_ok())).collect::<Vec<_>>(),
            [(2, true), (3, false), (4, true)]
        );
    }

    #[test]
    fn a_broken_array_names_its_line() {
        let message = |text: &[u8]| records(text).unwrap_err().to_string();
        assert!(
            message(b"[\n{\"a\": 1},\n{\"a\": }\n]").contains("line 3 column 7"),
            "{}",
            message(b"[\n{\"a\": 1},\n{\"a\": }\n]")
        );
        assert!(message(b"[{\"a\": 1}\n{\"a\": 2}]").contains("line 2: expected `,`, found `{`"));
        for cut in ["[", "[{\"a\": 1}", "[{\"a\": 1},", "[{\"a\": "] {
            assert!(message(cut.as_bytes()).contains("ends without `]`"), "{cut}: {}", message(cut.as_bytes()));
        }
    }

    #[test]
    fn gz_is_unpacked_and_a_cut_gz_is_an_error() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(&b"{\"a\": \"1\"}\n".repeat(100)).unwrap();
        let packed = packer.finish().unwrap();
        assert_eq!(records(&packed).unwrap().len(), 100);
        let message = records(&packed[..packed.len() - 9]).unwrap_err().to_string();
        assert!(message.contains("cannot unpack") && message.contains("cut off or damaged"), "{message}");
    }
}
