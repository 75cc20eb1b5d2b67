//! Writes, page by page: asynchronous write protection of one slice of memory after the other.
//!
//! A slice is armed at the beginning of an interval and read back at its end; the pages whose
//! protection the kernel has lifted were written. Only pages that are there are armed, so that no
//! page tables are made for memory nobody uses, and huge pages are left alone: arming them would
//! split them. Nothing has to be served: if we die, the descriptor closes and the program keeps
//! all it wrote.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mem::{AddrRange, PAGE_SIZE, PageIndex, PageRange, PageSet, VirtAddr};
use sys::pagemap::{Categories, Pagemap, PagemapError, ScanFilter};
use sys::userfault::{Features, Modes, Userfault, UserfaultError};

use crate::maps::{Mapped, Maps};

/// Pages armed by one call: a part of a millisecond of the memory's lock.
const CHUNK_PAGES_MAX: u64 = 1024;
/// The smallest piece that is worth a call.
const CHUNK_PAGES_MIN: u64 = 16;
/// Calls in one step that found nothing to arm, before the rest is left to the next step.
const EMPTY_CALLS_MAX: u32 = 4096;
/// Bytes given back by one call at the end: 113 ms a gigabyte would be felt, 3 ms are not.
const UNREGISTER_BYTES: u64 = 32 << 20;

/// Pages that are in RAM, ordinary, and not armed.
fn armable() -> ScanFilter {
    ScanFilter {
        all: Categories::PRESENT | Categories::WRITTEN | Categories::HUGE,
        any: Categories::NONE,
        inverted: Categories::HUGE,
        report: Categories::NONE,
    }
}

/// What a step brought.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The pages that were armed, since `armed_ns`.
    pub(crate) watched: Vec<PageRange>,
    /// The pages among them that were written.
    pub(crate) written: PageSet,
    /// When they were armed.
    pub(crate) armed_ns: u64,
}

/// The write tracker.
#[derive(Debug)]
pub(crate) struct Writes {
    userfault: Userfault,
    pagemap: Pagemap,
    /// The mappings that are tracked, by start.
    tracked: BTreeMap<u64, u64>,
    /// Where the next slice begins.
    cursor: u64,
    armed: PageSet,
    chunks: Vec<AddrRange>,
    armed_ns: u64,
    /// Writes expected for each armed page, in thousandths.
    rate_permille: u64,
    /// How often everything was gone through.
    passes: u64,
    /// Pages armed, over all slices.
    armed_pages: u64,
    /// Bytes of mappings that could not be tracked, with the newest reason.
    refused: Option<(u64, String)>,
    /// The longest that one call took, as a bound of how long it held the memory's lock.
    call_max: Duration,
}

impl Writes {
    /// A tracker on a fresh userfaultfd of the program.
    pub(crate) fn new(userfault: Userfault, pagemap: Pagemap) -> Result<Self, UserfaultError> {
        userfault.handshake(Features::TRACK_WRITES)?;
        Ok(Self {
            userfault,
            pagemap,
            tracked: BTreeMap::new(),
            cursor: 0,
            armed: PageSet::new(),
            chunks: Vec::new(),
            armed_ns: 0,
            rate_permille: 1000,
            passes: 0,
            armed_pages: 0,
            refused: None,
            call_max: Duration::ZERO,
        })
    }

    /// Registers the mappings that are not tracked yet, and forgets those that are gone.
    pub(crate) fn set_maps(&mut self, maps: &Maps) {
        let mut tracked = BTreeMap::new();
        let mut refused: Option<(u64, String)> = None;
        for mapped in maps.list().iter().filter(|m| can_be_tracked(m)) {
            let (start, end) = (mapped.range.start.0, mapped.range.end.0);
            if self.tracked.get(&start) == Some(&end) {
                tracked.insert(start, end);
                continue;
            }
            match self.userfault.register(mapped.range, Modes::WriteProtect) {
                Ok(()) => {
                    tracked.insert(start, end);
                }
                Err(cause) => {
                    let bytes = refused.map_or(0, |(bytes, _)| bytes) + mapped.range.len();
                    refused = Some((bytes, cause.to_string()));
                }
            }
        }
        self.tracked = tracked;
        self.refused = refused;
    }

    /// Reads back the slice that is armed, if one is.
    pub(crate) fn read_back(&mut self) -> Step {
        let mut step = Step { armed_ns: self.armed_ns, ..Step::default() };
        let armed = std::mem::take(&mut self.armed);
        for chunk in std::mem::take(&mut self.chunks) {
            let mut written = PageSet::new();
            let begun = Instant::now();
            let result = self.pagemap.scan_tracked(chunk, &ScanFilter::WRITTEN, false, |region| {
                written.insert(region.range.pages());
            });
            self.call_max = self.call_max.max(begun.elapsed());
            if result.is_err() {
                // Unmapped or replaced meanwhile: nothing is known of it.
                continue;
            }
            for run in armed.within(chunk.pages()) {
                step.watched.push(run);
                written.within(run).for_each(|pages| step.written.insert(pages));
            }
        }
        let watched: u64 = step.watched.iter().map(|run| run.count().0).sum();
        if let Some(seen) = (step.written.count().0 * 1000).checked_div(watched) {
            // A new neighbourhood may be hotter than the last: fast up, slowly down.
            self.rate_permille = seen.max(self.rate_permille * 7 / 8).max(1);
        }
        step
    }

    /// Arms the next slice, so large that not many more than `faults_max` of its pages are
    /// expected to be written.
    pub(crate) fn arm(&mut self, faults_max: u64, now_ns: u64) {
        let mut left = faults_max.saturating_mul(1000) / self.rate_permille.max(1);
        // All that is armed is looked at twice; a few hundred megabytes are enough for one step.
        left = left.min(64 * CHUNK_PAGES_MAX);
        self.armed_ns = now_ns;
        let mut empty_calls = 0;
        let first = self.cursor;
        let mut wrapped = false;
        while left >= CHUNK_PAGES_MIN && empty_calls < EMPTY_CALLS_MAX {
            let Some(chunk) = self.next_chunk(left.min(CHUNK_PAGES_MAX)) else {
                if wrapped || self.tracked.is_empty() {
                    break;
                }
                // Once round: go on at the beginning, but not over what was just armed.
                wrapped = true;
                self.passes += 1;
                self.cursor = 0;
                continue;
            };
            if wrapped && chunk.start.0 >= first {
                break;
            }
            let armed = self.arm_chunk(chunk);
            left = left.saturating_sub(armed);
            empty_calls += u32::from(armed == 0);
        }
    }

    fn arm_chunk(&mut self, chunk: AddrRange) -> u64 {
        let mut count = 0;
        let armed = &mut self.armed;
        let begun = Instant::now();
        let result = self.pagemap.scan_tracked(chunk, &armable(), true, |region| {
            count += region.range.pages().count().0;
            armed.insert(region.range.pages());
        });
        self.call_max = self.call_max.max(begun.elapsed());
        self.cursor = chunk.end.0;
        match result {
            Ok(()) => {}
            Err(PagemapError::NotTracked { .. }) => {
                // Another mapping is there now; it is registered when the maps are read next.
                self.forget(chunk.start.0);
                return 0;
            }
            Err(_) => return 0,
        }
        if count > 0 {
            self.chunks.push(chunk);
            self.armed_pages += count;
        }
        count
    }

    fn forget(&mut self, addr: u64) {
        let start = self.tracked.range(..=addr).next_back().map(|(start, _)| *start);
        if let Some(end) = start.and_then(|start| self.tracked.remove(&start)) {
            self.cursor = end;
        }
    }

    /// The next range of at most `pages`, inside of one mapping, aligned so that later passes
    /// cut alike.
    fn next_chunk(&self, pages: u64) -> Option<AddrRange> {
        let cursor = self.cursor;
        let before = self.tracked.range(..=cursor).next_back();
        let inside = before.map(|(_, end)| (cursor, *end)).filter(|(_, end)| cursor < *end);
        let next = || self.tracked.range(cursor..).next().map(|(start, end)| (*start, *end));
        let (start, end) = inside.or_else(next)?;
        let bytes = pages * PAGE_SIZE;
        Some(AddrRange::new(start, end.min(start.saturating_add(bytes))))
    }

    /// Whether `page` is in the slice that is armed.
    pub(crate) fn is_armed(&self, page: PageIndex) -> bool {
        self.armed.contains(page)
    }

    /// How often all memory was gone through, and how many pages were armed.
    pub(crate) const fn progress(&self) -> (u64, u64) {
        (self.passes, self.armed_pages)
    }

    /// Bytes tracked.
    pub(crate) fn tracked_bytes(&self) -> u64 {
        self.tracked.iter().map(|(start, end)| end - start).sum()
    }

    /// Bytes of writable mappings that could not be tracked, and why.
    pub(crate) fn refused(&self) -> Option<&(u64, String)> {
        self.refused.as_ref()
    }

    /// Gives everything back, piece by piece. Says how long the longest call of all took, a bound
    /// of how long it held the memory's lock.
    pub(crate) fn finish(mut self) -> Duration {
        for (start, end) in std::mem::take(&mut self.tracked) {
            let range = AddrRange { start: VirtAddr(start), end: VirtAddr(end) };
            for piece in range.pages().aligned_chunks(UNREGISTER_BYTES / PAGE_SIZE) {
                let begun = Instant::now();
                // What is not mapped any more needs no giving back.
                let _ = self.userfault.unregister(piece.addrs());
                self.call_max = self.call_max.max(begun.elapsed());
            }
        }
        self.call_max
    }
}

/// Private memory that the program can write. Shared memory can be written past any mapping, so
/// that what is seen of it here would not be the whole truth.
fn can_be_tracked(mapped: &Mapped) -> bool {
    mapped.write && !mapped.shared && !mapped.is_special()
}
