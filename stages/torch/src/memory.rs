//! Running out of memory, as an error that a caller can answer with fewer rows at once.
//!
//! tch's operators panic with libtorch's words where an allocation fails. Writing every operator of the forward pass in its
//! fallible form would hide the model behind question marks, so the panic is caught at the one place that can answer it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::{Error, Result};

/// What allocators say: libtorch's on the processor, CUDA's, and cuBLAS's for its workspace.
const WORDS: [&str; 4] = ["can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"];

/// Longest part of libtorch's words that is worth reading: how much was asked for, not the stack behind it.
const SHOWN: usize = 160;

/// Returns what `work` returns, with [`Error::OutOfMemory`] where an allocation of libtorch's failed inside. What `work` was
/// changing is as it was left; gradients must then be forgotten.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Err(Error::Torch(error))) => Err(refused(&error.to_string()).unwrap_or(Error::Torch(error))),
        Ok(done) => done,
        Err(panic) => match refused(text(&*panic)) {
            Some(error) => Err(error),
            None => resume_unwind(panic),
        },
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

fn refused(text: &str) -> Option<Error> {
    let start = WORDS.iter().filter_map(|words| text.find(words)).min()?;
    // the panic's text is quoted, so its line ends are written out
    let line = text[start..].split("\\n").next().unwrap_or_default();
    Some(Error::OutOfMemory(line.lines().next().unwrap_or_default().chars().take(SHOWN).collect()))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn allocation_that_fails_is_an_error_and_other_panics_go_on() {
        let huge = || Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu));
        let error = caught(|| Ok(huge().numel())).unwrap_err();
        assert!(
            matches!(&error, Error::OutOfMemory(text) if text.starts_with("can't allocate memory: you tried to allocate")),
            "{error}"
        );
        assert!(!error.to_string().contains('\n') && error.to_string().len() < 200, "{error}");
        let tried = || Ok(Tensor::f_zeros([1 << 50], (Kind::Float, Device::Cpu))?.numel());
        assert!(matches!(caught(tried), Err(Error::OutOfMemory(_))));
        let mismatch = || {
            caught(|| {
                Ok(Tensor::zeros([2, 3], (Kind::Float, Device::Cpu))
                    .matmul(&Tensor::zeros([2, 3], (Kind::Float, Device::Cpu))))
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(mismatch)).is_err());
        assert_eq!(caught(|| Ok(7)).unwrap(), 7);
    }
}
