//! A model with an adapter folded in, tensor by tensor: merged in f32, rounded once, never held whole.

use crate::adapter::Adapter;
use crate::{Dtype, Error, ModelFiles, Result, quantise};

/// A base, and the adapter that its matrices gain.
pub struct Merged<'a> {
    /// The base.
    pub base: &'a ModelFiles,
    /// What is added; none writes the base anew.
    pub adapter: Option<&'a Adapter>,
}

impl Merged<'_> {
    /// Returns the numbers of a tensor by Hugging Face name, rows in Hugging Face order.
    ///
    /// # Errors
    /// [`Error::Damaged`] when a number is not finite.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let mut numbers = self.base.tensor(name)?.to_f32();
        if let (Some(adapter), Some(module)) = (self.adapter, name.strip_suffix(".weight")) {
            adapter.merge(module, &mut numbers);
        }
        if numbers.iter().all(|number| number.is_finite()) {
            return Ok(numbers);
        }
        Err(Error::damaged(self.base.path(), format!("tensor `{name}` holds numbers that are not finite")))
    }

    /// Returns a tensor's stored bytes.
    ///
    /// # Errors
    /// Those of [`Merged::numbers`]; [`Error::Damaged`] for numbers beyond the type's range.
    pub fn stored(&self, name: &str, dtype: Dtype) -> Result<Vec<u8>> {
        let numbers = self.numbers(name)?;
        if dtype == Dtype::F16 && numbers.iter().any(|x| half::f16::from_f32(*x).is_infinite()) {
            let what = format!("tensor `{name}` holds numbers beyond 65504, which f16 cannot: choose `dtype: bf16`");
            return Err(Error::damaged(self.base.path(), what));
        }
        quantise::store(dtype, &numbers)
            .ok_or_else(|| Error::damaged(self.base.path(), format!("`{name}` cannot be stored as {}", dtype.name())))
    }
}
