//! Gradients from each block's input alone: activation checkpointing, by hand (Chen et al. 2016, section 4).
//!
//! Autograd keeps what every block computed until the backward pass comes by. Here the forward pass keeps the blocks' inputs
//! and the backward pass walks the blocks from the last, computing each again just before its gradient: a third more work,
//! and the memory of one block instead of all. Dropout is seeded by block, so a block computed again draws the masks that
//! it drew before, and on a processor the gradients are autograd's bit for bit.

use tch::{Kind, Tensor};

use crate::Model;
use crate::lora::Active;
use crate::packed::Packed;

/// What the backward pass begins from.
pub(crate) struct Inputs {
    /// Input of each block, `[tokens, hidden]`.
    blocks: Vec<Tensor>,
    /// Input of the last norm, `[labels, hidden]`.
    last: Tensor,
}

/// Returns the hidden states `[labels, hidden]` that predict the labels, and what [`gradients`] needs.
pub(crate) fn forward(model: &Model, active: Active<'_>, packed: &mut Packed) -> (Tensor, Inputs) {
    let _guard = tch::no_grad_guard();
    let mut pass = model.pass(&packed.positions, &mut packed.attention, Some(active));
    let mut blocks = Vec::with_capacity(model.config().layers);
    let mut x = model.embed(&packed.ids);
    for layer in 0..model.config().layers {
        let next = model.block(layer, &x, &mut pass, &packed.sources);
        blocks.push(std::mem::replace(&mut x, next));
    }
    (model.normed(&x), Inputs { blocks, last: x })
}

/// Returns the gradient by each of the adapter's leaves, in their order, where `by_hidden` `[labels, hidden]` is that by the
/// hidden states.
pub(crate) fn gradients(
    model: &Model,
    active: Active<'_>,
    packed: &mut Packed,
    inputs: Inputs,
    by_hidden: &Tensor,
) -> Vec<Tensor> {
    let lora = active.lora();
    let leaves = lora.leaves();
    let mut found: Vec<Option<Tensor>> = leaves.iter().map(|_| None).collect();
    let mut pass = model.pass(&packed.positions, &mut packed.attention, Some(active));
    let last = inputs.last.set_requires_grad(true);
    let mut by_x = backward(&model.normed(&last), by_hidden, &[&last]).pop();
    let lowest = lora.lowest_layer();
    for (layer, input) in inputs.blocks.into_iter().enumerate().skip(lowest).rev() {
        let Some(by_output) = by_x.take() else { break };
        let x = input.set_requires_grad(layer > lowest);
        let output = model.block(layer, &x, &mut pass, &packed.sources);
        let places = lora.leaves_of(layer);
        let mut wanted: Vec<&Tensor> = places.iter().map(|place| &leaves[*place]).collect();
        // nobody asks for the gradient below the lowest adapter
        wanted.extend((layer > lowest).then_some(&x));
        let mut by_wanted = backward(&output, &by_output, &wanted).into_iter();
        places.into_iter().zip(by_wanted.by_ref()).for_each(|(place, gradient)| found[place] = Some(gradient));
        by_x = by_wanted.next();
    }
    found.into_iter().map(|gradient| gradient.expect("every leaf belongs to a block")).collect()
}

/// Returns the gradients by `wanted` where that by `y` is `by_y`. libtorch differentiates sums only: this one's by `y` is it.
fn backward(y: &Tensor, by_y: &Tensor, wanted: &[&Tensor]) -> Vec<Tensor> {
    Tensor::run_backward(&[(y * by_y).sum(Kind::Float)], wanted, false, false)
}
