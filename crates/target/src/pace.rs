//! Short locks: work on a program's memory map is done in pieces, because the kernel holds the
//! map's lock for as long as a piece takes, and the program waits.
//!
//! Pieces alone are not enough. A thread of the program that wants to change the map is woken when a piece is
//! done, and whoever reads the map again before it has got to a processor takes the lock before it
//! (a lone reader steals: `rwsem_down_read_slowpath` in the kernel's locking/rwsem.c); it is let in only when it has
//! waited for a tick or two, 4 to 8 ms for each mmap(2) and munmap(2). So there is a rest between
//! pieces, longer than it takes to wake a thread.
//!
//! How long a piece takes depends on how many of its pages are there, which nobody knows before. A pace
//! that grew over memory that is mostly empty would take far too much of what is full at once, so
//! there is a most that a piece may have: what takes [`PIECE`] on a usual machine when all of it is there.
//!
//! Pieces end at borders of huge pages. The kernel takes a huge page apart that is armed in part
//! (`pagemap_scan_thp_entry` in its fs/proc/task_mmu.c) and does not say so, so that nobody would put
//! it together again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mem::{AddrRange, HUGE_PAGES, PAGE_SIZE};

/// Longest that one piece should take. What the program feels is about twice that: it may wait
/// for a piece and then share the processor with the next.
const PIECE: Duration = Duration::from_micros(500);

/// How long the lock may be held, in how many pieces ever, before there is a rest.
const REST_AFTER: Duration = Duration::from_micros(250);
/// How long nothing is asked for then. To wake a thread takes 20 us; the timer adds 50 us of its own.
const REST: Duration = Duration::from_micros(30);

/// The least that a piece may be, and what all of them end at a multiple of.
const HUGE_BYTES: u64 = HUGE_PAGES * PAGE_SIZE;

/// How large a piece may be, learned from how long the last ones took.
#[derive(Debug)]
pub struct Pace {
    bytes: AtomicU64,
    most: u64,
    /// How long the lock was held since the last rest.
    held_ns: AtomicU64,
}

impl Pace {
    /// Starts with pieces of `most` bytes, more than which there never are in one.
    pub fn new(most: u64) -> Self {
        let most = whole(most).max(HUGE_BYTES);
        Self { bytes: AtomicU64::new(most), most, held_ns: AtomicU64::new(0) }
    }

    /// Calls `work` with one piece of `range` after the other until it fails or says to stop by
    /// `false`; with `rests` between them when there may be somebody who waits for the lock.
    /// Returns the longest that a piece took.
    ///
    /// # Errors
    /// The first of `work`.
    pub fn each<E>(
        &self,
        range: AddrRange,
        rests: bool,
        mut work: impl FnMut(AddrRange) -> Result<bool, E>,
    ) -> Result<Duration, E> {
        let mut longest = Duration::ZERO;
        let mut start = range.start;
        while start < range.end {
            let bytes = self.bytes.load(Ordering::Relaxed);
            let end = whole(start.0.saturating_add(bytes)).min(range.end.0);
            let piece = AddrRange::new(start.0, end);
            let began = Instant::now();
            let goes_on = work(piece)?;
            let took = began.elapsed();
            self.learn(piece.len(), took);
            longest = longest.max(took);
            if rests {
                self.rest(took);
            }
            if !goes_on {
                break;
            }
            start = piece.end;
        }
        Ok(longest)
    }

    /// Lets others have the lock when it was held for long enough, of which the last piece `took` its
    /// part: for work whose pieces are what they are, and cannot be made smaller.
    pub fn rest(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let held = self.held_ns.fetch_add(took, Ordering::Relaxed).saturating_add(took);
        if u128::from(held) >= REST_AFTER.as_nanos() {
            self.held_ns.store(0, Ordering::Relaxed);
            std::thread::sleep(REST);
        }
    }

    /// Halves what took too long, and grows slowly what was quick: a piece that was merely
    /// interrupted costs a few small pieces, one that is too large costs the program.
    fn learn(&self, bytes: u64, took: Duration) {
        let size = self.bytes.load(Ordering::Relaxed);
        let next = if took > PIECE {
            whole(bytes / 2)
        } else if took < PIECE / 2 && bytes >= size {
            size + whole(size / 2).max(HUGE_BYTES)
        } else {
            size
        };
        // Two threads that both learn overwrite each other, which does no harm.
        let next = next.clamp(HUGE_BYTES, self.most);
        self.bytes.store(next, Ordering::Relaxed);
    }
}

/// As many bytes as there are whole huge pages in `bytes`.
const fn whole(bytes: u64) -> u64 {
    bytes / HUGE_BYTES * HUGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_one_piece() {
        let pace = Pace::new(5 << 20);
        let range = AddrRange::new(0x1000, 0x1000 + (100 << 20));
        let mut next = range.start;
        let done: Result<_, ()> = pace.each(range, true, |piece| {
            assert_eq!(piece.start, next);
            assert!(!piece.is_empty() && piece.len() <= 5 << 20);
            // No huge page is cut, however small the pieces become.
            assert!(piece.end == range.end || piece.end.0.is_multiple_of(HUGE_BYTES));
            std::thread::sleep(PIECE / 10);
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
        // However empty it is: what follows may be full.
        pace.learn(48 << 20, Duration::from_micros(1));
        pace.learn(64 << 20, Duration::from_micros(1));
        assert_eq!(pace.bytes.load(Ordering::Relaxed), 64 << 20);
        pace.learn(0, Duration::from_secs(1));
        assert_eq!(pace.bytes.load(Ordering::Relaxed), HUGE_BYTES);
    }
}
