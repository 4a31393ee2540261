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
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&map).map_err(|e| {
            Error::damaged(path, format!("its safetensors header is refused: {e}; is the download whole?"))
        })?;
        let start = header + 8;
        let mut entries = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            if range.end > map.len() {
                return Err(Error::damaged(
                    path,
                    format!("tensor `{name}` ends beyond the file: is the download whole?"),
                ));
            }
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
