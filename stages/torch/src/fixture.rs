//! The tiny-llama fixture, for tests: every number, shape and setting comes from its files.

use std::path::PathBuf;

use serde_json::Value;
use tch::{Device, Tensor};
use tokenizers::Tokenizer;
use watershed_weights::ModelFiles;
use watershed_weights::folder::Shard;

use crate::place::tiny_llama;
use crate::{Compute, Init, LoraConfig, LossNorm, Model, OptimizerConfig, Row, Scaling, StepConfig, Target};

/// What the fixture's README says of every run and row, unless `reference.json` says it itself.
const BETAS: (f64, f64) = (0.9, 0.999);
const EPS: f64 = 1e-8;
const CUTOFF: u64 = 192;

/// The fixture's folder and its `reference.json`.
pub(crate) struct Fixture {
    root: PathBuf,
    pub(crate) reference: Value,
}

/// One training run of the reference.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) json: Value,
}

impl Fixture {
    /// Returns the fixture, none (and a visible skip) when it is not there. Also keeps torch to one thread.
    pub(crate) fn open() -> Option<Fixture> {
        tch::set_num_threads(1);
        let bytes = std::fs::read(tiny_llama("reference.json")?).unwrap();
        Some(Fixture { root: tiny_llama("")?, reference: serde_json::from_slice(&bytes).unwrap() })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn model(&self, name: &str) -> Model {
        let files = ModelFiles::open(&self.path(name)).unwrap();
        Model::load(&files, Compute::F32, Device::Cpu).unwrap()
    }

    /// Returns a float tensor of `reference.safetensors`.
    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        Shard::open(&self.path("reference.safetensors")).unwrap().tensor(name).unwrap().to_f32()
    }

    /// Returns an id tensor of `reference.safetensors`.
    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        let shard = Shard::open(&self.path("reference.safetensors")).unwrap();
        let bytes = shard.raw(name).unwrap();
        bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    }

    /// Returns all rows of the dataset; with `all`, every token is a label.
    pub(crate) fn rows(&self, all: bool) -> Vec<Row> {
        let cutoff = self.reference["cutoff"].as_u64().unwrap_or(CUTOFF) as usize;
        let data: Value = serde_json::from_slice(&std::fs::read(self.path("dataset.json")).unwrap()).unwrap();
        let row = |example: &Value| {
            let mut ids = self.encode(&self.prompt(example));
            let response_start = ids.len();
            ids.extend(self.tokens(example["output"].as_str().unwrap()));
            ids.push(self.reference["eos_id"].as_u64().unwrap() as u32);
            ids.truncate(cutoff);
            let row = Row::answered(ids, response_start);
            Row { labels: row.answers.iter().map(|is_answer| all || *is_answer).collect(), ..row }
        };
        let rows: Vec<Row> = data.as_array().unwrap().iter().map(row).collect();
        self.check_rows(&rows);
        rows
    }

    /// Compares the rows with the examples that the reference spells out.
    fn check_rows(&self, rows: &[Row]) {
        for example in self.reference["examples"].as_array().unwrap() {
            let wanted: Vec<u32> = serde_json::from_value(example["ids"].clone()).unwrap();
            assert_eq!(rows[example["index"].as_u64().unwrap() as usize].ids, wanted);
        }
    }

    fn prompt(&self, example: &Value) -> String {
        let input = example["input"].as_str().unwrap_or_default();
        let template = if input.is_empty() { "prompt_no_input" } else { "prompt_input" };
        let text = self.reference["template"][template].as_str().unwrap();
        text.replace("{instruction}", example["instruction"].as_str().unwrap()).replace("{input}", input)
    }

    /// Returns the ids of a prompt, with the beginning token where the reference has one.
    pub(crate) fn encode(&self, prompt: &str) -> Vec<u32> {
        let adds = self.reference["shape"]["bos"].as_bool().unwrap();
        let bos = self.reference["bos_id"].as_u64().filter(|_| adds).map(|id| id as u32);
        bos.into_iter().chain(self.tokens(prompt)).collect()
    }

    fn tokens(&self, text: &str) -> Vec<u32> {
        let tokenizer = Tokenizer::from_file(self.path("model/tokenizer.json")).unwrap();
        tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    }

    pub(crate) fn run(&self, name: &'static str) -> Run {
        Run { name, json: self.reference["runs"][name].clone() }
    }
}

impl Run {
    fn number(&self, key: &str) -> f64 {
        self.json["config"][key].as_f64().unwrap()
    }

    fn truth(&self, key: &str) -> bool {
        self.json["config"][key].as_bool().unwrap()
    }

    pub(crate) fn train_on_inputs(&self) -> bool {
        self.truth("toi")
    }

    pub(crate) fn lora(&self) -> LoraConfig {
        let targets = self.json["config"]["targets"].as_array().unwrap();
        LoraConfig {
            r: self.number("r") as usize,
            alpha: self.number("alpha"),
            dropout: 0.0,
            targets: targets.iter().map(|name| Target::parse(name.as_str().unwrap()).unwrap()).collect(),
            scaling: if self.truth("rslora") { Scaling::Rslora } else { Scaling::Lora },
            init: Init::Kaiming,
        }
    }

    pub(crate) fn optimizer(&self) -> OptimizerConfig {
        let config = &self.json["config"];
        let betas = serde_json::from_value(config["betas"].clone()).unwrap_or(BETAS);
        let eps = config["eps"].as_f64().unwrap_or(EPS);
        OptimizerConfig { betas, eps, weight_decay: self.number("wd"), b_lr_ratio: 1.0 }
    }

    /// Returns the settings of update `step`, counted from 0.
    pub(crate) fn step(&self, step: usize) -> StepConfig {
        let loss_norm = match self.json["config"]["loss"].as_str().unwrap() {
            "token_mean" => LossNorm::Token,
            "micro_mean" => LossNorm::MicroMean,
            other => panic!("unknown loss {other}"),
        };
        // that the schedule gives these rates is tested where the schedule is, in `stages/src/text/schedule.rs`
        let lr = self.json["steps"][step]["lr"].as_f64().unwrap();
        StepConfig { lr, max_grad_norm: self.number("clip"), loss_norm, accumulation: None, seed: 0, recompute: false }
    }

    /// Returns the micro-batches of every update.
    pub(crate) fn batches(&self, rows: &[Row]) -> Vec<Vec<Vec<Row>>> {
        let numbers: Vec<Vec<Vec<usize>>> = serde_json::from_value(self.json["batches"].clone()).unwrap();
        let micro = |numbers: Vec<usize>| numbers.into_iter().map(|number| rows[number].clone()).collect();
        numbers.into_iter().map(|update| update.into_iter().map(micro).collect()).collect()
    }
}

/// Returns the largest difference between a tensor and a list.
pub(crate) fn largest_difference(tensor: &Tensor, wanted: &[f32]) -> f64 {
    assert_eq!(tensor.numel(), wanted.len());
    (tensor.flatten(0, -1) - Tensor::from_slice(wanted)).abs().max().double_value(&[])
}
