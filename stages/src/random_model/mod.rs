//! `random-model`: a LLaMA of any size with random weights, for tests, smoke runs and measurements without a download.

pub mod config;
pub mod tokenizer;
pub mod weights;

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::{Bytes, Model};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use tokenizer::Vocabulary;
use weights::{Draw, Dtype};

/// Writes a Hugging Face folder with random weights around an existing tokenizer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomModel {
    /// A LLaMA's config.json as YAML. Needed: `hidden_size`, `intermediate_size`, `num_hidden_layers`,
    /// `num_attention_heads`. `vocab_size` defaults to the tokenizer's, `initializer_range` to 0.02.
    pub config: Map<String, Value>,
    /// Chooses the weights; each tensor is drawn by seed and its own name.
    pub seed: u64,
    /// How weights are stored.
    pub dtype: Dtype,
}

impl Stage for RandomModel {
    const KIND: &'static str = "random-model";
    const VERSION: u32 = 3;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().reads("tokenizer", Bytes).writes("model", Model)
    }

    fn check(&self) -> Vec<ParamFault> {
        config::faults(&self.config)
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let (source, folder) = (job.input("tokenizer")?, job.output("model"));
        let vocabulary = Vocabulary::read(source)?;
        let config = config::complete(&self.config, &vocabulary, self.dtype)?;
        let shape = config::parse(&config)?;
        let std = config.get("initializer_range").and_then(Value::as_f64).unwrap_or(weights::STD);
        fs::create_dir(folder).map_err(|e| StageError::io("create", folder, &e))?;
        tokenizer::write(folder, &tokenizer::files(source)?)?;
        write_json(&folder.join("generation_config.json"), &generation(&config))?;
        write_json(&folder.join("config.json"), &config.into())?;
        weights::write(
            &folder.join("model.safetensors"),
            &shape.tensors(),
            &Draw { seed: self.seed, std, dtype: self.dtype },
        )
    }
}

fn generation(config: &Map<String, Value>) -> Value {
    let ids = ["bos_token_id", "eos_token_id", "pad_token_id"];
    let known = ids.into_iter().filter_map(|name| Some((name.to_string(), config.get(name)?.clone())));
    let mut all = known.collect::<Map<_, _>>();
    all.insert("do_sample".into(), json!(false));
    all.into()
}

fn write_json(path: &Path, value: &Value) -> Result<(), StageError> {
    let text = serde_json::to_string_pretty(value).expect("JSON values always serialise");
    fs::write(path, text + "\n").map_err(|e| StageError::io("write", path, &e))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use safetensors::SafeTensors;
    use watershed_engine::{Kind, job::run_alone};

    use super::*;

    fn tiny() -> Value {
        json!({"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2})
    }

    /// A tokenizer of four pieces, in a folder of its own.
    fn tokenizer(folder: &Path) -> PathBuf {
        let path = folder.join("tok");
        fs::create_dir(&path).unwrap();
        let added = json!([{"id": 3, "content": "</s>", "special": true}]);
        write_json(
            &path.join("tokenizer.json"),
            &json!({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}}, "added_tokens": added}),
        )
        .unwrap();
        write_json(&path.join("tokenizer_config.json"), &json!({"eos_token": "</s>"})).unwrap();
        path
    }

    fn model(params: Value) -> Result<(tempfile::TempDir, PathBuf), StageError> {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(folder.path());
        run_alone(&Kind::of::<RandomModel>(), params, &[("tokenizer", "t", &tokenizer)], folder.path())?;
        let model = folder.path().join("model");
        Ok((folder, model))
    }

    #[test]
    fn the_folder_holds_all_of_a_llama() {
        let (_keep, model) = model(json!({"config": tiny()})).unwrap();
        let bytes = fs::read(model.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.len(), 3 + 2 * 9);
        assert_eq!(tensors.tensor("model.embed_tokens.weight").unwrap().shape(), [4, 16]);
        assert_eq!(tensors.tensor("model.layers.1.self_attn.k_proj.weight").unwrap().shape(), [8, 16]);
        assert_eq!(tensors.tensor("model.layers.0.mlp.down_proj.weight").unwrap().shape(), [16, 24]);
        let config: Value = serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap();
        assert_eq!((&config["vocab_size"], &config["eos_token_id"]), (&json!(4), &json!(3)));
        assert!(model.join("tokenizer.json").exists() && model.join("generation_config.json").exists());
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
        let bytes = |seed: u64| {
            fs::read(model(json!({"config": tiny(), "seed": seed})).unwrap().1.join("model.safetensors")).unwrap()
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn a_vocabulary_below_the_tokenizer_is_refused() {
        let mut config = tiny();
        config["vocab_size"] = json!(3);
        let message = model(json!({"config": config})).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("`vocab_size` is 3, but the tokenizer has ids up to 3"), "{message}");
    }

    #[test]
    fn impossible_shapes_are_faults() {
        let check = |config: Value| {
            let faults = (Kind::of::<RandomModel>().check)(&json!({"config": config}));
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert_eq!(check(tiny()), Vec::<String>::new());
        let missing = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
        assert_eq!(check(json!({})), missing.map(|name| format!("config.{name}")));
        let with = |name: &str, value: Value| {
            let mut config = tiny();
            config[name] = value;
            check(config)
        };
        assert_eq!(with("hidden_size", json!(18)), ["config.hidden_size"]);
        assert_eq!(with("num_key_value_heads", json!(3)), ["config"]);
        assert_eq!(with("num_hidden_layers", json!(0)), ["config.num_hidden_layers"]);
        assert_eq!(with("model_type", json!("gpt2")), ["config"]);
        assert_eq!(with("initializer_range", json!(-1)), ["config.initializer_range"]);
        assert_eq!(with("vocab_size", json!(1 << 20)), Vec::<String>::new());
    }

    #[test]
    fn a_model_of_more_parameters_than_any_is_refused_before_and_when_it_is_made() {
        let mut config = tiny();
        config["hidden_size"] = json!(409_600);
        config["intermediate_size"] = json!(1 << 20);
        let fault = &(Kind::of::<RandomModel>().check)(&json!({"config": config}))[0];
        assert!(fault.message.contains("137438953472"), "{}", fault.message);
        let mut config = tiny();
        (config["num_attention_heads"], config["head_dim"]) = (json!(1 << 20), json!(1 << 20));
        (config["hidden_size"], config["num_hidden_layers"]) = (json!(1 << 20), json!(4096));
        assert!(model(json!({"config": config})).unwrap_err().to_string().contains("137438953472"));
    }

    #[test]
    fn the_fixture_s_shape_and_tokenizer_give_its_tensor_names() {
        let Some(fixture) = crate::text::fixture::tiny_llama("model") else { return };
        let config: Value = serde_json::from_slice(&fs::read(fixture.join("config.json")).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let inputs = [("tokenizer", "t", fixture.as_path())];
        run_alone(&Kind::of::<RandomModel>(), json!({"config": config}), &inputs, folder.path()).unwrap();
        let shapes = |model: &Path| {
            let folder = watershed_weights::folder::Folder::open(model).unwrap();
            let shape = |name: &str| (name.to_string(), folder.tensor(name).unwrap().unwrap().shape().to_vec());
            folder.names().map(shape).collect::<Vec<_>>()
        };
        assert_eq!(shapes(&folder.path().join("model")), shapes(&fixture));
    }
}
