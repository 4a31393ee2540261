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
    /// [`Error::Damaged`] when a number is not finite, and whether the base or the adapter made it so.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let mut numbers = self.base.tensor(name)?.to_f32();
        self.check(&numbers, || format!("tensor `{name}` holds numbers that are not finite: fetch the model again"))?;
        if let (Some(adapter), Some(module)) = (self.adapter, name.strip_suffix(".weight")) {
            adapter.merge(module, &mut numbers);
            let why =
                || format!("tensor `{name}` is sound, and not finite with the adapter: is its `lora_alpha` too large?");
            self.check(&numbers, why)?;
        }
        Ok(numbers)
    }

    fn check(&self, numbers: &[f32], why: impl FnOnce() -> String) -> Result<()> {
        let is_sound = numbers.iter().all(|number| number.is_finite());
        if is_sound { Ok(()) } else { Err(Error::damaged(self.base.path(), why())) }
    }

    /// Returns a tensor's stored bytes.
    ///
    /// # Errors
    /// Those of [`Merged::numbers`]; [`Error::Damaged`] for numbers beyond the type's range.
    pub fn stored(&self, name: &str, dtype: Dtype) -> Result<Vec<u8>> {
        let numbers = self.numbers(name)?;
        if quantise::is_beyond(dtype, &numbers) {
            let what = format!("tensor `{name}` holds numbers beyond 65504, which f16 cannot: choose `dtype: bf16`");
            return Err(Error::damaged(self.base.path(), what));
        }
        quantise::store(dtype, &numbers)
            .ok_or_else(|| Error::damaged(self.base.path(), format!("`{name}` cannot be stored as {}", dtype.name())))
    }
}
