//! `export`: a model, or a model with an adapter folded in, as other programs take it.
//!
//! Folding is done in f32 and rounded once, tensor by tensor, so that a model of any size passes through little memory. It
//! needs no libtorch.

mod folder;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use watershed_engine::fault::ParamFault;
use watershed_engine::port::{Ports, RecordType};
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Stage, StageError};
use watershed_weights::gguf::Value;
use watershed_weights::gguf::export::{write_adapter, write_model};
use watershed_weights::{Adapter, Merged, ModelFiles};

use crate::lora_train::Card;
use crate::random_model::tokenizer::Named;
use crate::text::Tokenizer;

/// Writes a model, with an adapter folded in where there is one, for other programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// `hf` (a folder as transformers reads it), `gguf` (one file as llama.cpp reads it) or `gguf_lora` (the adapter alone, for
    /// llama.cpp's `--lora`).
    pub format: Format,
    /// How matrices are stored: `f16`, `bf16`, or in GGUF `q8_0`.
    pub dtype: Dtype,
}

/// What is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A Hugging Face folder.
    #[default]
    Hf,
    /// A GGUF file.
    Gguf,
    /// The adapter as a GGUF file.
    GgufLora,
}

/// How matrices are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// IEEE half precision.
    #[default]
    F16,
    /// bfloat16.
    Bf16,
    /// 8 bits with a scale for each 32 numbers.
    #[serde(rename = "q8_0")]
    Q8,
}

impl Dtype {
    fn stored(self) -> watershed_weights::Dtype {
        match self {
            Dtype::F16 => watershed_weights::Dtype::F16,
            Dtype::Bf16 => watershed_weights::Dtype::Bf16,
            Dtype::Q8 => watershed_weights::Dtype::Q8_0,
        }
    }
}

impl Stage for Export {
    const KIND: &'static str = "export";
    const VERSION: u32 = 3;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        let ports = Ports::new().reads("base", RecordType::Model);
        let ports = match self.format {
            Format::GgufLora => ports.reads("adapter", RecordType::Adapter),
            _ => ports.may_read("adapter", RecordType::Adapter),
        };
        ports.writes("model", RecordType::Model)
    }

    fn check(&self) -> Vec<ParamFault> {
        let is_odd = self.format == Format::Hf && self.dtype == Dtype::Q8;
        let fault =
            || ParamFault::new("dtype", "`q8_0` is a type of GGUF files", "set `format: gguf`, or `dtype: f16`");
        is_odd.then(fault).into_iter().collect()
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        let Some(base) = inputs.get("base") else { return Ok(Preview::default()) };
        let question = json!(["export", base, self.format, self.dtype]).to_string();
        inputs.once(&question, || self.beside(&ModelFiles::open(base).map_err(failed)?))?;
        Ok(Preview::default())
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let base = ModelFiles::open(job.input("base")?).map_err(failed)?;
        let adapter = job.optional_input("adapter");
        adapter.iter().for_each(|folder| tell_card(folder, job));
        let adapter = adapter.map(|folder| Adapter::open(folder, base.config()).map_err(failed)).transpose()?;
        let (merged, out) = (Merged { base: &base, adapter: adapter.as_ref() }, job.output("model"));
        match (self.beside(&base)?, &adapter) {
            (Beside::Files(files), _) => folder::write(out, &files, &merged, self.dtype),
            (Beside::Metadata(tokenizer), _) => {
                write_model(out, &merged, &tokenizer, self.dtype.stored()).map_err(failed)
            }
            (Beside::Nothing, Some(adapter)) => {
                write_adapter(out, &merged, adapter, self.dtype.stored()).map_err(failed)
            }
            (Beside::Nothing, None) => Err(StageError::failed("`format: gguf_lora` needs an adapter")),
        }
    }
}

/// What stands beside a model's tensors.
enum Beside {
    /// Files of a Hugging Face folder.
    Files(Vec<Named>),
    /// The tokenizer as a GGUF file's metadata; empty where the base is one, which keeps its own.
    Metadata(Vec<(String, Value)>),
    /// An adapter alone has nothing.
    Nothing,
}

impl Export {
    /// Makes what stands beside the tensors, and reads none of them: all that is refused over a base is refused here, so that
    /// a preview says it before a training.
    fn beside(&self, base: &ModelFiles) -> Result<Beside, StageError> {
        match self.format {
            Format::Hf => folder::files(base, self.dtype).map(Beside::Files),
            Format::Gguf if base.gguf().is_some() => Ok(Beside::Metadata(Vec::new())),
            Format::Gguf => tokenizer(base).map(Beside::Metadata),
            Format::GgufLora => Ok(Beside::Nothing),
        }
    }
}

fn tokenizer(base: &ModelFiles) -> Result<Vec<(String, Value)>, StageError> {
    let (path, vocab) = (base.path(), base.config().vocab);
    let tokenizer = Tokenizer::open(path)?;
    tokenizer.check_fits(vocab)?;
    tokenizer.to_gguf(vocab).map_err(|why| StageError::failed(format!("`{}`: {why}", path.display())))
}

/// Tells what an adapter's card knows and the exported files do not say: its base, and how it was spoken to.
fn tell_card(adapter: &Path, job: &Job) {
    let Some(card) = Card::read(adapter).ok().flatten() else { return };
    job.note(format!("ask the exported model as it was trained: with {}", card.manner()));
    let base = job.inputs("base").first().map(|input| format!("blake3:{}", input.digest));
    if Some(card.base) != base {
        job.warn("the adapter was trained on another base; the merged model may be worse than the base");
    }
}

fn failed(error: watershed_weights::Error) -> StageError {
    match error {
        watershed_weights::Error::Io { ref path, ref source } if source.kind() == std::io::ErrorKind::StorageFull => {
            StageError::io("write", path, source)
        }
        other => StageError::failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::Value as Json;
    use watershed_engine::{Kind, job::run_alone};
    use watershed_weights::LlamaConfig;

    use super::*;
    use crate::text::fixture::{ids, reference, tiny_llama};

    /// Exports the fixture's model; `with` is the adapter.
    fn exported(base: &Path, with: Option<&Path>, params: Json) -> Result<(tempfile::TempDir, PathBuf), StageError> {
        let folder = tempfile::tempdir().unwrap();
        let adapter = with.map(|adapter| ("adapter", "a", adapter));
        let inputs: Vec<_> = [("base", "b", base)].into_iter().chain(adapter).collect();
        run_alone(&Kind::of::<Export>(), params, &inputs, folder.path())?;
        let model = folder.path().join("model");
        Ok((folder, model))
    }

    fn largest_difference(one: &[f32], two: &[f32]) -> f32 {
        one.iter().zip(two).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
    }

    /// Compares every tensor of a model with what merging in f32 gives, relative to the largest number of the tensor.
    fn assert_merged(base: &Path, with: Option<&Path>, model: &Path, off: f32) {
        let base = ModelFiles::open(base).unwrap();
        let adapter = with.map(|folder| Adapter::open(folder, base.config()).unwrap());
        let merged = Merged { base: &base, adapter: adapter.as_ref() };
        let again = ModelFiles::open(model).unwrap();
        let shape = |files: &ModelFiles| LlamaConfig { bos: None, eos: Vec::new(), ..files.config().clone() };
        assert_eq!(shape(&base), shape(&again));
        for (name, _) in base.config().tensors() {
            let (wanted, found) = (merged.numbers(&name).unwrap(), again.tensor(&name).unwrap().to_f32());
            let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(largest_difference(&wanted, &found) <= off * largest, "{name}");
        }
    }

    fn assert_tokenizes(model: &Path) {
        let (tokenizer, reference) = (Tokenizer::open(model).unwrap(), reference().unwrap());
        for case in reference["tokenize"].as_array().unwrap() {
            assert_eq!(tokenizer.start(case["text"].as_str().unwrap()).unwrap(), ids(&case["ids"]));
        }
        assert_eq!(u64::from(tokenizer.eos().unwrap()), reference["eos_id"].as_u64().unwrap());
    }

    #[test]
    fn every_form_holds_the_merged_model_and_its_tokenizer() {
        let (Some(folder), Some(gguf)) = (tiny_llama("model"), tiny_llama("model.q8_0.gguf")) else { return };
        let tuned = tiny_llama("adapter_b_all_linear_rslora_micro_mean").unwrap();
        // half precision rounds to 2^-11 of a number, bfloat16 to 2^-8, Q8_0 to half of 1/127 of a block's largest
        let forms = [("f16", 5e-4), ("bf16", 4e-3), ("q8_0", 4.1e-3)];
        for base in [&folder, &gguf] {
            for (format, (dtype, off)) in ["hf", "gguf"].into_iter().flat_map(|f| forms.map(|form| (f, form))) {
                if (format, dtype) == ("hf", "q8_0") {
                    continue;
                }
                for with in [None, Some(tuned.as_path())] {
                    let (_keep, model) = exported(base, with, json!({"format": format, "dtype": dtype})).unwrap();
                    assert_merged(base, with, &model, off);
                    assert_tokenizes(&model);
                }
            }
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let Some(base) = tiny_llama("model") else { return };
        let bytes = || {
            let (_keep, model) = exported(&base, None, json!({"format": "gguf", "dtype": "q8_0"})).unwrap();
            std::fs::read(model).unwrap()
        };
        assert!(bytes() == bytes());
    }

    #[test]
    fn an_adapter_alone_needs_one_and_a_folder_no_blocks() {
        let Some(base) = tiny_llama("model") else { return };
        let lora = json!({"format": "gguf_lora"});
        assert!(exported(&base, None, lora.clone()).unwrap_err().to_string().contains("needs an adapter"));
        let tuned = tiny_llama("adapter_a_qv_token_mean").unwrap();
        let (_keep, file) = exported(&base, Some(&tuned), lora).unwrap();
        let file = watershed_weights::Gguf::open(&file).unwrap();
        assert_eq!((file.text("general.type"), file.text("adapter.type")), (Some("adapter"), Some("lora")));
        let odd = Export { format: Format::Hf, dtype: Dtype::Q8 };
        assert_eq!(odd.check()[0].path, "dtype");
    }

    /// Asserts that preview and run refuse a base alike, and returns what they say.
    fn refused(base: &Path, params: Export) -> String {
        let mut inputs = PreviewInputs::default();
        inputs.ports.insert("base".into(), vec![("base".into(), base.into())]);
        let told = params.preview(&inputs).unwrap_err().to_string();
        assert_eq!(exported(base, None, json!(params)).unwrap_err().to_string(), told);
        told
    }

    #[test]
    fn what_cannot_be_written_is_told_before_anything_runs() {
        let Some(fixture) = tiny_llama("model") else { return };
        let folder = tempfile::tempdir().unwrap();
        let names = std::fs::read_dir(&fixture).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for name in names {
            std::fs::copy(fixture.join(&name), folder.path().join(&name)).unwrap();
        }
        let file = folder.path().join("tokenizer.json");
        let mut tokenizer: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        tokenizer["pre_tokenizer"] = json!({"type": "Whitespace"});
        std::fs::write(&file, tokenizer.to_string()).unwrap();
        let (hf, gguf) = (Export::default(), Export { format: Format::Gguf, ..Export::default() });
        assert!(refused(folder.path(), gguf.clone()).contains("splits text in a way that has no name here"));
        std::fs::remove_file(&file).unwrap();
        assert!(refused(folder.path(), gguf).contains("a `tokenizer.json` is needed"));
        assert!(refused(folder.path(), hf).contains("cannot read"));
    }

    #[test]
    fn a_gguf_that_a_folder_cannot_say_is_told_before_anything_runs() {
        let Some(base) = tiny_llama("model") else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("base.gguf");
        let mut spoken = tokenizer(&ModelFiles::open(&base).unwrap()).unwrap();
        let model = ("tokenizer.ggml.model".to_string(), Value::Text("llama".into()));
        spoken.iter_mut().filter(|(key, _)| *key == model.0).for_each(|pair| *pair = model.clone());
        let base = ModelFiles::open(&base).unwrap();
        write_model(&file, &Merged { base: &base, adapter: None }, &spoken, Dtype::F16.stored()).unwrap();
        assert!(refused(&file, Export::default()).contains("its SentencePiece tokenizer cannot be written"));
        let (_keep, again) = exported(&file, None, json!({"format": "gguf"})).unwrap();
        assert!(again.exists());
    }

    #[test]
    fn a_preview_without_a_base_tells_nothing() {
        assert_eq!(Export::default().preview(&PreviewInputs::default()).unwrap(), Preview::default());
    }

    #[test]
    fn a_sentence_piece_gguf_has_no_tokenizer_json() {
        let Some(file) = tiny_llama("spm/ggml-vocab-llama-spm.gguf") else { return };
        let error = Tokenizer::open(&file).unwrap().to_json().unwrap_err();
        assert!(error.contains("SentencePiece") && error.contains("`format: gguf`"), "{error}");
    }
}
