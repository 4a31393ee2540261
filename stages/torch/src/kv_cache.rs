//! Keys and values of answers in the making, allocated once for a batch.
//!
//! Rows end at the same column, so that every decode step writes one column and all rows share it; a shorter row begins
//! later, and the columns before it are masked. A finished row is overwritten by the last one: the batch shrinks without
//! copying the cache. What all prompts begin with is computed once, in a cache of one row, and copied into each row.

use tch::{Kind, Tensor};

use crate::Model;
use crate::attention::{Attention, Causal, attend_grouped};

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

/// Prompts, or what they have beyond a prefix that the cache holds: attends causally and keeps their keys and values.
pub(crate) struct Prefill<'a> {
    cache: &'a mut KvCache,
    /// The cache's row of the first prompt; the others follow.
    first: usize,
    /// Tokens that each row holds already.
    shared: i64,
    causal: Causal,
    /// By group of neighbours of one length: their number, and `[length, shared + length]`, true where a token may look.
    masks: Vec<(i64, Tensor)>,
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

    /// Copies the only row of `prefix` to the beginning of every row.
    pub(crate) fn begin_with(&mut self, prefix: &KvCache) {
        let rows = self.starts.chunk_by(|a, b| a == b).scan(0, |first, rows| {
            *first += rows.len();
            Some((*first - rows.len(), rows))
        });
        for (first, rows) in rows {
            for ((keys, values), (k, v)) in self.layers.iter().zip(&prefix.layers) {
                let place = |x: &Tensor| x.narrow(0, first as i64, rows.len() as i64).narrow(2, rows[0], prefix.filled);
                place(keys).copy_(k);
                place(values).copy_(v);
            }
        }
    }

    /// Makes row `i` what row `rows[i]` was; rows may come several times, or not at all. Copies the cache.
    pub(crate) fn select(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.rows()) {
            return;
        }
        let device = self.layers.first().map_or(tch::Device::Cpu, |(keys, _)| keys.device());
        let index = Tensor::from_slice(&rows.iter().map(|row| *row as i64).collect::<Vec<_>>()).to_device(device);
        let tensors = self.layers.iter_mut().flat_map(|(k, v)| [k, v]).chain(&mut self.mask);
        for tensor in tensors {
            *tensor = tensor.index_select(0, &index);
        }
        self.starts = rows.iter().map(|row| self.starts[*row]).collect();
    }

    /// Returns the position of each row's next token.
    pub(crate) fn positions(&self) -> impl Iterator<Item = i64> + '_ {
        self.starts.iter().map(|start| self.filled - start)
    }

    /// Returns the number of columns filled.
    pub(crate) fn filled(&self) -> i64 {
        self.filled
    }

    /// Returns the filled keys and values `[1, kv_heads, filled, head_dim]` of a cache of one row.
    pub(crate) fn row(&self, layer: usize) -> (Tensor, Tensor) {
        let (keys, values) = &self.layers[layer];
        (keys.narrow(2, 0, self.filled), values.narrow(2, 0, self.filled))
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

    fn fill(&mut self, layer: usize, row: usize, shared: i64, k: &Tensor, v: &Tensor) {
        let (start, length) = (self.starts[row] + shared, k.size()[0]);
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

impl<'a> Prefill<'a> {
    /// Returns the feeding of rows `first..` with so many tokens each, behind `shared` tokens that they hold.
    pub(crate) fn new(cache: &'a mut KvCache, first: usize, shared: usize, lengths: Vec<i64>) -> Prefill<'a> {
        let device = cache.layers.first().map_or(tch::Device::Cpu, |(keys, _)| keys.device());
        let shared = shared as i64;
        let mask = |rows: &[i64]| {
            let all = Tensor::ones([rows[0], shared + rows[0]], (Kind::Bool, device));
            (rows.len() as i64, all.tril(shared))
        };
        let masks = if shared == 0 { Vec::new() } else { lengths.chunk_by(|a, b| a == b).map(mask).collect() };
        Prefill { cache, first, shared, causal: Causal { lengths }, masks }
    }

    /// Attends each group of rows to what its rows hold and to itself.
    fn attend_behind(&self, layer: usize, q: &Tensor) -> Tensor {
        let (keys, values) = &self.cache.layers[layer];
        let (mut row, mut token) = (self.first as i64, 0);
        let mut attended = Vec::with_capacity(self.masks.len());
        for (rows, mask) in &self.masks {
            let (length, columns) = (mask.size()[0], mask.size()[1]);
            let held = |x: &Tensor| x.narrow(0, row, *rows).narrow(2, self.cache.starts[row as usize], columns);
            let q = q.narrow(0, token, rows * length).unflatten(0, [*rows, length]);
            attended.push(attend_grouped(&q, &held(keys), &held(values), Some(mask)).flatten(0, 1));
            (row, token) = (row + rows, token + rows * length);
        }
        Tensor::cat(&attended, 0)
    }
}

impl Attention for Prefill<'_> {
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let split = |x: &Tensor| x.split_with_sizes(self.causal.lengths.as_slice(), 0);
        for (row, (k, v)) in split(k).iter().zip(&split(v)).enumerate() {
            self.cache.fill(layer, self.first + row, self.shared, k, v);
        }
        if self.shared == 0 { self.causal.attend(layer, q, k, v) } else { self.attend_behind(layer, q) }
    }
}

impl Attention for Decode<'_> {
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (keys, values) = self.cache.append(layer, k, v);
        let mask = self.cache.mask.as_ref();
        let mask = mask.map(|mask| mask.narrow(0, 0, k.size()[0]).narrow(3, 0, self.cache.filled + 1));
        attend_grouped(&q.unsqueeze(1), &keys, &values, mask.as_ref()).squeeze_dim(1)
    }
}
