//! Tokens per second of wall and of processor time, for training and for generation, on the processor.
//!
//! `throughput MODEL f32|bf16 train|varied ROWS LENGTH LABELS` or `throughput MODEL f32|bf16 generate ROWS LENGTH NEW`; the
//! rows of `varied` grow from a quarter of LENGTH to all of it. Processor seconds are what to compare on a shared machine:
//! wall time there depends on the neighbours.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people, not a part of the product")]

use std::path::Path;
use std::time::Instant;

use tch::Device;
use watershed_torch::{Compute, Model, Row, Target, generate};
use watershed_weights::ModelFiles;

mod work;

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
    let targets = if std::env::var("ALL").is_ok() { Target::ALL.to_vec() } else { vec![Target::Q, Target::V] };
    let mut trainer = work::trainer(model, targets, 0.05);
    let rows = lengths.iter().enumerate();
    let micro: Vec<Row> = rows.map(|(number, length)| work::row(model, number, *length, labels)).collect();
    for update in 0..UPDATES {
        let clock = Clock::start();
        let report = trainer.step(std::slice::from_ref(&micro), &work::STEP).unwrap();
        println!("update {update}: loss {:.4}, {}", report.loss, clock.per_second(report.tokens as usize));
    }
}

fn write(model: &Model, rows: usize, length: usize, new: usize) {
    let (prompts, config) = (work::prompts(model, rows, length), work::greedy(new));
    for _ in 0..3 {
        let clock = Clock::start();
        generate(model, None, &prompts, &config, &mut work::Ignore).unwrap();
        println!("{} prompts: {}", rows, clock.per_second(rows * new));
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
