//! Typed addresses and page numbers.

use std::fmt;

/// Bytes in a page. x86-64 has 4 KiB base pages; huge pages are runs of these.
pub const PAGE_SIZE: u64 = 4096;

/// A virtual address in some address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(pub u64);

/// Pages of a huge page on x86-64, 2 MB: what one entry of the page middle directory maps.
pub const HUGE_PAGES: u64 = 512;

/// A page number: an address (or an offset into a shared object) divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIndex(pub u64);

/// A number of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageCount(pub u64);

/// A half-open range of addresses, `start..end`, both in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrRange {
    /// The first address inside.
    pub start: VirtAddr,
    /// The first address after it.
    pub end: VirtAddr,
}

/// A half-open range of pages, `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRange {
    /// The first page inside.
    pub start: PageIndex,
    /// The first page after it.
    pub end: PageIndex,
}

impl VirtAddr {
    /// The page that holds this address.
    pub const fn page(self) -> PageIndex {
        PageIndex(self.0 / PAGE_SIZE)
    }

    /// The address `bytes` further on, or `None` past the end of the address space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// Whether the address is the first of a page.
    pub const fn is_page_aligned(self) -> bool {
        self.0.is_multiple_of(PAGE_SIZE)
    }
}

impl PageIndex {
    /// The address (or object offset) of the page's first byte.
    pub const fn addr(self) -> VirtAddr {
        VirtAddr(self.0 * PAGE_SIZE)
    }

    /// The page `count` further on.
    pub const fn offset(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl PageCount {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * PAGE_SIZE
    }
}

impl AddrRange {
    /// The range `start..end`. An inverted pair gives an empty range at `start`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start: VirtAddr(start), end: VirtAddr(end.max(start)) }
    }

    /// The size in bytes.
    pub const fn len(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether nothing is inside.
    pub const fn is_empty(self) -> bool {
        self.start.0 >= self.end.0
    }

    /// Whether `addr` is inside.
    pub fn contains(self, addr: VirtAddr) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The pages that hold any byte of the range.
    pub fn pages(self) -> PageRange {
        PageRange {
            start: self.start.page(),
            end: PageIndex(self.end.0.div_ceil(PAGE_SIZE).max(self.start.page().0)),
        }
    }
}

impl PageRange {
    /// The range `start..end`. An inverted pair gives an empty range at `start`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start: PageIndex(start), end: PageIndex(end.max(start)) }
    }

    /// How many pages are inside.
    pub const fn count(self) -> PageCount {
        PageCount(self.end.0 - self.start.0)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        (self.end.0 - self.start.0) * PAGE_SIZE
    }

    /// Whether nothing is inside.
    pub const fn is_empty(self) -> bool {
        self.start.0 >= self.end.0
    }

    /// Whether `page` is inside.
    pub fn contains(self, page: PageIndex) -> bool {
        self.start <= page && page < self.end
    }

    /// What both ranges hold, or `None` when they share no page.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(Self { start, end })
    }

    /// The same range in bytes.
    pub const fn addrs(self) -> AddrRange {
        AddrRange { start: self.start.addr(), end: self.end.addr() }
    }

    /// The range cut into pieces of at most `pages_max` pages whose ends lie on multiples of
    /// `pages_max`, so that the same page is always cut into the same piece.
    ///
    /// # Panics
    /// If `pages_max` is zero.
    pub fn aligned_chunks(self, pages_max: u64) -> impl Iterator<Item = Self> {
        assert!(pages_max > 0, "a chunk holds at least one page");
        let mut next = self.start.0;
        let end = self.end.0;
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let stop = ((next / pages_max + 1) * pages_max).min(end);
            let chunk = Self::new(next, stop);
            next = stop;
            Some(chunk)
        })
    }
}

impl fmt::Display for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.start.0, self.end.0)
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.addrs(), f)
    }
}
