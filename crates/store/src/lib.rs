//! Where checkpoints live: a directory store. Signatures first; the bodies follow.
#![forbid(unsafe_code)]

mod checkpoint;
mod error;
mod store;
mod writer;

pub use checkpoint::{Batch, BatchReader, Checkpoint, Verified};
pub use error::{ReadError, RemoveError, ResolveError, StoreError, WriteError};
pub use store::{Found, LineLock, Listed, Pruned, Store};
pub use writer::{CheckpointWriter, Published, WriteOptions};
