//! Names inside a checkpoint's directory.

/// The manifest, which names the other files.
pub(crate) const MANIFEST: &str = "manifest";
/// The extent index of a checkpoint we write.
pub(crate) const INDEX: &str = "index";
/// The hashes of the pages of a checkpoint we write.
pub(crate) const HASHES: &str = "hashes";
/// The data file of a checkpoint we write; of one that is divided, for warm pages.
pub(crate) const PAGES: &str = "pages";
/// For critical pages.
pub(crate) const CRITICAL: &str = "critical";
/// For cold pages, which a resume does not read unless they are touched.
pub(crate) const COLD: &str = "cold";
/// Pages of ranges in which a loss is allowed, until all is copied; it has no name for long.
pub(crate) const NAMED: &str = "named";
/// A data file while it is written anew.
pub(crate) const NEW_DATA: &str = "data.new";

/// What raw frames and pieces of the data file are aligned to: what O_DIRECT and mapping want.
pub(crate) const ALIGNMENT_BYTES: u64 = 4096;
