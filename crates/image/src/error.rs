//! Why bytes are not a checkpoint, or a checkpoint not bytes.

use plan::Treatment;

use crate::FrameHash;
use crate::convert::Invalid;

/// Why a manifest or an index cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes end too soon, or go on too long.
    #[error("{what} has {found} bytes instead of {expected}")]
    Length {
        /// Which part.
        what: &'static str,
        /// How many it should have, as far as known.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// Something else altogether.
    #[error("{what} does not begin with the magic number of one")]
    Magic {
        /// What it should have been.
        what: &'static str,
    },
    /// Made by a later version.
    #[error(
        "{what} has format version {version}, this program reads up to {known}: use a newer one"
    )]
    NewerVersion {
        /// Which part.
        what: &'static str,
        /// Its version.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// A flag that must be understood is not.
    #[error(
        "the header has required flags {flags:#x} that this program does not know: use a newer one"
    )]
    UnknownFlags {
        /// The unknown ones.
        flags: u64,
    },
    /// A section that must be understood is not.
    #[error(
        "section {name:?} (kind {kind}, version {version}) is required and not known to this \
         program: use a newer one"
    )]
    UnknownSection {
        /// What it calls itself.
        name: String,
        /// Its kind.
        kind: u32,
        /// Its version.
        version: u16,
    },
    /// A section that every checkpoint has is not there.
    #[error("section {name:?} is missing")]
    MissingSection {
        /// Its name.
        name: &'static str,
    },
    /// The bytes are not those that were written.
    #[error("{what} does not match its checksum")]
    Checksum {
        /// Which part.
        what: String,
    },
    /// The hashes were made with another key.
    #[error("the hashes were made with another line key")]
    Key,
    /// A count or length above its stated maximum.
    #[error("{what} is {found}, at most {max} is allowed")]
    Limit {
        /// Which count.
        what: &'static str,
        /// The claim.
        found: u64,
        /// The maximum.
        max: u64,
    },
    /// Intact and yet without sense.
    #[error("{what}: {detail}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// Why values cannot be written as a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A value that the format cannot hold, or a reference that leads nowhere.
    #[error("{what}: {detail}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A page was put twice.
    #[error("{pages} of {memory} was put twice")]
    Twice {
        /// Which memory.
        memory: mem::MemoryId,
        /// Which pages.
        pages: mem::PageRange,
    },
    /// The plan's extents overlap.
    #[error("the plan has {pages} of {memory} twice")]
    PlannedTwice {
        /// Which memory.
        memory: mem::MemoryId,
        /// Which pages.
        pages: mem::PageRange,
    },
    /// A page was put that the plan does not know or leaves out.
    #[error("{pages} of {memory} was put but the plan does not store it")]
    NotPlanned {
        /// Which memory.
        memory: mem::MemoryId,
        /// Which pages.
        pages: mem::PageRange,
    },
    /// The plan stores a page that was never put.
    #[error("{pages} of {memory} is to be stored ({}) but was not put", treatment.name())]
    NotPut {
        /// Which memory.
        memory: mem::MemoryId,
        /// Which pages.
        pages: mem::PageRange,
        /// How it was to be stored.
        treatment: Treatment,
    },
}

/// Why a frame's stored bytes are not its pages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The stored bytes were altered.
    #[error("the stored bytes have crc32c {found:08x} instead of {expected:08x}")]
    Checksum {
        /// What the index says.
        expected: u32,
        /// What the bytes have.
        found: u32,
    },
    /// The stored bytes do not decode.
    #[error("{0}")]
    Decode(#[from] codec::DecodeError),
    /// The stored bytes, which several frames share, do not have the frame's part.
    #[error("the stored bytes have {parts} parts, none of which is the frame's, number {slot}")]
    Part {
        /// Which part the index says it is.
        slot: u8,
        /// How many there are.
        parts: usize,
    },
    /// The pages are not the ones that were written.
    #[error("the pages do not match their keyed hash")]
    Hash {
        /// What the index says.
        expected: FrameHash,
        /// What the pages have.
        found: FrameHash,
    },
}

impl FormatError {
    pub(crate) fn invalid(what: &'static str, detail: &Invalid) -> Self {
        Self::Invalid { what, detail: detail.to_string() }
    }
}

impl LayoutError {
    pub(crate) fn invalid(what: &'static str, detail: &Invalid) -> Self {
        Self::Invalid { what, detail: detail.to_string() }
    }
}
