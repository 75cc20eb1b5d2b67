//! Names inside a checkpoint's directory.

/// The manifest, which names the other files.
pub(crate) const MANIFEST: &str = "manifest";
/// The extent index of a checkpoint we write.
pub(crate) const INDEX: &str = "index";
/// The hashes of the pages of a checkpoint we write.
pub(crate) const HASHES: &str = "hashes";
/// The data file of a checkpoint we write.
pub(crate) const PAGES: &str = "pages";
/// Its successor while it is written anew without what nobody needs.
pub(crate) const COMPACT_PAGES: &str = "pages.new";

/// What raw frames and pieces of the data file are aligned to: what O_DIRECT and mapping want.
pub(crate) const ALIGNMENT_BYTES: u64 = 4096;
