//! What can be wrong with a model's files.

use std::path::{Path, PathBuf};

/// Why a model's files cannot be used; every message names the file and the mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or mapped.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is damaged, cut off, or not what its name says.
    #[error("`{}` is not a usable model file: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        what: String,
    },
    /// The file is sound but asks for something that is not supported.
    #[error("`{}`: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported, and what to use instead.
        what: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("`{}` holds no tensor `{tensor}`: fetch the model again, or give the configuration that belongs to it", path.display())]
    Missing {
        /// The model's folder or file.
        path: PathBuf,
        /// Its Hugging Face name.
        tensor: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
        Error::Io { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Error {
        Error::Unsupported { path: path.to_owned(), what: what.into() }
    }
}
