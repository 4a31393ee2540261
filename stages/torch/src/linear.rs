//! Frozen projections that share an input, multiplied as one matrix, each with its own adapter.
//!
//! q, k and v (and gate and up) read the same vector: one matrix product of all their rows replaces three.

use tch::{Kind, Tensor};

use crate::lora::{Active, Target};
use crate::source::Source;
use crate::{Lora, Result, narrow};

/// One or several projections as one weight.
pub(crate) struct Linear {
    /// `[sum of outs, in]`.
    weight: Tensor,
    /// `[sum of outs]`.
    bias: Option<Tensor>,
    /// The projections, in row order, and their outs.
    parts: Vec<(Target, i64)>,
}

impl Linear {
    /// Loads the `targets` of block `layer`.
    pub(crate) fn load(source: &dyn Source, layer: usize, targets: &[Target]) -> Result<Linear> {
        let projections = source.config().projections();
        let shapes: Vec<_> = targets.iter().map(|target| projections[*target as usize]).collect();
        let load = |suffix: &str| {
            let names = shapes.iter().map(|(name, _, _)| format!("model.layers.{layer}.{name}.{suffix}"));
            names.map(|name| source.tensor(&name)).collect::<Result<Vec<_>>>()
        };
        let bias = if shapes[0].2 { Some(Tensor::cat(&load("bias")?, 0)) } else { None };
        let mut weights = load("weight")?;
        let weight = if weights.len() == 1 { weights.remove(0) } else { Tensor::cat(&weights, 0) };
        let parts = targets.iter().zip(&shapes).map(|(target, shape)| (*target, shape.1[0] as i64)).collect();
        Ok(Linear { weight, bias, parts })
    }

    /// Returns each projection of `x` `[tokens, in]`, `[tokens, out]`, adapters added.
    pub(crate) fn forward(&self, x: &Tensor, layer: usize, active: Option<Active<'_>>) -> Vec<Tensor> {
        // Training keeps to one product, so that a block computed again gives the same bits.
        let y = match active {
            Some(active) if active.learns() => x.linear(&self.weight, self.bias.as_ref()),
            _ => narrow::linear(x, &self.weight, self.bias.as_ref()),
        };
        let sizes: Vec<i64> = self.parts.iter().map(|(_, out)| *out).collect();
        let parts = if sizes.len() == 1 { vec![y] } else { y.split_with_sizes(sizes, -1) };
        let Some(active) = active else { return parts };
        let adapted = parts.into_iter().zip(&self.parts);
        adapted.map(|(part, (target, _))| active.add(layer, *target, x, part)).collect()
    }

    /// Returns the projections with `lora` folded in, in f32 and rounded once; shares the weight where nothing changes.
    pub(crate) fn merged(&self, layer: usize, lora: &Lora) -> Linear {
        let deltas: Vec<_> = self.parts.iter().map(|(target, _)| lora.delta(layer, *target)).collect();
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        if deltas.iter().all(Option::is_none) {
            return Linear { weight: self.weight.shallow_clone(), bias, parts: self.parts.clone() };
        }
        let weight = self.weight.to_kind(Kind::Float).copy();
        let mut row = 0;
        for ((_, out), delta) in self.parts.iter().zip(deltas) {
            if let Some(delta) = delta {
                let mut rows = weight.narrow(0, row, *out);
                let _ = rows.g_add_(&delta);
            }
            row += out;
        }
        Linear { weight: weight.to_kind(self.weight.kind()), bias, parts: self.parts.clone() }
    }
}
