//! Rotary positions (Su et al. 2021) in Hugging Face's layout: a head's first half is rotated with its second half.

use tch::{Kind, Tensor};
use watershed_weights::LlamaConfig;

/// The frequencies of a model's rotation.
pub(crate) struct Rope {
    /// `[head_dim / 2]` in f32.
    inverse: Tensor,
}

/// Cosines and sines of some positions, each `[tokens, 1, head_dim / 2]`.
pub(crate) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    pub(crate) fn new(config: &LlamaConfig, device: tch::Device) -> Rope {
        let pair = |i: usize| {
            let factor = config.rope_factors.as_ref().map_or(1.0, |factors| factors[i]);
            (config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64) / factor) as f32
        };
        let inverse: Vec<f32> = (0..config.head_dim / 2).map(pair).collect();
        Rope { inverse: Tensor::from_slice(&inverse).to_device(device) }
    }

    /// Returns the angles of `positions` `[tokens]`, computed in f32 and rounded to `kind`.
    pub(crate) fn angles(&self, positions: &Tensor, kind: Kind) -> Angles {
        let angles = positions.to_kind(Kind::Float).outer(&self.inverse).unsqueeze(1);
        Angles { cos: angles.cos().to_kind(kind), sin: angles.sin().to_kind(kind) }
    }
}

impl Angles {
    /// Returns `x` `[tokens, heads, head_dim]` rotated.
    pub(crate) fn rotate(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let (low, high) = (&halves[0], &halves[1]);
        Tensor::cat(&[low * &self.cos - high * &self.sin, high * &self.cos + low * &self.sin], -1)
    }
}
