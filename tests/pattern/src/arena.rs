//! The memory, and the choice of its pages.

use std::io;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Pages of a region of 2 MB.
pub const REGION_PAGES: u64 = 512;

/// Memory in ordinary pages, all of them filled.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    base: *mut u8,
    /// How many pages.
    pub pages: u64,
}

// SAFETY: threads touch disjoint pages of it, and the memory is never given back.
unsafe impl Send for Arena {}

impl Arena {
    /// Maps and fills it.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new(mb: u64) -> io::Result<Self> {
        let bytes = usize::try_from(mb << 20).map_err(io::Error::other)?;
        // A page on each side that cannot be touched keeps it a mapping of its own, and the
        // regions of 2 MB begin where the arena does.
        let whole = bytes + 4 * usize::try_from(REGION_PAGES * PAGE).map_err(io::Error::other)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let outer = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if outer == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let region = usize::try_from(REGION_PAGES * PAGE).map_err(io::Error::other)?;
        let skip = region + (region - outer.addr() % region) % region;
        // SAFETY: the range lies inside the fresh mapping with at least a region to spare.
        let base = unsafe { outer.byte_add(skip) };
        // SAFETY: as above.
        let made = unsafe {
            libc::mprotect(base, bytes, libc::PROT_READ | libc::PROT_WRITE)
                | libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE)
        };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        let arena = Self { base: base.cast(), pages: (mb << 20) / PAGE };
        for page in 0..arena.pages {
            // SAFETY: the page lies inside the mapping, which can be written now.
            unsafe { arena.at(page, 0).cast::<u64>().write_volatile(0) };
        }
        Ok(arena)
    }

    /// An address in a page.
    pub fn at(&self, page: u64, offset: u64) -> *mut u8 {
        let offset = usize::try_from(page * PAGE + offset).unwrap_or_default();
        self.base.wrapping_add(offset)
    }

    /// Where it begins.
    pub fn start(&self) -> u64 {
        self.base.addr() as u64
    }
}

/// A sequence of numbers that looks random (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Puts a list in another order.
    pub fn shuffle(&mut self, list: &mut [u64]) {
        for end in (1..list.len()).rev() {
            let other = usize::try_from(self.next() % (end as u64 + 1)).unwrap_or_default();
            list.swap(end, other);
        }
    }
}
