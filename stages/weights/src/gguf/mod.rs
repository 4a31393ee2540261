//! GGUF files (version 2 and 3): metadata, tensor directory, and tensors under their GGUF names.
//!
//! The whole header is checked on opening, against the size of the file: a count, length or offset beyond it is an error
//! before anything is allocated for it. A value takes up to 32 bytes here and may be one byte of the file, so that all lists of
//! a header together hold at most 2^23. Layout: ggml `docs/gguf.md`.

mod cursor;
pub mod export;
mod names;
mod value;
pub mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

pub use names::gguf_name;
pub use value::Value;

use crate::folder::{CONVERT, map};
use crate::{Dtype, Error, Result, TensorView};
use cursor::Cursor;

/// Keys below `tokenizer.ggml.` of the tokens that end an answer: the end of a text, of a turn and of a message.
pub const END_KEYS: [&str; 3] = ["eos_token_id", "eot_token_id", "eom_token_id"];

/// An opened GGUF file.
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

/// What stands before the tensors' data.
struct Header {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Gguf {
    /// Maps a file and reads its header.
    pub fn open(path: &Path) -> Result<Gguf> {
        let map = map(path)?;
        if !map.starts_with(MAGIC) {
            return Err(not_gguf(path));
        }
        let header = read_header(&map).map_err(|what| Error::damaged(path, what))?;
        Ok(Gguf { path: path.to_owned(), map, header })
    }

    /// Returns true when the file at `path` begins like a GGUF file.
    pub fn is_gguf(path: &Path) -> bool {
        let mut magic = [0; 4];
        std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic)).is_ok()
            && magic == *MAGIC
    }

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a metadata value (`tokenizer.ggml.tokens`).
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// Returns a metadata text, none when it is absent or no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text)
    }

    /// Returns a metadata number that is whole and not negative, none when it is absent or anything else.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_u64)
    }

    /// Returns all metadata, sorted by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.header.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the GGUF names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// Returns the tensor of this GGUF name (`blk.0.attn_q.weight`), rows as they lie in the file.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let entry = self.header.tensors.get(name)?;
        Some(TensorView::new(entry.dtype, entry.shape.clone(), &self.map[entry.range.clone()]))
    }
}

/// Says what a file that people give in place of a GGUF file is, and what to give.
fn not_gguf(path: &Path) -> Error {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "bin" | "pt" | "pth" | "ckpt" | "pkl" => {
            Error::unsupported(path, format!("a pickle is never unpickled here: {CONVERT}"))
        }
        "safetensors" => Error::unsupported(path, "give the folder that holds it and its `config.json`"),
        _ => Error::damaged(path, "it does not begin with `GGUF`: give a GGUF file, or a Hugging Face folder"),
    }
}

const MAGIC: &[u8; 4] = b"GGUF";

/// Reads and checks a header; errors are the text after "is not a usable model file: ".
fn read_header(bytes: &[u8]) -> std::result::Result<Header, String> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(4)? != MAGIC {
        return Err("it does not begin with `GGUF`".to_owned());
    }
    match cursor.u32()? {
        2 | 3 => {}
        version => return Err(format!("GGUF version {version} is not supported, 2 and 3 are")),
    }
    let (tensors, pairs) = (cursor.u64()?, cursor.u64()?);
    let metadata = read_metadata(&mut cursor, pairs)?;
    let tensors = read_directory(&mut cursor, tensors, &metadata, bytes.len())?;
    Ok(Header { metadata, tensors })
}

fn read_metadata(cursor: &mut Cursor<'_>, pairs: u64) -> std::result::Result<BTreeMap<String, Value>, String> {
    let mut metadata = BTreeMap::new();
    for _ in 0..pairs {
        let key = cursor.text()?;
        let value = Value::read(cursor).map_err(|what| format!("metadata `{key}`: {what}"))?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("metadata `{key}` stands twice"));
        }
    }
    Ok(metadata)
}

fn read_directory(
    cursor: &mut Cursor<'_>,
    count: u64,
    metadata: &BTreeMap<String, Value>,
    file_len: usize,
) -> std::result::Result<BTreeMap<String, Entry>, String> {
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let name = cursor.text()?;
        let entry = read_entry(cursor).map_err(|what| format!("tensor `{name}`: {what}"))?;
        if found.insert(name.clone(), entry).is_some() {
            return Err(format!("tensor `{name}` stands twice"));
        }
    }
    place(found, data_start(cursor.position(), metadata)?, file_len)
}

/// Reads one directory entry; its range still counts from the start of the data.
fn read_entry(cursor: &mut Cursor<'_>) -> std::result::Result<Entry, String> {
    let dims = cursor.u32()?;
    if dims > 4 {
        return Err(format!("it has {dims} dimensions, at most 4 are possible"));
    }
    let mut shape = Vec::new();
    for _ in 0..dims {
        shape.push(usize::try_from(cursor.u64()?).map_err(|_| "a dimension is too large".to_owned())?);
    }
    // GGUF writes the innermost dimension first.
    shape.reverse();
    let number = cursor.u32()?;
    let dtype =
        Dtype::from_ggml(number).ok_or_else(|| format!("its GGML type {number} is not supported: {USE_INSTEAD}"))?;
    let offset = usize::try_from(cursor.u64()?).map_err(|_| "its offset is too large".to_owned())?;
    let size = dtype.size_bytes(&shape).ok_or_else(|| format!("shape {shape:?} is impossible for {}", dtype.name()))?;
    let end = offset.checked_add(size).ok_or("its offset is too large")?;
    Ok(Entry { dtype, shape, range: offset..end })
}

const USE_INSTEAD: &str = "use F32, F16, BF16, Q4_0 to Q8_0 or Q2_K to Q6_K";

fn data_start(after_header: usize, metadata: &BTreeMap<String, Value>) -> std::result::Result<usize, String> {
    let alignment = metadata.get("general.alignment").map_or(Some(32), Value::as_u64);
    let alignment = alignment.and_then(|a| usize::try_from(a).ok()).filter(|a| a.is_power_of_two() && *a <= 1 << 20);
    let alignment = alignment.ok_or("`general.alignment` is not a power of two")?;
    Ok(after_header.next_multiple_of(alignment))
}

/// Moves the ranges to where the data begins, and checks that they lie in the file and apart.
fn place(
    mut found: BTreeMap<String, Entry>,
    start: usize,
    file_len: usize,
) -> std::result::Result<BTreeMap<String, Entry>, String> {
    for (name, entry) in &mut found {
        let end = entry.range.end.checked_add(start).filter(|end| *end <= file_len);
        let end = end.ok_or_else(|| format!("tensor `{name}` ends beyond the file: is the download whole?"))?;
        entry.range = entry.range.start + start..end;
    }
    let mut order: Vec<(&String, &Entry)> = found.iter().filter(|(_, entry)| !entry.range.is_empty()).collect();
    order.sort_by_key(|(_, entry)| entry.range.start);
    for pair in order.windows(2) {
        if pair[0].1.range.end > pair[1].1.range.start {
            return Err(format!("tensors `{}` and `{}` overlap", pair[0].0, pair[1].0));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
