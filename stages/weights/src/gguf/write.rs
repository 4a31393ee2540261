//! Writes GGUF files (version 3): metadata, tensor directory, then the tensors one after another as they are made.
//!
//! Reading keeps one width of whole numbers; llama.cpp's keys are u32, i32 and f32 but for what does not fit, and so is what is
//! written. Layout: ggml `docs/gguf.md`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::Value;
use crate::{Dtype, Error, Result};

/// Bytes that a tensor's place is a multiple of, where the metadata says nothing else.
const ALIGNMENT: usize = 32;

/// One tensor to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// GGUF name (`blk.0.attn_q.weight`).
    pub name: String,
    /// How it is stored.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
}

/// Writes a file; `bytes` makes the stored bytes of each tensor in its turn, so that one is held at a time.
///
/// # Errors
/// When a shape is no whole number of blocks, a value cannot be written, the disk refuses, or `bytes` does.
pub fn write(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[Entry],
    mut bytes: impl FnMut(&Entry) -> Result<Vec<u8>>,
) -> Result<()> {
    let io = |e: std::io::Error| Error::io(path, e);
    let metadata: Vec<_> = metadata.iter().filter(|(key, _)| key != "general.alignment").collect();
    let mut header = Vec::from(*super::MAGIC);
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        push_text(&mut header, key);
        push_value(&mut header, value).map_err(|what| Error::damaged(path, format!("metadata `{key}`: {what}")))?;
    }
    push_directory(&mut header, tensors).map_err(|what| Error::damaged(path, what))?;
    let mut file = BufWriter::new(File::create(path).map_err(io)?);
    file.write_all(&padded(header)).map_err(io)?;
    for entry in tensors {
        file.write_all(&padded(bytes(entry)?)).map_err(io)?;
    }
    file.flush().map_err(io)
}

fn push_directory(header: &mut Vec<u8>, tensors: &[Entry]) -> std::result::Result<(), String> {
    let mut offset = 0usize;
    for entry in tensors {
        let size = entry.dtype.size_bytes(&entry.shape);
        let size = size.ok_or_else(|| format!("`{}`: {:?} is no whole number of blocks", entry.name, entry.shape))?;
        push_text(header, &entry.name);
        header.extend((entry.shape.len() as u32).to_le_bytes());
        // GGUF writes the innermost dimension first.
        entry.shape.iter().rev().for_each(|dim| header.extend((*dim as u64).to_le_bytes()));
        header.extend(entry.dtype.ggml().to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset = (offset + size).next_multiple_of(ALIGNMENT);
    }
    Ok(())
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    bytes
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, value: &Value) -> std::result::Result<(), String> {
    let kind = kind_of(value);
    out.extend(kind.to_le_bytes());
    push_bare(out, value, kind)
}

/// Returns the type number that a value is written as.
fn kind_of(value: &Value) -> u32 {
    match value {
        Value::Unsigned(number) => {
            if u32::try_from(*number).is_ok() {
                4
            } else {
                10
            }
        }
        Value::Signed(number) => {
            if i32::try_from(*number).is_ok() {
                5
            } else {
                11
            }
        }
        Value::Float(_) => 6,
        Value::Bool(_) => 7,
        Value::Text(_) => 8,
        Value::List(_) => 9,
    }
}

fn push_bare(out: &mut Vec<u8>, value: &Value, kind: u32) -> std::result::Result<(), String> {
    match (value, kind) {
        (Value::Unsigned(number), 10) => out.extend(number.to_le_bytes()),
        (Value::Unsigned(number), _) => out.extend((*number as u32).to_le_bytes()),
        (Value::Signed(number), 11) => out.extend(number.to_le_bytes()),
        (Value::Signed(number), _) => out.extend((*number as i32).to_le_bytes()),
        (Value::Float(number), _) => out.extend((*number as f32).to_le_bytes()),
        (Value::Bool(truth), _) => out.push(u8::from(*truth)),
        (Value::Text(text), _) => push_text(out, text),
        (Value::List(values), _) => push_list(out, values)?,
    }
    Ok(())
}

/// A list has one type: the widest that its elements need. An empty one is written as of texts.
fn push_list(out: &mut Vec<u8>, values: &[Value]) -> std::result::Result<(), String> {
    let kind = values.iter().map(kind_of).max().unwrap_or(8);
    let fits = |value: &Value| kind_of(value) == kind || matches!((kind_of(value), kind), (4, 10) | (5, 11));
    if kind == 9 || !values.iter().all(fits) {
        return Err("a list of several types cannot be written".to_owned());
    }
    out.extend(kind.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    values.iter().try_for_each(|value| push_bare(out, value, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gguf;

    fn entry(name: &str, dtype: Dtype, shape: &[usize]) -> Entry {
        Entry { name: name.into(), dtype, shape: shape.to_vec() }
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let list = |values: &[Value]| Value::List(values.to_vec());
        let metadata = [
            ("a.text", Value::Text("llama".into())),
            ("b.small", Value::Unsigned(7)),
            ("c.large", Value::Unsigned(1 << 40)),
            ("d.below", Value::Signed(-3)),
            ("e.float", Value::Float(0.5)),
            ("f.truth", Value::Bool(true)),
            ("g.texts", list(&[Value::Text("one".into()), Value::Text("two".into())])),
            ("h.mixed", list(&[Value::Unsigned(1), Value::Unsigned(1 << 40)])),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value));
        let tensors = [entry("x", Dtype::F32, &[2, 3]), entry("y", Dtype::Q8_0, &[1, 32])];
        write(&path, &metadata, &tensors, |entry| {
            Ok(vec![entry.name.as_bytes()[0]; entry.dtype.size_bytes(&entry.shape).unwrap()])
        })
        .unwrap();
        let file = Gguf::open(&path).unwrap();
        for (key, value) in &metadata {
            assert_eq!(file.get(key), Some(value), "{key}");
        }
        assert_eq!(file.tensor("x").unwrap().shape(), [2, 3]);
        assert!(file.tensor("y").unwrap().bytes().iter().all(|byte| *byte == b'y'));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let odd = [("k".to_string(), Value::List(vec![Value::Bool(true), Value::Unsigned(1)]))];
        assert!(write(&path, &odd, &[], |_| Ok(Vec::new())).unwrap_err().to_string().contains("several types"));
        let tensors = [entry("x", Dtype::Q8_0, &[33])];
        assert!(
            write(&path, &[], &tensors, |_| Ok(Vec::new())).unwrap_err().to_string().contains("whole number of blocks")
        );
    }
}
