//! One transformer block of LLaMA (Touvron et al. 2023): attention and gated MLP, each behind RMSNorm and a residual.

use tch::Tensor;

use crate::attention::Attention;
use crate::linear::Linear;
use crate::lora::{Active, Target};
use crate::rope::Angles;
use crate::source::Source;
use crate::{Lora, Result};

/// A block's weights.
pub(crate) struct Block {
    layer: usize,
    head_dim: i64,
    eps: f64,
    attention_norm: Tensor,
    qkv: Linear,
    output: Linear,
    mlp_norm: Tensor,
    gate_up: Linear,
    down: Linear,
}

/// What all blocks of one forward pass share.
pub(crate) struct Pass<'a> {
    pub(crate) angles: Angles,
    pub(crate) attention: &'a mut dyn Attention,
    pub(crate) active: Option<Active<'a>>,
}

impl Block {
    pub(crate) fn load(source: &dyn Source, layer: usize) -> Result<Block> {
        let norm = |name: &str| source.tensor(&format!("model.layers.{layer}.{name}.weight"));
        let linear = |targets: &[Target]| Linear::load(source, layer, targets);
        Ok(Block {
            layer,
            head_dim: source.config().head_dim as i64,
            eps: source.config().rms_eps,
            attention_norm: norm("input_layernorm")?,
            qkv: linear(&[Target::Q, Target::K, Target::V])?,
            output: linear(&[Target::O])?,
            mlp_norm: norm("post_attention_layernorm")?,
            gate_up: linear(&[Target::Gate, Target::Up])?,
            down: linear(&[Target::Down])?,
        })
    }

    /// Returns the residual stream `[tokens, hidden]` after this block. With `keep`, only these tokens go on after the
    /// attention: the last block's MLP is then computed where somebody reads it.
    pub(crate) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>, keep: Option<&Tensor>) -> Tensor {
        if let Some(active) = pass.active {
            active.enter(self.layer);
        }
        let attended = self.attend(&rms_norm(x, &self.attention_norm, self.eps), pass);
        let (x, attended) = match keep {
            Some(keep) => (x.index_select(0, keep), attended.index_select(0, keep)),
            None => (x.shallow_clone(), attended),
        };
        let x = x + &self.output.forward(&attended, self.layer, pass.active)[0];
        let normed = rms_norm(&x, &self.mlp_norm, self.eps);
        let gate_up = self.gate_up.forward(&normed, self.layer, pass.active);
        let gated = gate_up[0].silu() * &gate_up[1];
        x + &self.down.forward(&gated, self.layer, pass.active)[0]
    }

    fn attend(&self, normed: &Tensor, pass: &mut Pass<'_>) -> Tensor {
        let qkv = self.qkv.forward(normed, self.layer, pass.active);
        let heads: Vec<Tensor> = qkv.iter().map(|x| x.unflatten(-1, [-1, self.head_dim])).collect();
        let (q, k) = (pass.angles.rotate(&heads[0]), pass.angles.rotate(&heads[1]));
        pass.attention.attend(self.layer, &q, &k, &heads[2]).flatten(1, 2)
    }

    /// Returns the block with `lora` folded in.
    pub(crate) fn merged(&self, lora: &Lora) -> Block {
        Block {
            layer: self.layer,
            head_dim: self.head_dim,
            eps: self.eps,
            attention_norm: self.attention_norm.shallow_clone(),
            qkv: self.qkv.merged(self.layer, lora),
            output: self.output.merged(self.layer, lora),
            mlp_norm: self.mlp_norm.shallow_clone(),
            gate_up: self.gate_up.merged(self.layer, lora),
            down: self.down.merged(self.layer, lora),
        }
    }
}

/// Returns `x` divided by its root mean square and scaled (Zhang and Sennrich 2019); computed in f32 inside.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    x.rms_norm(weight.size(), Some(weight), eps)
}
