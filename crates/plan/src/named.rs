//! Ranges that somebody named: numeric types that were declared or seen, and the error-bounded
//! loss that is allowed nowhere else.

use std::ops::Range;

use mem::{AddrRange, MemoryId, PAGE_SIZE, PageIndex, PageRange, VirtAddr};

use crate::NumericType;

/// How far a decoded element `y` may be from the element `x` that was encoded. NaN, infinities,
/// -0 and subnormal numbers come back bit by bit under every bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossBound {
    /// `|y - x| <= bound`.
    Absolute(f64),
    /// `|y - x| <= bound * |x|`.
    Relative(f64),
    /// `|y - x| <= fraction * span`, the span being largest minus smallest finite value of what
    /// was read of the named range when it was encoded: not of pages that were only referred to,
    /// so that of the whole range may be larger. Recorded, so that the bound can be checked later.
    RangeRelative {
        /// What was asked for.
        fraction: f64,
        /// Largest minus smallest finite value.
        span: f64,
    },
}

/// A range for which somebody allowed a loss (`--lossy`). It lies inside one allocation or one
/// object; nothing outside is touched by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossyRange {
    /// Which memory.
    pub memory: MemoryId,
    /// Which bytes of it, whole elements from the first on, which lies at a multiple of an
    /// element's bytes: so no element lies in two pages.
    pub range: AddrRange,
    /// What the elements are.
    pub numeric: NumericType,
    /// What is allowed.
    pub bound: LossBound,
}

/// One line of a checkpoint's loss manifest: what was allowed, and what was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossEntry {
    /// What was named.
    pub named: LossyRange,
    /// The largest `|y - x|` of all elements, by decoding what was written.
    pub largest_error: f64,
    /// Elements that do not come back bit by bit.
    pub elements_lossy: u64,
    /// The other elements of the range: exceptions, those in frames that did not profit, in
    /// critical pages, and in pages that the program has not got.
    pub elements_exact: u64,
    /// Elements that are NaN or infinite; they come back bit by bit.
    pub elements_not_finite: u64,
    /// Bytes of the range's pages, as far as the program has them.
    pub page_bytes: u64,
    /// Bytes that were newly stored for them.
    pub stored_bytes: u64,
}

impl LossyRange {
    /// The bytes of whole elements: a part of one at the end is nobody's.
    fn whole(&self) -> AddrRange {
        let width = u64::try_from(self.numeric.width_bytes()).unwrap_or(u64::MAX);
        let AddrRange { start, end } = self.range;
        AddrRange { start, end: VirtAddr(end.0 - self.range.len() % width) }
    }

    /// The pages that hold whole elements, ascending. Those of [`Self::range`] may be one more.
    pub fn pages(&self) -> PageRange {
        let whole = self.whole();
        if whole.is_empty() { PageRange::default() } else { whole.pages() }
    }

    /// The bytes of whole elements in `page`, as places in the page.
    pub fn part_of(&self, page: PageIndex) -> Option<Range<usize>> {
        let AddrRange { start, end } = self.whole();
        let first = page.addr().0;
        let from = start.0.max(first);
        let to = end.0.min(first.saturating_add(PAGE_SIZE));
        let place = |at: u64| usize::try_from(at - first).ok();
        if from < to { Some(place(from)?..place(to)?) } else { None }
    }

    /// How many whole elements there are.
    pub fn elements(&self) -> u64 {
        self.range.len() / u64::try_from(self.numeric.width_bytes()).unwrap_or(u64::MAX)
    }
}

impl LossBound {
    /// The largest `|y - x|` allowed for the finite element `x`.
    pub fn allowed(self, x: f64) -> f64 {
        match self {
            Self::Absolute(bound) => bound,
            Self::Relative(bound) => bound * x.abs(),
            Self::RangeRelative { fraction, span } => fraction * span,
        }
    }

    /// How it is written: `abs`, `rel`, `range-rel`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absolute(_) => "abs",
            Self::Relative(_) => "rel",
            Self::RangeRelative { .. } => "range-rel",
        }
    }

    /// The number that was asked for.
    pub const fn value(self) -> f64 {
        match self {
            Self::Absolute(value) | Self::Relative(value) => value,
            Self::RangeRelative { fraction, .. } => fraction,
        }
    }

    /// Whether the bound is a number that can be kept: finite and not negative.
    pub fn is_valid(self) -> bool {
        let good = |x: f64| x.is_finite() && x >= 0.0;
        match self {
            Self::Absolute(bound) | Self::Relative(bound) => good(bound),
            Self::RangeRelative { fraction, span } => good(fraction) && good(span),
        }
    }
}
