//! Errors, one enum for each operation.

use std::path::PathBuf;

/// Why a store could not be opened, made or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The kernel refused.
    #[error("{action} {path}: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

/// Why a reference leads to no checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Nothing fits.
    #[error("find checkpoint {0}: none in the store")]
    NotFound(String),
}

/// Why a checkpoint could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Damaged.
    #[error("damaged")]
    Damaged,
}

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Full.
    #[error("full")]
    Full,
}

/// Why a checkpoint could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// In use.
    #[error("in use")]
    InUse,
}
