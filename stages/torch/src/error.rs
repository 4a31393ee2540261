//! What can go wrong between ids and tensors.

use std::path::{Path, PathBuf};

/// Why training or generation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's files cannot be used.
    #[error(transparent)]
    Weights(#[from] watershed_weights::Error),
    /// A libtorch operation failed; the message holds the operation and the shapes.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The device that was asked for is not usable.
    #[error("{0}")]
    Device(String),
    /// Rows, prompts or settings that the model cannot take.
    #[error("{0}")]
    Input(String),
    /// The loss or the gradient is no longer a number.
    #[error("the {what} of update {step} is {value}")]
    Diverged {
        /// `loss`, `gradient norm`, `validation loss` or `likelihood of a sampled answer`.
        what: &'static str,
        /// The update, counted from 1.
        step: u64,
        /// What it was.
        value: f64,
    },
    /// The model's logits are no numbers, so that no token is likelier than another.
    #[error(
        "after prompt `{prompt}` the model's logits are not finite: is the base or its `config.json` damaged, or was the adapter trained with a far too large `lr` or `lora.alpha`?"
    )]
    NotFinite {
        /// The prompt's id.
        prompt: String,
    },
    /// The work was to end before it was done.
    #[error("cancelled")]
    Cancelled,
    /// The device has no room for the rows that were given at once; fewer may fit.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// An adapter or a checkpoint that cannot be read or written.
    #[error("cannot {verb} `{}`: {why}", path.display())]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        why: String,
    },
}

impl Error {
    pub(crate) fn not_finite(prompt: &str) -> Error {
        Error::NotFinite { prompt: prompt.to_owned() }
    }

    pub(crate) fn read(path: &Path, why: impl ToString) -> Error {
        Error::File { verb: "read", path: path.to_owned(), why: why.to_string() }
    }

    pub(crate) fn write(path: &Path, why: impl ToString) -> Error {
        Error::File { verb: "write", path: path.to_owned(), why: why.to_string() }
    }
}
