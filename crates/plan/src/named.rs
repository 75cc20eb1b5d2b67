//! Ranges that somebody named: numeric types that were declared or seen, and the error-bounded
//! loss that is allowed nowhere else.

use mem::{AddrRange, MemoryId};

use crate::NumericType;

/// How far a decoded element `y` may be from the element `x` that was encoded. NaN, infinities,
/// -0 and subnormal numbers come back bit by bit under every bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossBound {
    /// `|y - x| <= bound`.
    Absolute(f64),
    /// `|y - x| <= bound * |x|`.
    Relative(f64),
    /// `|y - x| <= fraction * span`, the span being largest minus smallest finite value of the
    /// whole named range when it was encoded; recorded, so that the bound can be checked later.
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
    /// Which bytes of it, whole elements from the first on.
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
    /// Elements in frames that lose something.
    pub elements_lossy: u64,
    /// Elements that came out bit by bit: exceptions, and frames that did not profit.
    pub elements_exact: u64,
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

    /// Whether the bound is a number that can be kept: finite and not negative.
    pub fn is_valid(self) -> bool {
        let good = |x: f64| x.is_finite() && x >= 0.0;
        match self {
            Self::Absolute(bound) | Self::Relative(bound) => good(bound),
            Self::RangeRelative { fraction, span } => good(fraction) && good(span),
        }
    }
}
