//! One frame of the extent index.

use mem::{MemoryId, PageRange};
use plan::{Tier, Treatment};

use crate::FrameHash;

/// Where a frame's stored bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameSource {
    /// In this checkpoint.
    Here,
    /// In the parent with this position in the manifest's list of parents.
    Parent(u16),
}

/// One frame: which pages, how soon, how, where, and what they hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which memory.
    pub memory: MemoryId,
    /// Which pages: 1 to 16 inside one chunk of 16 aligned pages.
    pub pages: PageRange,
    /// Which pages the stored bytes decode to: `pages`, and around them perhaps others of the
    /// same chunk that another frame has, because they were written again later.
    pub held: PageRange,
    /// How soon it is needed.
    pub tier: Tier,
    /// How the stored bytes become pages.
    pub treatment: Treatment,
    /// Which checkpoint holds the stored bytes.
    pub source: FrameSource,
    /// Which data file of it, by the number in the manifest.
    pub file: u16,
    /// Where in the file the stored bytes begin.
    pub offset_bytes: u64,
    /// How many there are; 0 for zero frames.
    pub stored_bytes: u32,
    /// Position in the order of loading; lower is sooner.
    pub load_order: u32,
    /// Keyed hash of the pages held; all zero for zero frames.
    pub hash: FrameHash,
    /// crc32c of the stored bytes.
    pub stored_crc32c: u32,
}
