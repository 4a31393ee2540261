//! Tokens per second of wall and of processor time, for training and for generation, on the processor.
//!
//! `throughput MODEL f32|bf16 train|varied ROWS LENGTH LABELS` or `throughput MODEL f32|bf16 generate ROWS LENGTH NEW`; the
//! rows of `varied` grow from a quarter of LENGTH to all of it. Processor seconds are what to compare on a shared machine:
//! wall time there depends on the neighbours.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people, not a part of the product")]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use tch::Device;
use watershed_torch::{
    Answer, Compute, GenerateConfig, Init, Lora, LoraConfig, LossNorm, Mode, Model, OptimizerConfig, Prompt, Row,
    Scaling, StepConfig, Target, Trainer, Watch, generate,
};
use watershed_weights::ModelFiles;

/// Updates to time; the first is thrown away.
const UPDATES: usize = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, dtype, work, rows, length, third] = arguments.as_slice() else {
        println!("usage: throughput MODEL f32|bf16 train|varied|generate ROWS LENGTH LABELS|NEW");
        return;
    };
    let threads = std::env::var("THREADS").ok().and_then(|text| text.parse().ok());
    tch::set_num_threads(threads.unwrap_or(2));
    let compute = if dtype == "bf16" { Compute::Bf16 } else { Compute::F32 };
    let files = ModelFiles::open(Path::new(path)).unwrap();
    let model = Model::load(&files, compute, Device::Cpu).unwrap();
    let [rows, length, third] = [rows, length, third].map(|text| text.parse::<usize>().unwrap());
    match work.as_str() {
        "train" => train(&model, &vec![length; rows], third),
        "varied" => train(&model, &varied(rows, length), third),
        _ => write(&model, rows, length, third),
    }
}

/// Lengths from a quarter of `length` to all of it.
fn varied(rows: usize, length: usize) -> Vec<usize> {
    (0..rows).map(|row| length / 4 + (length - length / 4) * row / (rows - 1).max(1)).collect()
}

fn train(model: &Model, lengths: &[usize], labels: usize) {
    let config = LoraConfig {
        r: 8,
        alpha: 16.0,
        dropout: 0.05,
        targets: if std::env::var("ALL").is_ok() { Target::ALL.to_vec() } else { vec![Target::Q, Target::V] },
        scaling: Scaling::Lora,
        init: Init::Kaiming,
    };
    let lora = Lora::new(model, &config, 1).unwrap();
    let optimizer = OptimizerConfig { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, b_lr_ratio: 1.0 };
    let mut trainer = Trainer::new(model, lora, optimizer);
    let step = StepConfig {
        lr: 1e-4,
        max_grad_norm: 1.0,
        loss_norm: LossNorm::Token,
        accumulation: None,
        seed: 0,
        recompute: false,
    };
    let row = |(number, length): (usize, &usize)| {
        let start = length.saturating_sub(labels);
        Row {
            ids: ids(model, number, *length),
            labels: (0..*length).map(|at| at >= start).collect(),
            response_start: start,
        }
    };
    let micro: Vec<Row> = lengths.iter().enumerate().map(row).collect();
    for update in 0..UPDATES {
        let clock = Clock::start();
        let report = trainer.step(std::slice::from_ref(&micro), &step).unwrap();
        println!("update {update}: loss {:.4}, {}", report.loss, clock.per_second(report.tokens as usize));
    }
}

fn write(model: &Model, rows: usize, length: usize, new: usize) {
    let prompt =
        |number: usize| Prompt { id: number.to_string(), sample: 0, ids: ids(model, number, length), input: vec![] };
    let prompts: Vec<Prompt> = (0..rows).map(prompt).collect();
    let config = GenerateConfig {
        max_new_tokens: new,
        mode: Mode::Greedy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        input_no_repeat_ngram: 0,
        stop_ids: vec![],
        seed: 0,
        batch_tokens: 1 << 20,
    };
    for _ in 0..3 {
        let clock = Clock::start();
        generate(model, None, &prompts, &config, &mut Ignore).unwrap();
        println!("{} prompts: {}", rows, clock.per_second(rows * new));
    }
}

fn ids(model: &Model, row: usize, length: usize) -> Vec<u32> {
    (0..length).map(|at| ((at * 7919 + row * 104_729 + 17) % model.config().vocab) as u32).collect()
}

struct Ignore;

impl Watch for Ignore {
    fn done(&mut self, _answer: Answer) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

struct Clock(Instant, f64);

impl Clock {
    fn start() -> Clock {
        Clock(Instant::now(), cpu_seconds())
    }

    fn per_second(&self, tokens: usize) -> String {
        let (wall, cpu) = (self.0.elapsed().as_secs_f64(), cpu_seconds() - self.1);
        let tokens = tokens as f64;
        format!("{:.1} tokens per CPU-second, {:.1} per second ({cpu:.2} CPU-s)", tokens / cpu, tokens / wall)
    }
}

fn cpu_seconds() -> f64 {
    // SAFETY: getrusage fills the struct it is given; a zeroed one is valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
