//! `PAGEMAP_SCAN` (Linux >= 6.7), see `ioctl_pagemap_scan(2)`: which pages of a process exist
//! and of what kind they are.

use std::fmt;
use std::io;
use std::ops::{BitAnd, BitOr};
use std::os::fd::OwnedFd;

use linux_raw_sys::general::{page_region, pm_scan_arg};
use mem::AddrRange;
use rustix::fs::OFlags;
use rustix::ioctl;

use crate::proc::{ProcDir, ProcError};

/// A set of `PAGE_IS_` categories.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Categories(u64);

impl Categories {
    /// No category.
    pub const NONE: Self = Self(0);
    /// The page can be write-protected asynchronously.
    pub const WP_ALLOWED: Self = Self(1);
    /// Written since it was last write-protected.
    pub const WRITTEN: Self = Self(1 << 1);
    /// Backed by a file or a shared object, and not a private copy.
    pub const FILE: Self = Self(1 << 2);
    /// In RAM.
    pub const PRESENT: Self = Self(1 << 3);
    /// Swapped out, or some other entry that is not a page: see [`Categories::GUARD`].
    pub const SWAPPED: Self = Self(1 << 4);
    /// The zero page.
    pub const PFN_ZERO: Self = Self(1 << 5);
    /// Part of a huge page that is mapped as one.
    pub const HUGE: Self = Self(1 << 6);
    /// Soft-dirty.
    pub const SOFT_DIRTY: Self = Self(1 << 7);
    /// A guard page of `MADV_GUARD_INSTALL` (Linux >= 6.15). Such a page is `SWAPPED` too.
    pub const GUARD: Self = Self(1 << 8);

    /// Whether every category of `other` is inside.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a page of a private mapping with these categories holds content of its own, as
    /// [`ScanFilter::PRIVATE_CONTENT`] finds it: in RAM or swapped out, anonymous, not the zero
    /// page and not a guard.
    pub const fn is_private_content(self) -> bool {
        self.0 & (Self::PRESENT.0 | Self::SWAPPED.0) != 0
            && self.0 & (Self::FILE.0 | Self::PFN_ZERO.0 | Self::GUARD.0) == 0
    }

    /// The categories as the kernel's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for Categories {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Categories {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Categories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Categories({:#x})", self.0)
    }
}

/// Which pages a scan reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanFilter {
    /// All of these must hold (after inversion).
    pub all: Categories,
    /// At least one of these must hold (after inversion), unless empty.
    pub any: Categories,
    /// These count as held when they are not.
    pub inverted: Categories,
    /// Which categories a region is reported with; pages that differ in them come as two.
    pub report: Categories,
}

impl ScanFilter {
    /// Pages of private mappings that hold content of their own: in RAM or swapped out,
    /// anonymous (not a file's page), not the zero page and not a guard.
    pub const PRIVATE_CONTENT: Self = Self {
        all: Categories(Categories::FILE.0 | Categories::PFN_ZERO.0 | Categories::GUARD.0),
        any: Categories(Categories::PRESENT.0 | Categories::SWAPPED.0),
        inverted: Categories(Categories::FILE.0 | Categories::PFN_ZERO.0 | Categories::GUARD.0),
        report: Categories::NONE,
    };

    /// Everything that has an entry in the page tables: where a touch brings no page into being
    /// that was missing.
    pub const OCCUPIED: Self = Self {
        all: Categories::NONE,
        any: Categories(Categories::PRESENT.0 | Categories::SWAPPED.0 | Categories::GUARD.0),
        inverted: Categories::NONE,
        report: Categories::NONE,
    };

    /// Everything that has an entry in the page tables, guards apart, with what is needed to
    /// tell content from the rest: see [`Categories::is_private_content`].
    pub const ARMABLE: Self = Self {
        all: Categories::GUARD,
        any: Categories(Categories::PRESENT.0 | Categories::SWAPPED.0),
        inverted: Categories::GUARD,
        report: Categories(
            Categories::FILE.0
                | Categories::PFN_ZERO.0
                | Categories::PRESENT.0
                | Categories::SWAPPED.0
                | Categories::HUGE.0,
        ),
    };

    /// Pages in RAM that are not mapped as part of a huge one.
    pub const SMALL_PAGES: Self = Self {
        all: Categories(Categories::PRESENT.0 | Categories::HUGE.0),
        any: Categories::NONE,
        inverted: Categories::HUGE,
        report: Categories::NONE,
    };

    /// What is not write-protected: pages written or made since they were, and places that hold
    /// no page. This very combination is the one that the kernel answers without looking at the
    /// pages themselves, in half a millisecond a gigabyte.
    pub const WRITTEN: Self = Self {
        all: Categories::WRITTEN,
        any: Categories::NONE,
        inverted: Categories::NONE,
        report: Categories::WRITTEN,
    };

    /// Guard pages.
    pub const GUARDS: Self = Self {
        all: Categories::GUARD,
        any: Categories::NONE,
        inverted: Categories::NONE,
        report: Categories::NONE,
    };
}

/// A run of pages that a scan reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where.
    pub range: AddrRange,
    /// Which of the categories asked for hold.
    pub categories: Categories,
}

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagemapError {
    /// The file could not be opened.
    #[error(transparent)]
    Open(#[from] ProcError),
    /// Something in the range is mapped and not registered with the write tracking, or no
    /// longer.
    #[error("scan the page tables of {range}: not all of it is tracked")]
    NotTracked {
        /// What was being scanned.
        range: AddrRange,
    },
    /// The kernel has no `PAGEMAP_SCAN`.
    #[error("scan the page tables: this kernel has no PAGEMAP_SCAN; Linux 6.7 or later is needed")]
    Unsupported,
    /// The kernel refused.
    #[error("scan the page tables of {range}: {cause}")]
    Scan {
        /// What was being scanned.
        range: AddrRange,
        /// What it said.
        cause: io::Error,
    },
}

/// A process's page tables, `/proc/PID/pagemap` held open.
#[derive(Debug)]
pub struct Pagemap {
    file: OwnedFd,
}

impl Pagemap {
    /// Regions fetched by one call: 24 KiB of result, so that the kernel holds the process's
    /// mmap lock for a short time only.
    const REGIONS_PER_CALL: usize = 1024;

    /// Opens the page tables of the process behind `dir`.
    ///
    /// # Errors
    /// When the process is gone or may not be looked into.
    pub fn open(dir: &ProcDir) -> Result<Self, PagemapError> {
        Ok(Self { file: dir.open_file("pagemap", OFlags::RDONLY)? })
    }

    /// Calls `found` with every run of pages in `range` that passes `filter`, in ascending
    /// order. Nothing is changed in the process.
    ///
    /// # Errors
    /// When the kernel has no such call, or the process is gone.
    pub fn scan(
        &self,
        range: AddrRange,
        filter: &ScanFilter,
        found: impl FnMut(Region),
    ) -> Result<(), PagemapError> {
        self.walk(range, filter, 0, found)
    }

    /// Like [`Pagemap::scan`], of mappings that are all registered with a userfaultfd for
    /// asynchronous write-protection (`PM_SCAN_CHECK_WPASYNC`). With `arm` every page found is
    /// write-protected in the same step (`PM_SCAN_WP_MATCHING`), so that no write falls between
    /// the finding and the arming.
    ///
    /// # Errors
    /// [`PagemapError::NotTracked`] when something in `range` is mapped and not registered. That
    /// is how a mapping shows itself that was replaced by another with the same bounds. The
    /// kernel then keeps to itself what it found, and perhaps armed, in its last call: nothing
    /// is known of the pages of `range`.
    pub fn scan_tracked(
        &self,
        range: AddrRange,
        filter: &ScanFilter,
        arm: bool,
        found: impl FnMut(Region),
    ) -> Result<(), PagemapError> {
        const WP_MATCHING: u64 = 1;
        const CHECK_WPASYNC: u64 = 1 << 1;
        let flags = if arm { WP_MATCHING | CHECK_WPASYNC } else { CHECK_WPASYNC };
        self.walk(range, filter, flags, found)
    }

    fn walk(
        &self,
        range: AddrRange,
        filter: &ScanFilter,
        flags: u64,
        mut found: impl FnMut(Region),
    ) -> Result<(), PagemapError> {
        let mut regions = [page_region { start: 0, end: 0, categories: 0 }; Self::REGIONS_PER_CALL];
        let mut arg = pm_scan_arg {
            size: size_of::<pm_scan_arg>() as u64,
            flags,
            start: range.start.0,
            end: range.end.0,
            walk_end: 0,
            vec: regions.as_mut_ptr().addr() as u64,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted: filter.inverted.0,
            category_mask: filter.all.0,
            category_anyof_mask: filter.any.0,
            return_mask: filter.report.0,
        };
        while arg.start < arg.end {
            let result = self.call(&mut arg);
            let count = match &result {
                Ok(count) => (*count).min(regions.len()),
                Err(_) => 0,
            };
            for region in &regions[..count] {
                found(Region {
                    range: AddrRange::new(region.start, region.end),
                    categories: Categories(region.categories),
                });
            }
            if let Err(cause) = result {
                return Err(match cause.raw_os_error() {
                    Some(libc::ENOTTY) => PagemapError::Unsupported,
                    Some(libc::EPERM) if flags != 0 => PagemapError::NotTracked { range },
                    _ => PagemapError::Scan { range, cause },
                });
            }
            if arg.walk_end <= arg.start {
                let cause = io::Error::other("the kernel's walk did not move forward");
                return Err(PagemapError::Scan { range, cause });
            }
            arg.start = arg.walk_end;
        }
        Ok(())
    }

    /// One call; how many regions it found.
    fn call(&self, arg: &mut pm_scan_arg) -> io::Result<usize> {
        // SAFETY: the opcode is PAGEMAP_SCAN (_IOWR('f', 16, struct pm_scan_arg)) and takes a
        // pointer to that struct, which lives through the call. The kernel writes at most
        // `vec_len` regions at `vec`, which `walk` set to its own array, alive and not borrowed
        // during the call. The flags only write-protect pages asynchronously, which the kernel
        // undoes at the next write; memory of ours is not affected. On a descriptor of another
        // file it fails with ENOTTY.
        let count = unsafe { ioctl::ioctl(&self.file, ScanCall(arg)) }?;
        usize::try_from(count).map_err(io::Error::other)
    }
}

struct ScanCall<'a>(&'a mut pm_scan_arg);

// SAFETY: the opcode, the pointer and the output (the number of regions, returned by the call
// itself) are those of PAGEMAP_SCAN; the struct is read and written by the kernel.
unsafe impl ioctl::Ioctl for ScanCall<'_> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> ioctl::Opcode {
        ioctl::opcode::read_write::<pm_scan_arg>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        (&raw mut *self.0).cast()
    }

    unsafe fn output_from_ptr(
        out: ioctl::IoctlOutput,
        _: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    fn scan_self(range: AddrRange, filter: &ScanFilter) -> Vec<Region> {
        let dir = ProcDir::open(i32::try_from(std::process::id()).unwrap()).unwrap();
        let mut all = Vec::new();
        Pagemap::open(&dir).unwrap().scan(range, filter, |r| all.push(r)).unwrap();
        all
    }

    /// 16 fresh pages at an address no other thread of the test uses.
    fn fresh() -> (*mut u8, AddrRange) {
        // SAFETY: a new private anonymous mapping, never unmapped, is nobody else's memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                16 * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        let at: *mut u8 = at.cast();
        let start = at.addr() as u64;
        (at, AddrRange::new(start, start + 16 * 4096))
    }

    #[test]
    fn written_pages_are_content_and_read_or_guarded_ones_are_not() {
        let (at, range) = fresh();
        // SAFETY: all offsets lie in the 16 pages of `fresh`; the advice covers one of them.
        unsafe {
            at.add(PAGE).write_volatile(1);
            at.add(2 * PAGE).write_volatile(1);
            let _ = at.add(5 * PAGE).read_volatile();
            at.add(9 * PAGE).write_volatile(1);
            assert_eq!(libc::madvise(at.add(12 * PAGE).cast(), PAGE, 102), 0);
        }
        let content: Vec<_> =
            scan_self(range, &ScanFilter::PRIVATE_CONTENT).iter().map(|r| r.range).collect();
        let page = |n: u64| range.start.0 + n * 4096;
        assert_eq!(content, [AddrRange::new(page(1), page(3)), AddrRange::new(page(9), page(10))]);
        let guards: Vec<_> =
            scan_self(range, &ScanFilter::GUARDS).iter().map(|r| r.range).collect();
        assert_eq!(guards, [AddrRange::new(page(12), page(13))]);
    }

    #[test]
    fn nothing_to_scan_is_nothing_found() {
        assert!(scan_self(AddrRange::new(0x1000, 0x1000), &ScanFilter::GUARDS).is_empty());
        assert!(scan_self(AddrRange::new(0, 0x1000), &ScanFilter::PRIVATE_CONTENT).is_empty());
    }
}
