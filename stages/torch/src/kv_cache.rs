//! Keys and values of answers in the making, allocated once for a batch.
//!
//! Rows end at the same column, so that every decode step writes one column and all rows share it; a shorter row begins
//! later, and the columns before it are masked. A finished row is overwritten by the last one: the batch shrinks without
//! copying the cache.

use tch::{Kind, Tensor};

use crate::Model;
use crate::attention::{Attention, Causal};

/// The cache of one batch.
pub(crate) struct KvCache {
    /// Keys and values by layer, each `[rows, kv_heads, columns, head_dim]`.
    layers: Vec<(Tensor, Tensor)>,
    /// First column of each row in use.
    starts: Vec<i64>,
    /// Columns filled; the same for all rows.
    filled: i64,
    /// `[rows, 1, 1, columns]`, true where a row may look; none when all rows begin at 0.
    mask: Option<Tensor>,
}

/// Whole prompts: attends causally and keeps their keys and values.
pub(crate) struct Prefill<'a> {
    pub(crate) cache: &'a mut KvCache,
    pub(crate) causal: Causal,
    /// The cache's row of the first prompt; the others follow.
    pub(crate) first: usize,
}

/// One new token for each row.
pub(crate) struct Decode<'a> {
    pub(crate) cache: &'a mut KvCache,
}

impl KvCache {
    /// Allocates room for prompts of these lengths and `new` tokens more.
    pub(crate) fn new(model: &Model, lengths: &[usize], new: usize) -> KvCache {
        let config = model.config();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let shape = [lengths.len(), config.kv_heads, longest + new, config.head_dim].map(|size| size as i64);
        let room = || Tensor::zeros(shape, (model.kind(), model.device()));
        let starts: Vec<i64> = lengths.iter().map(|length| (longest - length) as i64).collect();
        let columns = Tensor::arange(shape[2], (Kind::Int64, model.device()));
        let first = Tensor::from_slice(&starts).to_device(model.device()).view([-1, 1, 1, 1]);
        let mask = starts.iter().any(|start| *start > 0).then(|| columns.ge_tensor(&first));
        KvCache { layers: (0..config.layers).map(|_| (room(), room())).collect(), starts, filled: longest as i64, mask }
    }

    /// Returns the position of each row's next token.
    pub(crate) fn positions(&self) -> impl Iterator<Item = i64> + '_ {
        self.starts.iter().map(|start| self.filled - start)
    }

    /// Returns the number of rows in use.
    pub(crate) fn rows(&self) -> usize {
        self.starts.len()
    }

    /// Makes room for the next column, after every layer has written this one.
    pub(crate) fn advance(&mut self) {
        self.filled += 1;
    }

    /// Drops a row; the last row takes its place.
    pub(crate) fn swap_remove(&mut self, row: usize) {
        let last = self.rows() - 1;
        self.starts.swap_remove(row);
        if row == last {
            return;
        }
        let tensors = self.layers.iter().flat_map(|(k, v)| [k, v]).chain(&self.mask);
        for tensor in tensors {
            tensor.get(row as i64).copy_(&tensor.get(last as i64));
        }
    }

    fn fill(&mut self, layer: usize, row: usize, k: &Tensor, v: &Tensor) {
        let (start, length) = (self.starts[row], k.size()[0]);
        let (keys, values) = &self.layers[layer];
        keys.get(row as i64).narrow(1, start, length).copy_(&k.transpose(0, 1));
        values.get(row as i64).narrow(1, start, length).copy_(&v.transpose(0, 1));
    }

    fn append(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let rows = self.rows() as i64;
        let (keys, values) = &self.layers[layer];
        let (keys, values) = (keys.narrow(0, 0, rows), values.narrow(0, 0, rows));
        keys.narrow(2, self.filled, 1).copy_(&k.unsqueeze(2));
        values.narrow(2, self.filled, 1).copy_(&v.unsqueeze(2));
        (keys.narrow(2, 0, self.filled + 1), values.narrow(2, 0, self.filled + 1))
    }
}

impl Attention for Prefill<'_> {
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let split = |x: &Tensor| x.split_with_sizes(self.causal.lengths.as_slice(), 0);
        for (row, (k, v)) in split(k).iter().zip(&split(v)).enumerate() {
            self.cache.fill(layer, self.first + row, k, v);
        }
        self.causal.attend(layer, q, k, v)
    }
}

impl Attention for Decode<'_> {
    /// Query heads that share keys become the rows of one small matrix, so that keys are read once and never repeated.
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (keys, values) = self.cache.append(layer, k, v);
        let (rows, kv_heads) = (k.size()[0], k.size()[1]);
        let grouped = q.view([rows, kv_heads, -1, q.size()[2]]);
        let mask = self.cache.mask.as_ref().map(|mask| mask.narrow(0, 0, rows).narrow(3, 0, self.cache.filled + 1));
        let out =
            Tensor::scaled_dot_product_attention(&grouped, &keys, &values, mask.as_ref(), 0.0, false, None, false);
        out.reshape(q.size())
    }
}
