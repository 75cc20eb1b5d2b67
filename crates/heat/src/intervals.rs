//! Sets of a window's intervals.

use crate::accumulator::INTERVALS_MAX;

const WORDS: usize = INTERVALS_MAX as usize / 64;

/// A set of intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals([u64; WORDS]);

impl Intervals {
    pub(crate) fn insert(&mut self, interval: u16) {
        self.0[usize::from(interval) / 64] |= 1 << (interval % 64);
    }

    /// Adds `from..until`.
    pub(crate) fn insert_range(&mut self, from: u16, until: u16) {
        for (word, first) in self.0.iter_mut().zip((0u16..).step_by(64)) {
            let low = from.clamp(first, first + 64) - first;
            let high = until.clamp(first, first + 64) - first;
            if low < high {
                *word |= (u64::MAX >> (64 - (high - low))) << low;
            }
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    pub(crate) fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    pub(crate) fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }
}
