//! Mappings that a kind owns for the life of the program.

use crate::flaw::Outcome;
use crate::raw::Failed;
use crate::sys;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// A mapped range. It is never unmapped by itself: the witness runs until it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// First address.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Area {
    /// Anonymous private memory, readable and writable.
    pub fn private(len: usize) -> Result<Self, Failed> {
        Self::map(len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
    }

    /// Anonymous memory.
    pub fn map(len: usize, protection: i32, flags: i32) -> Result<Self, Failed> {
        Self::of_file(len, protection, flags, -1, 0)
    }

    /// A mapping of a file.
    pub fn of_file(
        len: usize,
        protection: i32,
        flags: i32,
        descriptor: i32,
        offset: usize,
    ) -> Result<Self, Failed> {
        let hint = std::ptr::null_mut();
        let start = sys!(libc::mmap(hint, len, protection, flags, descriptor, offset as i64))?;
        Ok(Self { start: start as usize, len })
    }

    /// The part that starts at `offset`.
    pub fn part(self, offset: usize, len: usize) -> Self {
        assert!(offset + len <= self.len, "part inside its area");
        Self { start: self.start + offset, len }
    }

    /// The `index`-th page.
    pub fn page(self, index: usize) -> Self {
        self.part(index * PAGE, PAGE)
    }

    /// Number of pages.
    pub fn pages(self) -> usize {
        self.len / PAGE
    }

    /// The address as a pointer.
    pub fn pointer<T>(self) -> *mut T {
        self.start as *mut T
    }

    /// The bytes. The caller's kind owns the range and no other thread writes to it meanwhile.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the kind mapped the range readable and never unmaps it while it is in use.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.len) }
    }

    /// The bytes, for writing.
    #[allow(clippy::mut_from_ref, reason = "an area is an address range, its kind the one owner")]
    pub fn bytes_mut(&self) -> &mut [u8] {
        // SAFETY: as in `bytes`; mappings of one object are written one at a time by one thread.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.len) }
    }

    /// `madvise`.
    pub fn advise(self, advice: i32) -> Result<(), Failed> {
        sys!(libc::madvise(self.pointer(), self.len, advice)).map(drop)
    }

    /// `mprotect`.
    pub fn protect(self, protection: i32) -> Result<(), Failed> {
        sys!(libc::mprotect(self.pointer(), self.len, protection)).map(drop)
    }

    /// `munmap`.
    pub fn unmap(self) -> Outcome {
        sys!(libc::munmap(self.pointer(), self.len))?;
        Ok(())
    }
}
