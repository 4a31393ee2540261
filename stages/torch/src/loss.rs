//! Cross-entropy at labelled positions, in slices that never hold all logits at once.
//!
//! The output projection is the largest matrix of a small model and most positions have no label, so logits are made only
//! where one is. Its gradient is written out (softmax minus one-hot, times the projection) while a slice's logits are at
//! hand: autograd would keep every slice, and two of `[labels, vocab]` are more memory than the model.

use tch::{Kind, Tensor};

use crate::Model;

/// Largest number of logits at once: 64 MiB of f32.
const LOGITS: i64 = 1 << 24;

/// Returns the negative log-likelihood `[labels]` in f64 of `targets` at `hidden` `[labels, hidden]`.
pub(crate) fn nll(model: &Model, hidden: &Tensor, targets: &Tensor) -> Tensor {
    let parts = slices(at_once(model), hidden, targets);
    Tensor::cat(&parts.map(|(hidden, targets)| entropy(&model.project(&hidden), &targets).0).collect::<Vec<_>>(), 0)
}

/// Returns [`nll`] and the gradient `[labels, hidden]` of its sum by `hidden`, in the model's type.
pub(crate) fn nll_and_gradient(model: &Model, hidden: &Tensor, targets: &Tensor) -> (Tensor, Tensor) {
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for (hidden, targets) in slices(at_once(model), hidden, targets) {
        let mut logits = model.project(&hidden);
        let (nll, log_sum) = entropy(&logits, &targets);
        losses.push(nll);
        let mut softmax = logits.g_sub_(&log_sum.unsqueeze(1)).exp_();
        let minus = Tensor::full([targets.size()[0], 1], -1.0, (Kind::Float, softmax.device()));
        let _ = softmax.scatter_add_(1, &targets.unsqueeze(1), &minus);
        gradients.push(softmax.to_kind(model.kind()).matmul(model.head()));
    }
    (Tensor::cat(&losses, 0), Tensor::cat(&gradients, 0))
}

/// Returns how many hidden states are projected at once.
pub(crate) fn at_once(model: &Model) -> i64 {
    (LOGITS / model.config().vocab as i64).max(1)
}

/// Cuts two tensors of one length alongside each other, `at_once` rows a slice.
pub(crate) fn slices<'a>(
    at_once: i64,
    one: &'a Tensor,
    other: &'a Tensor,
) -> impl Iterator<Item = (Tensor, Tensor)> + 'a {
    let rows = one.size()[0];
    let cut = move |start: i64| {
        let len = at_once.min(rows - start);
        (one.narrow(0, start, len), other.narrow(0, start, len))
    };
    (0..rows).step_by(at_once as usize).map(cut)
}

/// Returns the loss of each row in f64, and its log-sum-exp.
fn entropy(logits: &Tensor, targets: &Tensor) -> (Tensor, Tensor) {
    let log_sum = logits.logsumexp([-1], false);
    let picked = logits.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
    ((&log_sum - picked).to_kind(Kind::Double), log_sum)
}
