//! What a CUDA device does with a LLaMA of random weights: probes, training, generation, one JSON line a finding.
//!
//! `gpu probe`, `gpu parts` (the operations of a block of `7b`, alone), `gpu train SHAPE LENGTH LABELS ROWS...` (rows of a micro-batch), `gpu generate SHAPE PROMPT NEW ROWS...`;
//! a shape is `7b` or `tiny`. Weights are drawn on the device, so that no file of 13 GB has to be there. `DEVICE=cpu` tries
//! the same on a processor.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people, not a part of the product")]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use tch::{Cuda, Device, Kind, Tensor};
use watershed_torch::device::{self, Choice};
use watershed_torch::{Compute, Model, Row, Target, generate};
use watershed_weights::LlamaConfig;

mod work;

/// Updates to time, after as many as warm up.
const UPDATES: usize = 4;
const WARM: usize = 2;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let is_cpu = std::env::var("DEVICE").is_ok_and(|device| device == "cpu");
    let device = match device::open(if is_cpu { Choice::Cpu } else { Choice::Cuda }) {
        Ok(device) => device,
        Err(error) => return tell(json!({"probe": "device", "error": error.to_string()})),
    };
    match words.as_slice() {
        ["probe"] => probe(device),
        ["parts"] => parts(device),
        ["train", shape, length, labels, rows @ ..] => {
            let model = random(shape, device);
            let [length, labels] = [length, labels].map(|text| text.parse().unwrap());
            each(rows, "train", |rows| train(&model, rows, length, labels));
        }
        ["generate", shape, prompt, new, rows @ ..] => {
            let model = random(shape, device);
            let [prompt, new] = [prompt, new].map(|text| text.parse().unwrap());
            each(rows, "generate", |rows| write(&model, rows, prompt, new));
        }
        _ => tell(
            json!({"error": "usage: gpu probe | gpu parts | gpu train|generate 7b|tiny LENGTH LABELS|NEW ROWS..."}),
        ),
    }
}

fn tell(finding: Value) {
    println!("{finding}");
}

/// Measures each number of rows. One that does not fit says so, and the next goes on.
fn each(rows: &[&str], work: &str, measure: impl Fn(usize) -> Value) {
    for rows in rows {
        let rows: usize = rows.parse().unwrap();
        let found = catch_unwind(AssertUnwindSafe(|| measure(rows)));
        tell(found.unwrap_or_else(|why| {
            let why = why.downcast_ref::<String>().map_or("a panic", String::as_str);
            json!({"work": work, "rows": rows, "error": why.lines().next()})
        }));
    }
}

fn random(shape: &str, device: Device) -> Model {
    let json = match shape {
        "7b" => json!({"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 32000}),
        _ => json!({"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 512}),
    };
    let mut whole = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096, "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2});
    whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
    let config = LlamaConfig::of_json(Path::new(shape), &whole).unwrap();
    tch::manual_seed(1);
    let clock = Instant::now();
    let model = Model::random(&config, Compute::Bf16, device).unwrap();
    sync(device);
    let seconds = clock.elapsed().as_secs_f64();
    tell(json!({"work": "random", "shape": shape, "parameters": config.parameters(),
        "matmul_parameters": config.matmul_parameters(), "seconds": seconds, "used_bytes": used_bytes()}));
    model
}

fn probe(device: Device) {
    tell(json!({"probe": "device", "device": format!("{device:?}"), "cuda": Cuda::is_available(),
        "devices": Cuda::device_count(), "cudnn": Cuda::cudnn_is_available(), "used_bytes": used_bytes()}));
    let is_cpu = device == Device::Cpu;
    let size = if is_cpu { 256 } else { 8192 };
    let square = Tensor::randn([size, size], (Kind::BFloat16, device));
    let seconds = timed(device, || square.matmul(&square));
    tell(json!({"probe": "matmul bf16", "size": size, "tflops": 2.0 * (size as f64).powi(3) / seconds / 1e12}));
    let (a, b) =
        (Tensor::randn([64, 64], (Kind::Float, Device::Cpu)), Tensor::randn([64, 64], (Kind::Float, Device::Cpu)));
    let off = (a.to_device(device).matmul(&b.to_device(device)).to_device(Device::Cpu) - a.matmul(&b)).abs().max();
    tell(json!({"probe": "matmul f32 beside the processor's", "largest_difference": off.double_value(&[])}));
    let bytes: i64 = if is_cpu { 1 << 22 } else { 1 << 32 };
    let (from, to) = (Tensor::zeros([bytes], (Kind::Uint8, device)), Tensor::zeros([bytes], (Kind::Uint8, device)));
    let seconds = timed(device, || {
        to.shallow_clone().copy_(&from);
        from.shallow_clone()
    });
    tell(json!({"probe": "copy", "bytes_read_and_written_per_s": 2.0 * bytes as f64 / seconds}));
    for (kv_heads, kind) in [(32, Kind::BFloat16), (8, Kind::BFloat16), (8, Kind::Float)] {
        tell(attention(device, kv_heads, kind));
    }
}

/// Times causal attention, and compares a corner of it with the same thing written out in f32 on the processor. The memory
/// that a `[heads, tokens, tokens]` score would need tells whether the kernel is a fused one.
fn attention(device: Device, kv_heads: i64, kind: Kind) -> Value {
    let tokens = if device == Device::Cpu { 128 } else { 4096 };
    let draw = |heads| Tensor::randn([1, heads, tokens, 128], (kind, device));
    let (q, k, v) = (draw(32), draw(kv_heads), draw(kv_heads));
    let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
        Tensor::scaled_dot_product_attention(q, k, v, None::<Tensor>, 0.0, true, None, kv_heads < 32)
    };
    let before = used_bytes();
    let seconds = timed(device, || attend(&q, &k, &v));
    let grown = used_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
    let corner = |x: &Tensor| x.narrow(2, 0, 64).to_device(Device::Cpu).to_kind(Kind::Float);
    let wanted = attend(&corner(&q), &corner(&k), &corner(&v));
    let off = (corner(&attend(&q, &k, &v)) - wanted).abs().max().double_value(&[]);
    let flops = 2.0 * 32.0 * (tokens * tokens * 128) as f64;
    json!({"probe": "attention", "kind": format!("{kind:?}"), "kv_heads": kv_heads, "tokens": tokens,
        "tflops": flops / seconds / 1e12, "largest_difference": off, "memory_grew_bytes": grown,
        "score_bytes": 32 * tokens * tokens * if kind == Kind::Float { 4 } else { 2 }})
}

/// Times the operations of one block of `7b`: where a slow update or a slow token loses its time.
fn parts(device: Device) {
    let _guard = tch::no_grad_guard();
    let (tokens, rows, width, mlp) = if device == Device::Cpu { (64, 2, 64, 160) } else { (8192, 64, 4096, 11008) };
    let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::BFloat16, device));
    let part = |name: &str, work: &dyn Fn() -> Tensor| {
        tell(json!({"part": name, "microseconds": timed(device, work) * 1e6}));
    };
    let small = draw(&[8]);
    part("one small operation", &|| &small + &small);
    let (x, wide) = (draw(&[tokens, width]), draw(&[tokens, 2 * mlp]));
    let (qkv, gate_up, down) = (draw(&[3 * width, width]), draw(&[2 * mlp, width]), draw(&[width, mlp]));
    let norm = draw(&[width]);
    part("train: rms_norm", &|| x.rms_norm([width], Some(&norm), 1e-5));
    part("train: qkv", &|| x.linear(&qkv, None::<Tensor>));
    part("train: gate and up", &|| x.linear(&gate_up, None::<Tensor>));
    part("train: gradient of gate and up", &|| wide.matmul(&gate_up));
    part("train: down", &|| wide.narrow(1, 0, mlp).linear(&down, None::<Tensor>));
    part("train: silu times up", &|| wide.narrow(1, 0, mlp).silu() * wide.narrow(1, mlp, mlp));
    part("train: dropout", &|| x.dropout(0.05, true));
    let (a, b) = (draw(&[8, width]), draw(&[width, 8]));
    let low = x.matmul(&a.tr());
    part("train: x A", &|| x.matmul(&a.tr()));
    part("train: y + low B", &|| x.addmm(&low, &b.tr()));
    part("train: gradient of A", &|| low.tr().matmul(&x));
    let heads = x.view([tokens, -1, width.min(128)]);
    let (cos, sin) = (draw(&[tokens, 1, width.min(128) / 2]), draw(&[tokens, 1, width.min(128) / 2]));
    part("train: rotate q", &|| {
        let halves = heads.chunk(2, -1);
        let (low, high) = (&halves[0], &halves[1]);
        Tensor::cat(&[low * &cos - high * &sin, high * &cos + low * &sin], -1)
    });
    part("train: residual", &|| &x + &x);
    part("train: causal attention, 8 rows at once", &|| {
        let rows = heads.unflatten(0, [8, -1]).transpose(1, 2);
        Tensor::scaled_dot_product_attention(&rows, &rows, &rows, None::<Tensor>, 0.0, true, None, false)
    });
    let token = draw(&[rows, width]);
    part("decode: qkv", &|| token.linear(&qkv, None::<Tensor>));
    part("decode: gate and up", &|| token.linear(&gate_up, None::<Tensor>));
    part("decode: down", &|| draw_like(&token, mlp).linear(&down, None::<Tensor>));
    let cache = draw(&[rows, width / width.min(128), 256, width.min(128)]);
    let (keys, q) = (cache.narrow(2, 0, 193), token.view([rows, -1, 1, width.min(128)]));
    let attend =
        |mask: Option<&Tensor>| Tensor::scaled_dot_product_attention(&q, &keys, &keys, mask, 0.0, false, None, false);
    part("decode: attention", &|| attend(None));
    let mask = Tensor::ones([rows, 1, 1, 256], (Kind::Bool, device)).narrow(3, 0, 193);
    part("decode: attention under a mask", &|| attend(Some(&mask)));
}

fn draw_like(token: &Tensor, width: i64) -> Tensor {
    token.narrow(1, 0, 1).expand([token.size()[0], width], false).contiguous()
}

fn timed(device: Device, work: impl Fn() -> Tensor) -> f64 {
    let times = if device == Device::Cpu { 2 } else { 10 };
    for _ in 0..3 {
        let _ = work();
    }
    sync(device);
    let clock = Instant::now();
    for _ in 0..times {
        let _ = work();
    }
    sync(device);
    clock.elapsed().as_secs_f64() / f64::from(times)
}

/// Trains as a job does. Micro-batches of rows with the last `labels` tokens labelled.
fn train(model: &Model, rows: usize, length: usize, labels: usize) -> Value {
    let dropout = std::env::var("DROPOUT").ok().and_then(|text| text.parse().ok()).unwrap_or(0.05);
    let mut trainer = work::trainer(model, vec![Target::Q, Target::V], dropout);
    let micro: Vec<Row> = (0..rows).map(|number| work::row(model, number, length, labels)).collect();
    let mut losses = Vec::new();
    let mut seconds = Vec::new();
    for _ in 0..WARM + UPDATES {
        let clock = Instant::now();
        losses.push(trainer.step(std::slice::from_ref(&micro), &work::STEP).unwrap().loss);
        sync(model.device());
        seconds.push(clock.elapsed().as_secs_f64());
    }
    json!({"work": "train", "rows": rows, "length": length, "labels": labels, "dropout": dropout,
        "tokens_per_s": (rows * length) as f64 / median(&seconds[WARM..]), "seconds": seconds, "losses": losses,
        "used_bytes": used_bytes(), "cpu_seconds": cpu_seconds()})
}

/// Generates twice, the first time to warm up; a third time for one token alone, which tells the prompts' share.
fn write(model: &Model, rows: usize, length: usize, new: usize) -> Value {
    let prompts = work::prompts(model, rows, length);
    let seconds = |new: usize| {
        let config = work::greedy(new);
        sync(model.device());
        let clock = Instant::now();
        generate(model, None, &prompts, &config, &mut work::Ignore).unwrap();
        sync(model.device());
        clock.elapsed().as_secs_f64()
    };
    let first = seconds(new);
    let (whole, prefill) = (seconds(new), seconds(1));
    let config = model.config();
    // A step reads every matrix, and the keys and values of the tokens so far: on average the prompt and half the answer.
    let kv_bytes = 2 * config.layers * config.kv_heads * config.head_dim * 2 * rows * (length + new / 2);
    json!({"work": "generate", "rows": rows, "prompt": length, "new": new, "first_seconds": first, "seconds": whole,
        "prefill_seconds": prefill, "tokens_per_s": (rows * new) as f64 / whole,
        "decode_tokens_per_s": (rows * (new - 1)) as f64 / (whole - prefill),
        "bytes_a_step": config.matmul_parameters() * 2 + kv_bytes as u64, "steps": new - 1,
        "used_bytes": used_bytes(), "cpu_seconds": cpu_seconds()})
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn sync(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// Returns the memory of the device in use, by this process's allocator and everything else; none without CUDA. The
/// allocator never gives back, so this is its peak.
fn used_bytes() -> Option<u64> {
    // SAFETY: the symbol is the CUDA runtime's, opened with libtorch_cuda, and has this signature since CUDA 3.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"cudaMemGetInfo".as_ptr());
        if found.is_null() {
            return None;
        }
        let info: extern "C" fn(*mut usize, *mut usize) -> i32 = std::mem::transmute::<*mut c_void, _>(found);
        let (mut free, mut total) = (0, 0);
        (info(&raw mut free, &raw mut total) == 0).then(|| (total - free) as u64)
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
