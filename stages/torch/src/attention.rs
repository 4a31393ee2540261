//! Causal attention over rows packed end to end.

use tch::Tensor;

/// How the tokens of one forward pass see each other.
pub(crate) trait Attention {
    /// Returns the attended values `[tokens, heads, head_dim]` of layer `layer` for queries `[tokens, heads, head_dim]`,
    /// keys and values `[tokens, kv_heads, head_dim]`.
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor;
}

/// Whole rows, each seeing itself up to the current token. Neighbours of one length are attended at once, other rows one by
/// one: no padding is computed, and no mask keeps libtorch from its flash kernel.
pub(crate) struct Causal {
    /// Tokens of each row; their sum is the number of tokens.
    pub(crate) lengths: Vec<i64>,
}

impl Attention for Causal {
    fn attend(&mut self, _layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let groups: Vec<(i64, i64)> =
            self.lengths.chunk_by(|a, b| a == b).map(|rows| (rows.len() as i64, rows[0])).collect();
        if let [(rows, length)] = groups[..] {
            return attend_rows(rows, length, q, k, v);
        }
        let sizes: Vec<i64> = groups.iter().map(|(rows, length)| rows * length).collect();
        let split = |x: &Tensor| x.split_with_sizes(sizes.as_slice(), 0);
        let parts = split(q).into_iter().zip(split(k)).zip(split(v)).zip(&groups);
        let attended = parts.map(|(((q, k), v), (rows, length))| attend_rows(*rows, *length, &q, &k, &v));
        Tensor::cat(&attended.collect::<Vec<_>>(), 0)
    }
}

/// Attends `rows` rows of `length` tokens each.
fn attend_rows(rows: i64, length: i64, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let heads_first = |x: &Tensor| x.unflatten(0, [rows, length]).transpose(1, 2);
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
    out.transpose(1, 2).flatten(0, 1)
}
