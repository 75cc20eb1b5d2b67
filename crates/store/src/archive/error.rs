//! Why a checkpoint could not be sent or taken in.

use std::io;
use std::path::PathBuf;

use image::CheckpointId;

use crate::error::{IoFailure, ReadError, StoreError, WriteError};

/// Why a checkpoint could not be written to a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Whoever takes the stream does not.
    #[error("write the stream: {0}; nothing was changed, export again")]
    Stream(io::Error),
    /// A name or a length that does not fit into an archive.
    #[error("write the stream: {0}; this is a bug")]
    Member(String),
}

impl From<IoFailure> for ExportError {
    fn from(failure: IoFailure) -> Self {
        Self::Read(failure.into())
    }
}

/// Why what a stream holds was not taken in. Nothing of it is visible then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It holds something that does not pass its checks.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream cannot be read.
    #[error("read the stream: {0}")]
    Stream(io::Error),
    /// It is something else.
    #[error("read the stream: it is not what `rekindle export` writes")]
    NotAnExport,
    /// A later version wrote it.
    #[error(
        "read the stream: its layout is {layout:?}, this program knows {known:?}; use a newer one"
    )]
    Newer {
        /// What it says of itself.
        layout: String,
        /// What we would say.
        known: &'static str,
    },
    /// It ends too early.
    #[error("read the stream: it ends after {at_bytes} bytes, in the middle; export again")]
    Cut {
        /// How many bytes there were.
        at_bytes: u64,
    },
    /// Something in it is not as it was written.
    #[error("read the stream: {detail} (at byte {at_bytes}); it was altered, export again")]
    Altered {
        /// Where.
        at_bytes: u64,
        /// What.
        detail: String,
    },
    /// The line is here, with another key.
    #[error(
        "import checkpoints of instance {instance}: there are some with another key at {}, and one \
         line has one key; name another store with --store",
        path.display()
    )]
    Key {
        /// Whose line.
        instance: String,
        /// Where the other key is.
        path: PathBuf,
    },
    /// The id is here, and is something else.
    #[error(
        "import checkpoint {id}: {} has one of that name that holds something else; name another \
         store with --store",
        store.display()
    )]
    Differs {
        /// Which one.
        id: CheckpointId,
        /// Where.
        store: PathBuf,
    },
}

impl From<IoFailure> for ImportError {
    fn from(failure: IoFailure) -> Self {
        Self::Write(failure.into())
    }
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Write(error.into())
    }
}
