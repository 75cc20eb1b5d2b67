//! The checkpoint's format: manifest (header, sections), extent index, sealed frames. Bytes in,
//! bytes out; where they lie is the business of `store`.
//!
//! `docs/FORMAT.md` describes the bytes for writers of other readers, `proto/rekindle.proto` the
//! metadata. This room is pure, and the only one that knows the format: the values of `process`
//! and `plan` are converted by hand and never serialised themselves. Read next: [`Manifest`],
//! [`Index`], [`Sealer`].
#![forbid(unsafe_code)]

mod arrange;
mod content;
mod convert;
mod error;
mod files;
mod frame;
mod generated;
mod hash;
mod hashes;
mod header;
mod id;
mod index;
mod latest;
mod limits;
mod loss;
mod manifest;
mod record;
mod seal;
mod section;
mod summary;
mod twin;

pub use arrange::arrange;
pub use content::{ContentHash, ContentHasher};
pub use error::{FormatError, LayoutError, OpenError};
pub use files::{DataFile, Files, IndexFile, ParentEntry, TwinFile};
pub use frame::{Frame, PageMask};
pub use hash::{FrameHash, PageHash, PageHasher};
pub use hashes::{HASHES_HEADER_BYTES, check_hashes_header, hashes_header};
pub use header::{FORMAT_VERSION, HEADER_BYTES, Header};
pub use id::{CheckpointId, LineKey, NotACheckpointId};
pub use index::{Index, IndexEntry, encode_index};
pub use latest::{Put, latest};
pub use limits::LOSS_ENTRIES_MAX;
pub use loss::LossRecord;
pub use manifest::{Manifest, PlanBytes};
pub use record::RECORD_BYTES as INDEX_RECORD_BYTES;
pub use seal::{Opener, Sealed, Sealer};
pub use summary::Summary;
pub use twin::TwinPlace;
