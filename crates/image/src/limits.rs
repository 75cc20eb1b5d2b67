//! The stated maximum of every count and length in the format. A file that claims more is
//! refused before anything is allocated for it.

/// Sections in a manifest.
pub(crate) const SECTIONS_MAX: u32 = 64;

/// Bytes in a section.
pub(crate) const SECTION_BYTES_MAX: u64 = 256 << 20;

/// Bytes in a manifest.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// Items in a list of a section.
pub(crate) const LIST_ITEMS_MAX: usize = 1 << 22;

/// Extents in a plan.
pub(crate) const EXTENTS_MAX: usize = 1 << 24;

/// Frames in an index: 4 TiB of pages at 16 pages a frame.
pub(crate) const FRAMES_MAX: u64 = 1 << 26;

/// Data files of a checkpoint.
pub(crate) const DATA_FILES_MAX: usize = 256;

/// Ranges in which a checkpoint may hold approximated memory.
pub const LOSS_ENTRIES_MAX: usize = 4096;

/// Files outside of the store that a checkpoint reads pages from.
pub(crate) const TWIN_FILES_MAX: usize = 4096;

/// Checkpoints behind each other that hold the pages of one: itself, its parent, and so on.
pub(crate) const CHAIN_LENGTH_MAX: u16 = 64;

/// Bytes in a file's name.
pub(crate) const FILE_NAME_BYTES_MAX: usize = 64;

/// One more than the highest page number. Addresses and object offsets have 64 bits, and the end
/// of a range of pages has to be one of them too.
pub(crate) const PAGE_NUMBER_END: u64 = (1 << 52) - 1;
