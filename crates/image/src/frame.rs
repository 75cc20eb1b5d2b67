//! One frame of the extent index.

use mem::{MemoryId, PageIndex, PageRange};
use plan::{Plan, Tier, Treatment};

use crate::FrameHash;

/// Some pages of a chunk of 16 aligned pages: bit n is page n of the chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageMask(pub u16);

impl PageMask {
    /// All pages of a chunk.
    pub const ALL: Self = Self(u16::MAX);

    /// The pages of `pages` that are in the chunk beginning at `chunk`.
    pub fn of(pages: PageRange, chunk: PageIndex) -> Self {
        let place = |page: PageIndex| {
            u32::try_from(page.0.saturating_sub(chunk.0)).unwrap_or(u32::MAX).min(16)
        };
        let below = |end: u32| u16::MAX.checked_shr(16 - end).unwrap_or(0);
        Self(below(place(pages.end)) & !below(place(pages.start)))
    }

    /// How many pages.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether page `n` of the chunk is in it.
    pub const fn has(self, n: usize) -> bool {
        n < 16 && self.0 >> n & 1 == 1
    }

    /// Adds page `n` of the chunk, less than 16.
    pub const fn insert(&mut self, n: usize) {
        if n < 16 {
            self.0 |= 1 << n;
        }
    }

    /// The pages in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The pages in either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The pages that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The numbers of the pages, ascending.
    pub fn places(self) -> impl Iterator<Item = usize> + Clone {
        (0..16).filter(move |n| self.has(*n))
    }
}

/// One frame: which pages, how soon, how, where, and what they hash to. Or, with the treatment
/// `Parent`, a run of pages of any length that are as they were in the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which memory.
    pub memory: MemoryId,
    /// Which pages: 1 to 16 inside one chunk of 16 aligned pages; any number for `Parent`.
    pub pages: PageRange,
    /// Which pages of the chunk the stored bytes hold. Those of `pages` that are not among them
    /// are as in the parent. There may be others among them that are not of `pages`: they were
    /// written again while the memory was copied, and another frame has them. Of a zero frame
    /// exactly `pages`, of a `Parent` run none.
    pub held: PageMask,
    /// How soon it is needed.
    pub tier: Tier,
    /// How the stored bytes become pages.
    pub treatment: Treatment,
    /// How many deltas have to be decoded one after the other at most, this one included; 0
    /// unless the treatment is `Delta`.
    pub delta_depth: u8,
    /// Which part of the stored bytes its pages are, of those that several chunks share; 0 unless
    /// the treatment is `Solid`.
    pub slot: u8,
    /// Which data file, by the number in the manifest.
    pub file: u16,
    /// Where in the file the stored bytes begin.
    pub offset_bytes: u64,
    /// How many there are; 0 for zero frames.
    pub stored_bytes: u32,
    /// Position in the order of loading; lower is sooner.
    pub load_order: u32,
    /// Keyed hash of the hashes of the stored pages; all zero for zero frames.
    pub hash: FrameHash,
    /// crc32c of the stored bytes.
    pub stored_crc32c: u32,
}

impl Frame {
    /// A zero frame, or a run of the parent's pages: what has no bytes. Such a run is in no tier: the
    /// plan says when its pages are needed, and cut at each extent there would be hundreds of
    /// thousands of them.
    pub fn without_bytes(memory: MemoryId, pages: PageRange, treatment: Treatment) -> Self {
        let (held, tier) = match treatment {
            Treatment::Zero => (PageMask::of(pages, chunk_start(pages.start)), Tier::Critical),
            _ => (PageMask::default(), Plan::UNNAMED),
        };
        Self {
            memory,
            pages,
            held,
            tier,
            treatment,
            delta_depth: 0,
            slot: 0,
            file: 0,
            offset_bytes: 0,
            stored_bytes: 0,
            load_order: 0,
            hash: FrameHash::default(),
            stored_crc32c: 0,
        }
    }

    /// The first page of the chunk of 16 aligned pages that it lies in, or begins in.
    pub fn chunk(&self) -> PageIndex {
        chunk_start(self.pages.start)
    }

    /// Bytes of the pages that the stored bytes hold.
    pub fn held_bytes(&self) -> usize {
        usize::try_from(self.held.count()).unwrap_or(usize::MAX) * 4096
    }

    /// Its pages that are not the parent's.
    pub fn own(&self) -> PageMask {
        match self.treatment {
            Treatment::Parent => PageMask::default(),
            _ => self.held.and(PageMask::of(self.pages, self.chunk())),
        }
    }

    /// Bytes of its pages that are the parent's.
    pub fn referenced_bytes(&self) -> u64 {
        self.pages.bytes() - u64::from(self.own().count()) * 4096
    }

    /// Whether some of its pages, or what it is the difference to, are in the parent.
    pub fn needs_parent(&self) -> bool {
        self.referenced_bytes() > 0 || self.treatment == Treatment::Delta
    }

    /// How many page hashes the checkpoint keeps for it: none for zeros and the parent's pages.
    pub fn hash_count(&self) -> u64 {
        match self.treatment {
            Treatment::Zero => 0,
            _ => self.held.count().into(),
        }
    }

    /// The same for a part of its pages. What is left without a page of its own is a run of the
    /// parent's.
    pub fn part(&self, pages: PageRange) -> Self {
        let part = Self { pages, ..*self };
        let without = |treatment| Self::without_bytes(self.memory, pages, treatment);
        match self.treatment {
            Treatment::Zero => {
                let Self { tier, load_order, .. } = *self;
                Self { tier, load_order, ..without(Treatment::Zero) }
            }
            _ if part.own().is_empty() => without(Treatment::Parent),
            _ => part,
        }
    }

    /// Makes one run of this one and `next` when both are runs of the parent's pages, one
    /// behind the other; says whether it did.
    pub(crate) fn join_parents(&mut self, next: &Self) -> bool {
        let together = |frame: &Self| (frame.memory, frame.tier, frame.load_order);
        let joins = [&*self, next].iter().all(|frame| frame.treatment == Treatment::Parent)
            && together(self) == together(next)
            && self.pages.end == next.pages.start
            && next.pages.end.0 - self.pages.start.0 <= RUN_PAGES_MAX;
        if joins {
            self.pages.end = next.pages.end;
        }
        joins
    }
}

/// Pages in a run of the parent's at most: its record counts them in 32 bits.
const RUN_PAGES_MAX: u64 = 1 << 31;

/// The first page of the chunk of 16 aligned pages that `page` is in.
fn chunk_start(page: PageIndex) -> PageIndex {
    PageIndex(page.0 - page.0 % codec::FRAME_PAGES_MAX)
}
