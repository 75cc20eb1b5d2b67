//! Short locks: work on a program's memory map is done in pieces, because the kernel holds the
//! map's lock for as long as a piece takes, and the program waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mem::AddrRange;

/// Longest that one piece should take. What the program feels is about twice that: it may wait
/// for a piece and then share the processor with the next.
const PIECE: Duration = Duration::from_micros(500);

const BYTES_MIN: u64 = 1 << 20;
const BYTES_MAX: u64 = 4 << 30;

/// How large a piece may be, learned from how long the last ones took.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes: AtomicU64,
}

impl Pace {
    /// Starts with pieces of `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        Self { bytes: AtomicU64::new(bytes.clamp(BYTES_MIN, BYTES_MAX)) }
    }

    /// Calls `work` with one piece of `range` after the other until it fails or says to stop by
    /// `false`. Returns the longest that a piece took.
    pub(crate) fn each<E>(
        &self,
        range: AddrRange,
        mut work: impl FnMut(AddrRange) -> Result<bool, E>,
    ) -> Result<Duration, E> {
        let mut longest = Duration::ZERO;
        let mut start = range.start;
        while start < range.end {
            let bytes = self.bytes.load(Ordering::Relaxed);
            let end = start.0.saturating_add(bytes).min(range.end.0);
            let piece = AddrRange::new(start.0, end);
            let began = Instant::now();
            let goes_on = work(piece)?;
            let took = began.elapsed();
            self.learn(piece.len(), took);
            longest = longest.max(took);
            if !goes_on {
                break;
            }
            start = piece.end;
        }
        Ok(longest)
    }

    /// Halves what took too long, and grows slowly what was quick: a piece that was merely
    /// interrupted costs a few small pieces, one that is too large costs the program.
    fn learn(&self, bytes: u64, took: Duration) {
        let size = self.bytes.load(Ordering::Relaxed);
        let next = if took > PIECE {
            bytes / 2
        } else if took < PIECE / 2 && bytes >= size {
            size + size / 2
        } else {
            size
        };
        // Whole pages; two threads that both learn overwrite each other, which does no harm.
        let next = next.clamp(BYTES_MIN, BYTES_MAX) & !0xfff;
        self.bytes.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_one_piece() {
        let pace = Pace::new(3 << 20);
        let range = AddrRange::new(0x1000, 0x1000 + (100 << 20));
        let mut next = range.start;
        let done: Result<_, ()> = pace.each(range, |piece| {
            assert_eq!(piece.start, next);
            assert!(!piece.is_empty());
            next = piece.end;
            Ok(true)
        });
        assert!(done.is_ok());
        assert_eq!(next, range.end);
    }

    #[test]
    fn slow_pieces_shrink_and_quick_ones_grow() {
        let pace = Pace::new(64 << 20);
        pace.learn(64 << 20, Duration::from_millis(2));
        assert_eq!(pace.bytes.load(Ordering::Relaxed), 32 << 20);
        // The short rest of a range says nothing of larger ones.
        pace.learn(1 << 20, Duration::from_micros(1));
        assert_eq!(pace.bytes.load(Ordering::Relaxed), 32 << 20);
        pace.learn(32 << 20, Duration::from_micros(1));
        assert_eq!(pace.bytes.load(Ordering::Relaxed), 48 << 20);
        pace.learn(0, Duration::from_secs(1));
        assert_eq!(pace.bytes.load(Ordering::Relaxed), BYTES_MIN);
    }
}
