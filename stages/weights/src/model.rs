//! One model on disk, whichever format holds it: its configuration and its tensors by Hugging Face name.

use std::path::{Path, PathBuf};

use crate::config::{from_gguf, from_json};
use crate::folder::{Folder, read_json};
use crate::gguf::gguf_name;
use crate::{Error, Gguf, LlamaConfig, Result, TensorView, leftover};

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
    /// Opens a Hugging Face folder or a GGUF file, and checks that every tensor is there in its right shape and that none is
    /// left over that would change the model.
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
        let leftover = match &files.source {
            Source::Folder(folder) => leftover::fault(folder.names(), &files.config, false),
            Source::Gguf(gguf) => leftover::fault(gguf.names(), &files.config, true),
        };
        leftover.map_or(Ok(files), |fault| Err(Error::damaged(path, fault)))
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
    let mut config = from_json(&config_path, &json, generation.as_ref())?;
    let folder = Folder::open(path)?;
    config.tied = config.tied && !has_own_output(&folder)?;
    Ok(ModelFiles { path: path.to_owned(), config, source: Source::Folder(folder) })
}

/// Says whether a folder holds an output projection that is not its embedding: transformers 5 then does not tie the two,
/// whatever the configuration says.
fn has_own_output(folder: &Folder) -> Result<bool> {
    let [output, embedding] = ["lm_head.weight", "model.embed_tokens.weight"].map(|name| folder.tensor(name));
    let (Some(output), Some(embedding)) = (output?, embedding?) else { return Ok(false) };
    Ok((output.dtype(), output.shape(), output.bytes()) != (embedding.dtype(), embedding.shape(), embedding.bytes()))
}

fn open_file(path: &Path) -> Result<ModelFiles> {
    let gguf = Gguf::open(path)?;
    let config = from_gguf(&gguf)?;
    Ok(ModelFiles { path: path.to_owned(), config, source: Source::Gguf(Box::new(gguf)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::fixture::{copy, tiny_llama, weights};

    #[test]
    fn folder_and_gguf_of_one_model_say_the_same() {
        let (Some(folder), Some(gguf)) = (tiny_llama("model"), tiny_llama("model.q8_0.gguf")) else { return };
        let (folder, gguf) = (ModelFiles::open(&folder).unwrap(), ModelFiles::open(&gguf).unwrap());
        // a model without a beginning token may name one in either file all the same
        let shape = |files: &ModelFiles| LlamaConfig { bos: None, ..files.config().clone() };
        assert_eq!(shape(&folder), shape(&gguf));
        for (name, _) in folder.config().tensors() {
            let (exact, near) = (folder.tensor(&name).unwrap().to_f32(), gguf.tensor(&name).unwrap().to_f32());
            let largest = exact.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off = exact.iter().zip(&near).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // Q8_0 rounds to 1/127 of a block's largest number; a permuted row is off by far more.
            assert!(off <= largest / 127.0, "{name}: off by {off} of {largest}");
        }
    }

    #[test]
    fn parameters_are_counted_as_the_files_hold_them() {
        let Some(path) = tiny_llama("model") else { return };
        let (files, folder) = (ModelFiles::open(&path).unwrap(), Folder::open(&path).unwrap());
        let numbers = |name: &str| folder.tensor(name).unwrap().unwrap().shape().iter().product::<usize>() as u64;
        assert_eq!(files.config().parameters(), folder.names().map(numbers).sum::<u64>());
    }

    #[test]
    fn a_folder_in_other_shards_is_the_same_model() {
        let Some(path) = tiny_llama("model") else { return };
        let original = ModelFiles::open(&path).unwrap();
        for parts in [1, 2, 3] {
            let folder = in_shards(&path, parts);
            let other = ModelFiles::open(folder.path()).unwrap();
            assert_eq!(weights(folder.path()).len(), parts);
            for (name, _) in original.config().tensors() {
                let (one, two) = (original.tensor(&name).unwrap(), other.tensor(&name).unwrap());
                assert!(one.bytes() == two.bytes() && one.dtype() == two.dtype(), "{name} in {parts} parts");
            }
        }
    }

    #[test]
    fn a_model_whole_or_in_shards_of_f16_or_bf16_is_near_the_original() {
        let Some(path) = tiny_llama("model") else { return };
        let original = ModelFiles::open(&path).unwrap();
        // half precision keeps 11 bits of a number, bfloat16 8
        for (dtype, bits) in [(Dtype::F32, 24), (Dtype::F16, 11), (Dtype::Bf16, 8)] {
            let folder = rewritten(&path, 2, dtype);
            let other = ModelFiles::open(folder.path()).unwrap();
            for (name, _) in original.config().tensors() {
                let (one, two) = (original.tensor(&name).unwrap().to_f32(), other.tensor(&name).unwrap().to_f32());
                // below 2^-14 half precision has fewer bits
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() / (1u32 << bits) as f32 + 6e-8;
                assert!(one.iter().zip(&two).all(near), "{name} as {}", dtype.name());
            }
        }
    }

    /// Writes a model's tensors as they are to so many files and an index, turn by turn.
    fn in_shards(model: &Path, parts: usize) -> tempfile::TempDir {
        shards_of(model, parts, |tensor| (tensor.dtype(), tensor.bytes().to_vec()))
    }

    /// The same with every number stored as `dtype`.
    fn rewritten(model: &Path, parts: usize, dtype: Dtype) -> tempfile::TempDir {
        shards_of(model, parts, |tensor| {
            let numbers = tensor.to_f32();
            let bytes = match dtype {
                Dtype::F16 => numbers.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
                Dtype::Bf16 => numbers.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
                _ => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            (dtype, bytes)
        })
    }

    fn shards_of(model: &Path, parts: usize, store: impl Fn(&TensorView<'_>) -> (Dtype, Vec<u8>)) -> tempfile::TempDir {
        let (folder, source) = (tempfile::tempdir().unwrap(), Folder::open(model).unwrap());
        std::fs::copy(model.join("config.json"), folder.path().join("config.json")).unwrap();
        let generation = model.join("generation_config.json");
        std::fs::copy(generation, folder.path().join("generation_config.json")).ok();
        let mut index = serde_json::Map::new();
        for part in 0..parts {
            let file = format!("model-0000{part}.safetensors");
            let names = source.names().enumerate().filter(|(i, _)| i % parts == part).map(|(_, name)| name.to_owned());
            let stored: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = names
                .map(|name| {
                    let tensor = source.tensor(&name).unwrap().unwrap();
                    let (dtype, bytes) = store(&tensor);
                    (name, tensor.shape().to_vec(), dtype, bytes)
                })
                .collect();
            let views = stored.iter().map(|(name, shape, dtype, bytes)| {
                let view = safetensors::tensor::TensorView::new(spelled(*dtype), shape.clone(), bytes);
                (name.clone(), view.unwrap())
            });
            safetensors::serialize_to_file(views, None, &folder.path().join(&file)).unwrap();
            index.extend(stored.iter().map(|(name, ..)| (name.clone(), file.clone().into())));
        }
        let index = serde_json::json!({"weight_map": index});
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        folder
    }

    fn spelled(dtype: Dtype) -> safetensors::Dtype {
        match dtype {
            Dtype::F16 => safetensors::Dtype::F16,
            Dtype::Bf16 => safetensors::Dtype::BF16,
            _ => safetensors::Dtype::F32,
        }
    }

    /// A folder that says that its ends are tied, and holds `output` as its output projection.
    fn tied_with(model: &Path, output: impl Fn(Vec<u8>) -> Vec<u8>) -> LlamaConfig {
        let folder = in_shards(model, 1);
        let path = folder.path().join("config.json");
        let mut json: serde_json::Value = read_json(&path).unwrap();
        json["tie_word_embeddings"] = true.into();
        std::fs::write(&path, json.to_string()).unwrap();
        let source = Folder::open(model).unwrap();
        let tensor = |name: &str| source.tensor(name).unwrap().unwrap();
        let embedding = tensor("model.embed_tokens.weight");
        let bytes = output(embedding.bytes().to_vec());
        let own = |name: &str| if name == "lm_head.weight" { bytes.clone() } else { tensor(name).bytes().to_vec() };
        let names = source.names().filter(|name| *name != "lm_head.weight").chain(["lm_head.weight"]);
        let stored: Vec<(&str, Vec<usize>, Dtype, Vec<u8>)> = names
            .map(|name| {
                let like = if name == "lm_head.weight" { &embedding } else { &tensor(name) };
                (name, like.shape().to_vec(), like.dtype(), own(name))
            })
            .collect();
        let views = stored.iter().map(|(name, shape, dtype, bytes)| {
            let view = safetensors::tensor::TensorView::new(spelled(*dtype), shape.clone(), bytes);
            (name.to_string(), view.unwrap())
        });
        std::fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
        std::fs::remove_file(folder.path().join("model-00000.safetensors")).unwrap();
        safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
        ModelFiles::open(folder.path()).unwrap().config().clone()
    }

    #[test]
    fn an_output_projection_of_its_own_is_used_whatever_the_configuration_says() {
        let Some(model) = tiny_llama("model") else { return };
        assert!(tied_with(&model, |bytes| bytes).tied);
        let other = |mut bytes: Vec<u8>| {
            bytes[0] ^= 1;
            bytes
        };
        assert!(!tied_with(&model, other).tied);
    }

    #[test]
    fn missing_shard_is_named_by_its_index() {
        let Some(path) = tiny_llama("model") else { return };
        let folder = in_shards(&path, 2);
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
        let Some(model) = tiny_llama("model") else { return };
        std::fs::copy(model.join("config.json"), folder.path().join("config.json")).unwrap();
        assert!(ModelFiles::open(folder.path()).err().unwrap().to_string().contains("never unpickled"));
    }

    #[test]
    fn cut_off_gguf_files_are_refused() {
        let Some(path) = tiny_llama("model.q8_0.gguf") else { return };
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("model.gguf");
        std::fs::copy(&path, &copy).unwrap();
        assert!(ModelFiles::open(&copy).is_ok());
        is_refused_when_cut(&copy, &copy);
    }

    #[test]
    fn cut_off_weights_of_a_folder_are_refused() {
        let Some(path) = tiny_llama("model") else { return };
        let folder = tempfile::tempdir().unwrap();
        copy(&path, folder.path());
        for file in weights(folder.path()) {
            let whole = std::fs::read(&file).unwrap();
            is_refused_when_cut(folder.path(), &file);
            std::fs::write(&file, whole).unwrap();
            assert!(ModelFiles::open(folder.path()).is_ok());
        }
    }

    fn is_refused_when_cut(model: &Path, file: &Path) {
        let bytes = std::fs::read(file).unwrap();
        for len in [0, 3, 8, 100, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(file, &bytes[..len]).unwrap();
            assert!(ModelFiles::open(model).is_err(), "{} cut at {len}", file.display());
        }
    }
}
