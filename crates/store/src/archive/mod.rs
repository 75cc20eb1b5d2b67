//! A checkpoint, and those it builds on, as one stream: a tar archive of a store that holds nothing
//! else.
//!
//! ```text
//! layout                      the text that says what it is
//! lines/ lines/INSTANCE/      directories, 0700
//! lines/INSTANCE/key          the key of all hashes below
//! tmp/ checkpoints/
//! checkpoints/ID/             for each checkpoint, a parent before its child; the last one is
//! checkpoints/ID/manifest     what was asked for
//! checkpoints/ID/...          the other files, in the order of the manifest, with its lengths
//! two blocks of zeros
//! ```
//! The order is fixed, and every header is the one that we would write: there is one stream for
//! what it holds, so that a byte that is off anywhere is noticed. What comes after the manifest was
//! told by it, and it is checked before anything that it tells of is made. Nothing is visible before
//! all is there, checked and synced. Read next: [`Checkpoint::export`](crate::Checkpoint::export),
//! [`Store::receive`](crate::Store::receive).

mod error;
mod member;
mod receive;
mod send;
mod staged;
mod stream;

pub use error::{ExportError, ImportError};
pub use receive::{Checked, Imported, Received};
pub use send::Exported;

/// Bytes that are read or written in one go.
const PIECE_BYTES: usize = 1 << 20;
