//! What a frame is.

use plan::Treatment;

/// Pages in a frame at most. A frame is a run of pages inside one aligned chunk of this many
/// pages, so that the same page always falls into the same chunk: 64 KiB is where the ratio
/// stops growing and a single page still costs less than a disk read.
pub const FRAME_PAGES_MAX: u64 = 16;

/// Bytes of pages in a frame at most.
pub const FRAME_BYTES_MAX: usize = 65536;

pub(crate) const PAGE_BYTES: usize = 4096;
const _: () = assert!(FRAME_BYTES_MAX as u64 == FRAME_PAGES_MAX * PAGE_BYTES as u64);

static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// An encoded frame: how, and the bytes to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// How `bytes` become pages again.
    pub treatment: Treatment,
    /// What to store; empty for [`Treatment::Zero`].
    pub bytes: &'a [u8],
}

/// Whether every byte is zero. Stops at the first page that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE_BYTES).all(|page| *page == ZERO_PAGE[..page.len()])
}

/// Whether a frame can hold exactly `length_bytes` of pages.
pub(crate) fn is_frame_length(length_bytes: usize) -> bool {
    length_bytes > 0 && length_bytes <= FRAME_BYTES_MAX && length_bytes.is_multiple_of(PAGE_BYTES)
}
