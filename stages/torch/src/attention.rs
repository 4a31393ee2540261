//! Causal attention over rows packed end to end.

use tch::Tensor;

/// How the tokens of one forward pass see each other.
pub(crate) trait Attention {
    /// Returns the attended values `[tokens, heads, head_dim]` of layer `layer` for queries `[tokens, heads, head_dim]`,
    /// keys and values `[tokens, kv_heads, head_dim]`.
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor;
}

/// Whole rows, each seeing itself up to the current token. Rows are attended one by one: no padding is computed, and no
/// mask keeps libtorch from its flash kernel.
pub(crate) struct Causal {
    /// Tokens of each row; their sum is the number of tokens.
    pub(crate) lengths: Vec<i64>,
}

impl Attention for Causal {
    fn attend(&mut self, _layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let split = |x: &Tensor| x.split_with_sizes(self.lengths.as_slice(), 0);
        let rows: Vec<Tensor> =
            split(q).iter().zip(split(k)).zip(split(v)).map(|((q, k), v)| attend_row(q, &k, &v)).collect();
        if rows.len() == 1 { rows[0].shallow_clone() } else { Tensor::cat(&rows, 0) }
    }
}

fn attend_row(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let heads_first = |x: &Tensor| x.transpose(0, 1).unsqueeze(0);
    let is_grouped = q.size()[1] != k.size()[1];
    let out = Tensor::scaled_dot_product_attention(
        &heads_first(q),
        &heads_first(k),
        &heads_first(v),
        None::<Tensor>,
        0.0,
        true,
        None,
        is_grouped,
    );
    out.squeeze_dim(0).transpose(0, 1)
}
