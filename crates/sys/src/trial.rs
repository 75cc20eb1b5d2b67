//! Memory of our own to try things on: what a fault or a scan costs on this host.

use std::io;
use std::ptr::NonNull;

use mem::AddrRange;

const PAGE_BYTES: usize = 4096;

/// Ordinary pages (no huge ones), filled, that nothing else uses.
#[derive(Debug)]
pub struct TrialPages {
    base: NonNull<u8>,
    count: usize,
}

impl TrialPages {
    /// Maps and fills so many.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new(count: usize) -> io::Result<Self> {
        let bytes = count.max(1) * PAGE_BYTES;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range is our own mapping. Without huge pages on this host there is nothing
        // to advise against, so the result is not looked at.
        unsafe { libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE) };
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            return Err(io::Error::other("the kernel mapped the null page"));
        };
        let mut pages = Self { base, count: count.max(1) };
        pages.write_each(1);
        Ok(pages)
    }

    /// Writes one word of each page.
    pub fn write_each(&mut self, value: u64) {
        for page in 0..self.count {
            // SAFETY: the word lies inside the mapping, which is borrowed mutably. Volatile, so
            // that each page is really touched.
            unsafe {
                self.base.as_ptr().add(page * PAGE_BYTES).cast::<u64>().write_volatile(value);
            }
        }
    }

    /// Writes one word of `count` pages that lie all over the place, each another one as long as
    /// there are so many; as programs do, and dearer than one page after the other.
    pub fn write_scattered(&mut self, count: usize, value: u64) {
        // No divisor of any number of pages that is a power of two.
        const STEP: usize = 7919;
        let mut page = usize::try_from(value).unwrap_or(0) % self.count;
        for _ in 0..count {
            page = (page + STEP) % self.count;
            // SAFETY: the word lies inside the mapping, which is borrowed mutably.
            unsafe {
                self.base.as_ptr().add(page * PAGE_BYTES).cast::<u64>().write_volatile(value);
            }
        }
    }

    /// Gives the pages back to the kernel: the next touch of each is a fault.
    ///
    /// # Errors
    /// What madvise(2) says.
    pub fn discard(&mut self) -> io::Result<()> {
        let bytes = self.count * PAGE_BYTES;
        // SAFETY: the range is our own mapping, which holds no Rust object.
        let done = unsafe { libc::madvise(self.base.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Where they lie.
    pub fn range(&self) -> AddrRange {
        let start = self.base.as_ptr().addr() as u64;
        AddrRange::new(start, start + (self.count * PAGE_BYTES) as u64)
    }
}

impl Drop for TrialPages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.count * PAGE_BYTES) };
    }
}
