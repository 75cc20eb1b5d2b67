//! Where checkpoints live: a directory that is ours alone.
//!
//! A checkpoint is written under a temporary name, synced, and published by one rename; before
//! that nothing of it is visible, after it it survives a crash. Whoever reads one pins it. What
//! the bytes in the files mean is the business of `image`; this room moves, locks, syncs and
//! checks them. Read next: [`Store`], [`CheckpointWriter`], [`Checkpoint`].
#![forbid(unsafe_code)]

mod archive;
mod batch;
mod chain;
mod checkpoint;
mod compact;
mod consolidate;
mod content;
mod costs;
mod data;
mod dir;
mod divide;
mod error;
mod hashes;
mod known;
mod lane;
mod layout;
mod line;
mod line_faults;
mod line_heat;
mod list;
mod loss;
mod pace;
mod prune;
mod read;
mod recompress;
mod resolve;
mod solids;
mod store;
mod tiers;
mod twin_find;
mod twin_read;
mod verify;
mod writer;

pub use archive::{Checked, ExportError, Exported, ImportError, Imported, Received};
pub use batch::{Batch, BatchReader};
pub use checkpoint::{CHAIN_DEPTH_MAX, Checkpoint};
pub use error::{IoFailure, ReadError, RemoveError, ResolveError, StoreError, WriteError};
pub use line::LineLock;
pub use line_heat::LineHeat;
pub use list::{Damaged, Listed, Listing};
pub use prune::{Keep, Pruned};
pub use recompress::Recompressed;
pub use store::{Found, Store};
pub use tiers::TierSum;
pub use twin_find::Twins;
pub use twin_read::{TwinMismatch, open_regular};
pub use verify::Verified;
pub use writer::{Approximation, CheckpointWriter, Published, WriteOptions};
