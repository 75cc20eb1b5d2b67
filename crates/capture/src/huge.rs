//! Huge pages that tracking split are given back.

use std::time::{Duration, Instant};

use mem::{HUGE_PAGES, PAGE_SIZE, PageRange, PageSet};
use target::{Pace, Process};

/// What became of split huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// Bytes that are in huge pages again.
    pub bytes: u64,
    /// Bytes that are not.
    pub left_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Puts `split` of `process`, which runs, into huge pages again, one after the other until
/// `budget` is spent: each holds the lock of its memory map for as long as 2 MB take to copy, and who
/// waits for it gets it before the next.
pub fn give_back_huge_pages(process: &Process, split: &PageSet, budget: Duration) -> GivenBack {
    let begun = Instant::now();
    let mut done = GivenBack::default();
    let pace = Pace::new(HUGE_PAGES * PAGE_SIZE);
    let collapse = |huge: PageRange| {
        let begun = Instant::now();
        let collapsed = sys::remote::collapse(process.pidfd(), huge.addrs());
        pace.rest(begun.elapsed());
        collapsed.is_ok()
    };
    for huge in split.runs().iter().flat_map(|run| run.aligned_chunks(HUGE_PAGES)) {
        // A part of one lost its other part: nothing is left to give back.
        let is_whole = huge.count().0 == HUGE_PAGES;
        let in_time = begun.elapsed() < budget;
        if is_whole && in_time && collapse(huge) {
            done.bytes += huge.bytes();
        } else {
            done.left_bytes += huge.bytes();
        }
    }
    done.took = begun.elapsed();
    done
}
