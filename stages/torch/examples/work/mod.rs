//! The work that measurements do, the same here as in `peer.py` and `gpu_peer.py`.

use std::ops::ControlFlow;

use watershed_torch::{
    Answer, Init, Lora, LoraConfig, LossNorm, Model, OptimizerConfig, Prompt, Row, Scaling, StepConfig, Target,
    Trainer, Watch,
};

mod greedy;
pub use greedy::greedy;

/// One update.
pub const STEP: StepConfig = StepConfig {
    lr: 1e-4,
    max_grad_norm: 1.0,
    loss_norm: LossNorm::Token,
    accumulation: None,
    seed: 0,
    recompute: false,
};

/// Returns a trainer of a fresh adapter of rank 8.
pub fn trainer(model: &Model, targets: Vec<Target>, dropout: f64) -> Trainer<'_> {
    let config = LoraConfig { r: 8, alpha: 16.0, dropout, targets, scaling: Scaling::Lora, init: Init::Kaiming };
    let optimizer = OptimizerConfig { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, b_lr_ratio: 1.0 };
    Trainer::new(model, Lora::new(model, &config, 1).unwrap(), optimizer)
}

/// Returns row `number` of `length` tokens, the last `labels` of them labelled.
pub fn row(model: &Model, number: usize, length: usize, labels: usize) -> Row {
    Row::answered(ids(model, number, length), length.saturating_sub(labels))
}

/// Returns prompts of `length` tokens.
pub fn prompts(model: &Model, rows: usize, length: usize) -> Vec<Prompt> {
    let prompt =
        |number: usize| Prompt { id: number.to_string(), sample: 0, ids: ids(model, number, length), input: vec![] };
    (0..rows).map(prompt).collect()
}

fn ids(model: &Model, row: usize, length: usize) -> Vec<u32> {
    (0..length).map(|at| ((at * 7919 + row * 104_729 + 17) % model.config().vocab) as u32).collect()
}

/// Drops answers.
pub struct Ignore;

impl Watch for Ignore {
    fn done(&mut self, _answer: Answer) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
