//! One model on disk, whichever format holds it: its configuration and its tensors by Hugging Face name.

use std::path::{Path, PathBuf};

use crate::config::{from_gguf, from_json};
use crate::folder::{Folder, read_json};
use crate::gguf::gguf_name;
use crate::{Error, Gguf, LlamaConfig, Result, TensorView};

/// An opened model: mapped files, checked headers, nothing copied.
pub struct ModelFiles {
    path: PathBuf,
    config: LlamaConfig,
    source: Source,
}

enum Source {
    Folder(Folder),
    Gguf(Box<Gguf>),
}

impl ModelFiles {
    /// Opens a Hugging Face folder or a GGUF file, and checks that every tensor is there in its right shape.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for pickled weights and other architectures; [`Error::Damaged`] for a bad header;
    /// [`Error::Missing`] for the first tensor that is absent.
    pub fn open(path: &Path) -> Result<ModelFiles> {
        let files = if path.is_dir() { open_folder(path)? } else { open_file(path)? };
        for (name, shape) in files.config.tensors() {
            let tensor = files.stored(&name)?;
            if tensor.shape() != shape {
                let what = format!("tensor `{name}` is {:?}, its configuration asks for {shape:?}", tensor.shape());
                return Err(Error::damaged(path, what));
            }
        }
        Ok(files)
    }

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Returns the GGUF file behind the model, none for a folder; it also holds the tokenizer.
    pub fn gguf(&self) -> Option<&Gguf> {
        if let Source::Gguf(gguf) = &self.source { Some(gguf) } else { None }
    }

    /// Returns the tensor of this Hugging Face name (`model.layers.0.self_attn.q_proj.weight`), also from a GGUF file.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let tensor = self.stored(name)?;
        Ok(match self.interleaved_heads(name) {
            Some(heads) => tensor.halved(heads),
            None => tensor,
        })
    }

    /// Returns a tensor with its rows as they lie in the file; reads none of its numbers.
    fn stored(&self, name: &str) -> Result<TensorView<'_>> {
        let found = match &self.source {
            Source::Folder(folder) => folder.tensor(name)?,
            Source::Gguf(gguf) => gguf_name(name).and_then(|name| gguf.tensor(&name)),
        };
        found.ok_or_else(|| Error::Missing { path: self.path.clone(), tensor: name.to_owned() })
    }

    /// Returns the heads of a tensor whose rows have to be put back: llama.cpp interleaves those of q and k for `llama`, not
    /// for `qwen2`. That the rows are so many was checked on opening.
    fn interleaved_heads(&self, name: &str) -> Option<usize> {
        let gguf = self.gguf().filter(|gguf| gguf.text("general.architecture") == Some("llama"));
        match name {
            _ if gguf.is_none() => None,
            _ if name.contains(".q_proj.") => Some(self.config.heads),
            _ if name.contains(".k_proj.") => Some(self.config.kv_heads),
            _ => None,
        }
    }
}

fn open_folder(path: &Path) -> Result<ModelFiles> {
    let config_path = path.join("config.json");
    if !config_path.exists() {
        let what =
            "it holds no `config.json`: give a folder as transformers' `save_pretrained` writes it, or a GGUF file";
        return Err(Error::unsupported(path, what));
    }
    let json = read_json(&config_path)?;
    let generation = path.join("generation_config.json");
    let generation = if generation.is_file() { Some(read_json(&generation)?) } else { None };
    let config = from_json(&config_path, &json, generation.as_ref())?;
    Ok(ModelFiles { path: path.to_owned(), config, source: Source::Folder(Folder::open(path)?) })
}

fn open_file(path: &Path) -> Result<ModelFiles> {
    let gguf = Gguf::open(path)?;
    let config = from_gguf(&gguf)?;
    Ok(ModelFiles { path: path.to_owned(), config, source: Source::Gguf(Box::new(gguf)) })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a file of the tiny-llama fixture, none (and a visible skip) when it is not there.
    pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        let root = std::env::var_os("WATERSHED_FIXTURES").map_or(default, PathBuf::from);
        let path = root.join("tiny-llama").join(name);
        if !path.exists() {
            eprintln!("skipped: no `{}`", path.display());
            return None;
        }
        Some(path)
    }

    fn names_and_shapes(files: &ModelFiles) -> Vec<(String, Vec<usize>)> {
        files.config().tensors()
    }

    #[test]
    fn folder_and_gguf_of_one_model_say_the_same() {
        let (Some(folder), Some(gguf)) = (fixture("model"), fixture("model.q8_0.gguf")) else { return };
        let (folder, gguf) = (ModelFiles::open(&folder).unwrap(), ModelFiles::open(&gguf).unwrap());
        assert_eq!(folder.config(), gguf.config());
        for (name, _) in names_and_shapes(&folder) {
            let (exact, near) = (folder.tensor(&name).unwrap().to_f32(), gguf.tensor(&name).unwrap().to_f32());
            let largest = exact.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off = exact.iter().zip(&near).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // Q8_0 rounds to 1/127 of a block's largest number; a permuted row is off by far more.
            assert!(off <= largest / 127.0, "{name}: off by {off} of {largest}");
        }
    }

    #[test]
    fn parameters_are_counted_as_the_files_hold_them() {
        let Some(path) = fixture("model") else { return };
        let files = ModelFiles::open(&path).unwrap();
        let shard = crate::folder::Shard::open(&path.join("model.safetensors")).unwrap();
        let bytes: usize = shard.names().map(|name| shard.raw(name).unwrap().len()).sum();
        assert_eq!(files.config().parameters(), bytes as u64 / 4);
    }

    #[test]
    fn sharded_folder_equals_the_whole() {
        let Some(path) = fixture("model") else { return };
        let whole = crate::folder::Shard::open(&path.join("model.safetensors")).unwrap();
        let folder = shards_of(&whole, &path);
        let (sharded, whole) = (ModelFiles::open(folder.path()).unwrap(), ModelFiles::open(&path).unwrap());
        for (name, _) in names_and_shapes(&whole) {
            assert_eq!(sharded.tensor(&name).unwrap().bytes(), whole.tensor(&name).unwrap().bytes());
        }
    }

    /// Writes the tensors of `whole` to two files and an index, turn by turn.
    fn shards_of(whole: &crate::folder::Shard, model: &Path) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(model.join("config.json"), folder.path().join("config.json")).unwrap();
        let mut index = serde_json::Map::new();
        for part in 0..2 {
            let file = format!("model-0000{part}.safetensors");
            let names: Vec<&str> = whole.names().enumerate().filter(|(i, _)| i % 2 == part).map(|(_, n)| n).collect();
            let views = names.iter().map(|name| {
                let tensor = whole.tensor(name).unwrap();
                let view = safetensors::tensor::TensorView::new(
                    safetensors::Dtype::F32,
                    tensor.shape().to_vec(),
                    whole.raw(name).unwrap(),
                );
                (name.to_string(), view.unwrap())
            });
            safetensors::serialize_to_file(views, None, &folder.path().join(&file)).unwrap();
            index.extend(names.iter().map(|name| (name.to_string(), file.clone().into())));
        }
        let index = serde_json::json!({"weight_map": index});
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        folder
    }

    #[test]
    fn missing_shard_is_named_by_its_index() {
        let Some(path) = fixture("model") else { return };
        let whole = crate::folder::Shard::open(&path.join("model.safetensors")).unwrap();
        let folder = shards_of(&whole, &path);
        std::fs::remove_file(folder.path().join("model-00001.safetensors")).unwrap();
        let message = ModelFiles::open(folder.path()).err().unwrap().to_string();
        for word in ["model.safetensors.index.json", "`model-00001.safetensors`", "fetch the model again"] {
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn folder_without_configuration_is_told_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let message = ModelFiles::open(folder.path()).err().unwrap().to_string();
        assert!(message.contains("no `config.json`") && message.contains("GGUF"), "{message}");
    }

    #[test]
    fn pickles_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pytorch_model.bin");
        std::fs::write(&file, b"\x80\x02").unwrap();
        assert!(ModelFiles::open(&file).err().unwrap().to_string().contains("never unpickled"));
        let Some(model) = fixture("model") else { return };
        std::fs::copy(model.join("config.json"), folder.path().join("config.json")).unwrap();
        assert!(ModelFiles::open(folder.path()).err().unwrap().to_string().contains("never unpickled"));
    }

    #[test]
    fn cut_off_files_are_refused() {
        for name in ["model.q8_0.gguf", "model/model.safetensors"] {
            let Some(path) = fixture(name) else { return };
            let bytes = std::fs::read(&path).unwrap();
            let folder = tempfile::tempdir().unwrap();
            std::fs::copy(path.parent().unwrap().join("config.json"), folder.path().join("config.json")).ok();
            let copy = folder.path().join(path.file_name().unwrap());
            for len in [0, 3, 8, 100, bytes.len() / 2, bytes.len() - 1] {
                std::fs::write(&copy, &bytes[..len]).unwrap();
                let opened =
                    if name.ends_with("gguf") { ModelFiles::open(&copy) } else { ModelFiles::open(folder.path()) };
                assert!(opened.is_err(), "{name} cut at {len}");
            }
        }
    }
}
