//! One tensor's place in a mapped file, and its numbers.

use std::borrow::Cow;

use crate::{Dtype, dequant};

/// A tensor as its file holds it, rows in Hugging Face order.
pub struct TensorView<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> TensorView<'a> {
    /// Returns the view; `bytes` must be what `dtype` and `shape` make, which the openers of files have checked.
    pub(crate) fn new(dtype: Dtype, shape: Vec<usize>, bytes: &'a [u8]) -> TensorView<'a> {
        TensorView { dtype, shape, bytes: Cow::Borrowed(bytes) }
    }

    /// Returns how the numbers are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the sizes, outermost first (`[out, in]` for a projection).
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the stored bytes, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the numbers, expanded where they are quantised.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.shape.iter().product()];
        dequant::expand(self.dtype, &self.bytes, &mut out);
        out
    }

    /// Returns the tensor with the rows of each of `heads` heads taken from GGUF's interleaved order back to Hugging
    /// Face's halves (undoes llama.cpp `convert_hf_to_gguf.py`, `LlamaModel.permute`). Blocks lie within rows, so rows
    /// move as bytes; this copies the tensor.
    pub(crate) fn halved(self, heads: usize) -> TensorView<'a> {
        let rows = self.shape[0];
        let (row_bytes, head_dim) = (self.bytes.len() / rows, rows / heads);
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for row in 0..rows {
            let (head, half, i) = (row / head_dim, row % head_dim / (head_dim / 2), row % (head_dim / 2));
            let from = (head * head_dim + 2 * i + half) * row_bytes;
            bytes.extend_from_slice(&self.bytes[from..from + row_bytes]);
        }
        TensorView { bytes: Cow::Owned(bytes), ..self }
    }
}
