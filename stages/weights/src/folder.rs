//! A Hugging Face folder: `config.json` and one or several safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;

use crate::{Dtype, Error, Result, TensorView};

/// The mapped weights of a folder.
pub struct Folder {
    shards: Vec<Shard>,
    /// Tensor name to the index of its shard.
    places: BTreeMap<String, usize>,
}

/// One mapped safetensors file.
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    dtype: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Folder {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names.
    pub fn open(path: &Path) -> Result<Folder> {
        let shards = weight_files(path)?.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>>>()?;
        let mut places = BTreeMap::new();
        for (index, shard) in shards.iter().enumerate() {
            for name in shard.names() {
                if places.insert(name.to_owned(), index).is_some() {
                    return Err(Error::damaged(&shard.path, format!("tensor `{name}` is also in another shard")));
                }
            }
        }
        Ok(Folder { shards, places })
    }

    /// Returns the names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Returns the tensor of this name, none when there is none.
    pub fn tensor(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        self.places.get(name).map(|shard| self.shards[*shard].tensor(name)).transpose()
    }
}

impl Shard {
    /// Maps a safetensors file and reads its header; the safetensors crate checks sizes, gaps and overlaps.
    pub fn open(path: &Path) -> Result<Shard> {
        let map = map(path)?;
        if let Some(name) = beyond(&map) {
            return Err(Error::damaged(path, format!("tensor `{name}` ends beyond the file: is the download whole?")));
        }
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&map).map_err(|e| {
            Error::damaged(path, format!("its safetensors header is refused: {e}; is the download whole?"))
        })?;
        let start = header + 8;
        let mut entries = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            entries.insert(name, Entry { dtype: format!("{:?}", info.dtype), shape: info.shape.clone(), range });
        }
        Ok(Shard { path: path.to_owned(), map, entries })
    }

    /// Returns the names of its tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the bytes of a tensor of any type.
    pub fn raw(&self, name: &str) -> Option<&[u8]> {
        self.entries.get(name).map(|entry| &self.map[entry.range.clone()])
    }

    /// Returns the sizes of a tensor, outermost first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Returns a tensor of floats.
    ///
    /// # Errors
    /// [`Error::Missing`], and [`Error::Unsupported`] for integers and 8-bit floats.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let missing = || Error::Missing { path: self.path.clone(), tensor: name.to_owned() };
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let dtype = Dtype::parse(&entry.dtype).ok_or_else(|| {
            Error::unsupported(&self.path, format!("tensor `{name}` is {}: give f32, f16 or bf16 weights", entry.dtype))
        })?;
        Ok(TensorView::new(dtype, entry.shape.clone(), &self.map[entry.range.clone()]))
    }
}

/// Returns a tensor whose end lies beyond a safetensors file. The safetensors crate (0.8, `read_metadata`) adds such an end to
/// the header's length without a check, so it must not see one; what is no header at all is left to its own errors.
pub fn beyond(bytes: &[u8]) -> Option<String> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get(8..)?.get(..usize::try_from(length).ok()?)?;
    let entries: serde_json::Map<String, Value> = serde_json::from_slice(header).ok()?;
    let end = |entry: &Value| entry.pointer("/data_offsets/1").and_then(Value::as_u64);
    let mut ends = entries.iter().filter_map(|(name, entry)| Some((name, end(entry)?)));
    ends.find(|(_, end)| *end > bytes.len() as u64).map(|(name, _)| name.clone())
}

/// Maps a file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    if file.metadata().map_err(|e| Error::io(path, e))?.len() == 0 {
        return Err(Error::damaged(path, "it is empty: fetch it again"));
    }
    // SAFETY: a model is not written while it is read; if somebody truncates it all the same the process ends by SIGBUS
    // in its own worker, which the engine reports. Every loader that maps weights accepts that.
    unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))
}

/// Returns the weight files of a folder, sorted.
fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    let (single, index) = (path.join("model.safetensors"), path.join("model.safetensors.index.json"));
    if single.is_file() {
        return Ok(vec![single]);
    }
    if !index.is_file() {
        return Err(no_weights(path));
    }
    let json = read_json(&index)?;
    let names = json.get("weight_map").and_then(Value::as_object);
    let names = names.ok_or_else(|| Error::damaged(&index, "it has no `weight_map`"))?;
    let mut files = BTreeSet::new();
    for name in names.values() {
        let plain = name.as_str().filter(|name| !name.is_empty() && !name.contains(['/', '\\']) && *name != "..");
        files.insert(plain.ok_or_else(|| Error::damaged(&index, format!("{name} is not a file of this folder")))?);
    }
    match files.iter().find(|file| !path.join(file).exists()) {
        Some(file) => {
            Err(Error::damaged(&index, format!("`{file}`, which it names, is not there: fetch the model again")))
        }
        None => Ok(files.into_iter().map(|file| path.join(file)).collect()),
    }
}

fn no_weights(path: &Path) -> Error {
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
    match pickled.iter().find(|name| path.join(name).exists()) {
        Some(name) => {
            Error::unsupported(path, format!("`{name}` is a pickle, and pickles are never unpickled here: {CONVERT}"))
        }
        None => Error::unsupported(
            path,
            "it holds no `model.safetensors` and no `model.safetensors.index.json`: fetch the model's weights",
        ),
    }
}

/// How to leave pickles behind.
pub(crate) const CONVERT: &str = "convert the model to safetensors";

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::damaged(path, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a file of this header and so many bytes of data.
    fn opened(header: &str, data: usize) -> std::result::Result<Shard, String> {
        written(&[&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat())
    }

    fn written(bytes: &[u8]) -> std::result::Result<Shard, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, bytes).unwrap();
        Shard::open(&path).map_err(|e| e.to_string())
    }

    fn entry(name: &str, shape: u64, from: u64, to: u64) -> String {
        format!("\"{name}\": {{\"dtype\": \"U8\", \"shape\": [{shape}], \"data_offsets\": [{from}, {to}]}}")
    }

    #[test]
    fn sound_header_is_read() {
        let shard = opened(&format!("{{{}, {}}}", entry("x", 4, 0, 4), entry("y", 2, 4, 6)), 6).unwrap();
        assert_eq!(shard.names().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(shard.raw("y").unwrap().len(), 2);
    }

    #[test]
    fn hostile_headers_are_refused() {
        let headers = [
            (entry("x", 1 << 63, 0, 1 << 63), "`x` ends beyond the file"),
            (entry("x", 100, 0, 100), "`x` ends beyond the file"),
            (entry("x", 4, 4, 8), "its safetensors header is refused"),
            (entry("x", 4, 4, 0), "its safetensors header is refused"),
            (entry("x", 3, 0, 8), "its safetensors header is refused"),
            (format!("{}, {}", entry("x", 4, 0, 4), entry("y", 6, 2, 8)), "its safetensors header is refused"),
            (format!("{}, {}", entry("x", 4, 0, 4), entry("y", 3, 5, 8)), "its safetensors header is refused"),
            ("\"x\": 3".to_string(), "its safetensors header is refused"),
        ];
        for (header, words) in headers {
            let message = opened(&format!("{{{header}}}"), 8).err().expect(&header);
            assert!(message.contains(words), "{header}: {message}");
        }
    }

    #[test]
    fn sizes_that_add_up_to_an_overflow_are_refused() {
        // each is possible, and the eighth ends so near 2^64 that adding the header's length passes it
        let size = (1u64 << 61) - 1;
        let tensors = (0..8).map(|i| entry(&format!("t{i}"), size, i * size, (i + 1) * size));
        let last = entry("u", 7, 8 * size, 8 * size + 7);
        let header = tensors.chain([last]).collect::<Vec<_>>().join(", ");
        assert!(opened(&format!("{{{header}}}"), 8).err().unwrap().contains("ends beyond the file"));
    }

    #[test]
    fn headers_longer_than_the_file_are_refused() {
        for length in [9, 1 << 20, 1 << 63, u64::MAX] {
            let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
            assert!(written(&bytes).err().unwrap().contains("its safetensors header is refused"), "{length}");
        }
        assert!(written(&[&4u64.to_le_bytes()[..], &[0xff; 4]].concat()).is_err());
        assert!(written(b"").err().unwrap().contains("it is empty"));
    }
}
