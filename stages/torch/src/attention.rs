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

/// Returns the attended values `[rows, tokens, heads, head_dim]` of queries of that shape over keys and values
/// `[rows, kv_heads, columns, head_dim]`; `mask` is `[tokens, columns]` or broadcasts to `[rows, 1, tokens, columns]`, true
/// where a token may look. Query heads that share keys become rows of one matrix, so that keys are read once, never repeated.
pub(crate) fn attend_grouped(q: &Tensor, keys: &Tensor, values: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let [rows, tokens, heads, head_dim] = q.size()[..] else { unreachable!("queries have four dimensions") };
    let (kv_heads, group) = (keys.size()[1], heads / keys.size()[1]);
    let grouped = q.unflatten(2, [kv_heads, group]).permute([0, 2, 3, 1, 4]).reshape([rows, kv_heads, -1, head_dim]);
    // One token a row has one line of mask, which broadcasts over the heads of a group.
    let mask = mask.map(|mask| if tokens == 1 { mask.shallow_clone() } else { mask.repeat([group, 1]) });
    let out = Tensor::scaled_dot_product_attention(&grouped, keys, values, mask.as_ref(), 0.0, false, None, false);
    out.unflatten(2, [group, tokens]).permute([0, 3, 1, 2, 4]).flatten(2, 3)
}
