//! Writes, page by page: asynchronous write protection of one slice of memory after the other.
//!
//! A slice is armed at the beginning of an interval and read back at its end; the pages whose
//! protection the kernel has lifted were written. Only pages that are there are armed, so that no
//! page tables are made for memory nobody uses, and huge pages are left alone: arming them would
//! split them. Nothing has to be served: if we die, the descriptor closes and the program keeps
//! all it wrote.
//!
//! Mappings are taken in and let go whole, in stops of some microseconds each ([`Tracker`] says
//! why): those there are in the one stop of the beginning, later ones in a stop of their own when
//! they are large enough to be worth one and the budget allows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mem::{AddrRange, PAGE_SIZE, PageIndex, PageRange, PageSet};
use sys::pagemap::{Categories, Region, ScanFilter};
use sys::proc::{ProcError, maps_entries};
use target::{FreezeOptions, Frozen, Process, TrackError, Tracker};

use crate::maps::{Mapped, Maps};

/// Pages armed by one call: a part of a millisecond of the memory's lock.
const CHUNK_PAGES_MAX: u64 = 1024;
/// The smallest piece that is worth a call.
const CHUNK_PAGES_MIN: u64 = 16;
/// Calls in one step that found nothing to arm, before the rest is left to the next step.
const EMPTY_CALLS_MAX: u32 = 4096;
/// New mappings that are worth a stop of the program, together.
const TAKE_IN_BYTES_MIN: u64 = 1 << 20;
/// How long one such stop may wait for a thread in uninterruptible sleep: the others stand still
/// meanwhile.
const STOP_WAIT: Duration = Duration::from_millis(200);
/// Rounds without a try after a stop that failed.
const ROUNDS_AFTER_FAILURE: u32 = 30;
/// Private mappings of files up to this size: letting go of them walks their pages while the
/// program stands still, 20 ms a gigabyte.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Pages that are in RAM, ordinary, and not armed.
fn armable() -> ScanFilter {
    ScanFilter {
        all: Categories::PRESENT | Categories::WRITTEN | Categories::HUGE,
        any: Categories::NONE,
        inverted: Categories::HUGE,
        report: Categories::NONE,
    }
}

/// Pages that are in RAM, ordinary, and armed.
fn still_armed() -> ScanFilter {
    ScanFilter { inverted: Categories::HUGE | Categories::WRITTEN, ..armable() }
}

/// Pages that are in RAM, in huge ones.
fn in_huge_pages() -> ScanFilter {
    ScanFilter {
        all: Categories::PRESENT | Categories::HUGE,
        any: Categories::NONE,
        inverted: Categories::NONE,
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
pub(crate) struct Writes<'p> {
    tracker: Arc<Tracker<'p>>,
    /// It is somebody else's, too, who lets go of it.
    is_shared: bool,
    /// The mappings that are tracked, by start.
    tracked: BTreeMap<u64, u64>,
    /// Rounds in which no stop is tried.
    pause: u32,
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
    /// Bytes of private mappings that the program can write and that are not tracked.
    untracked_bytes: u64,
    /// The longest that one call took, as a bound of how long it held the memory's lock.
    call_max: Duration,
}

impl<'p> Writes<'p> {
    /// A tracker of what is mapped in a program that stands still, whose first slice begins at `from`.
    pub(crate) fn new(frozen: &mut Frozen<'p>, from: u64) -> Result<Self, TrackError> {
        Ok(Self::with(Arc::new(Tracker::start_in(frozen, trackable)?), false, from))
    }

    /// The same with a tracker that is there.
    pub(crate) fn shared(tracker: Arc<Tracker<'p>>, from: u64) -> Self {
        Self::with(tracker, true, from)
    }

    fn with(tracker: Arc<Tracker<'p>>, is_shared: bool, from: u64) -> Self {
        Self {
            tracker,
            is_shared,
            tracked: BTreeMap::new(),
            pause: 0,
            cursor: from / PAGE_SIZE * PAGE_SIZE,
            armed: PageSet::new(),
            chunks: Vec::new(),
            armed_ns: 0,
            rate_permille: 1000,
            passes: 0,
            armed_pages: 0,
            untracked_bytes: 0,
            call_max: Duration::ZERO,
        }
    }

    /// Looks which mappings are tracked. New ones are taken in when they are worth it and
    /// `may_stop`; how long the program stood still for it.
    pub(crate) fn set_maps(&mut self, maps: &Maps, may_stop: bool) -> Duration {
        let largest = self.look_through(maps);
        self.pause = self.pause.saturating_sub(1);
        if largest < TAKE_IN_BYTES_MIN || !may_stop || self.pause > 0 {
            return Duration::ZERO;
        }
        let options =
            FreezeOptions { deadline: Instant::now() + STOP_WAIT, suspend_seccomp: false };
        match self.tracker.take_in(options) {
            Ok(stop) => {
                // Memory that refuses to be tracked is not worth a stop in every round.
                if self.look_through(maps) >= TAKE_IN_BYTES_MIN {
                    self.pause = ROUNDS_AFTER_FAILURE;
                }
                stop
            }
            Err(cause) => {
                tracing::debug!(%cause, "new mappings were not taken in");
                self.pause = ROUNDS_AFTER_FAILURE;
                STOP_WAIT
            }
        }
    }

    /// Looks which mappings are tracked, and how much is not though it might be; bytes of the
    /// largest mapping of those.
    fn look_through(&mut self, maps: &Maps) -> u64 {
        let before = std::mem::take(&mut self.tracked);
        let mut largest = 0;
        self.untracked_bytes = 0;
        for mapped in maps.list().iter().filter(|m| is_writable(m)) {
            if !can_be_tracked(mapped) {
                self.untracked_bytes += mapped.range.len();
                continue;
            }
            let (start, end) = (mapped.range.start.0, mapped.range.end.0);
            let known = before.get(&start) == Some(&end);
            if known || self.tracker.is_tracked(mapped.range).unwrap_or(false) {
                self.tracked.insert(start, end);
            } else {
                self.untracked_bytes += mapped.range.len();
                largest = largest.max(mapped.range.len());
            }
        }
        largest
    }

    /// Reads back the slice that is armed, if one is.
    pub(crate) fn read_back(&mut self) -> Step {
        let mut step = Step { armed_ns: self.armed_ns, ..Step::default() };
        let armed = std::mem::take(&mut self.armed);
        for chunk in std::mem::take(&mut self.chunks) {
            let mut written = PageSet::new();
            let begun = Instant::now();
            let scanned = self.tracker.scan(chunk, &ScanFilter::WRITTEN, false, |region| {
                written.insert(region.range.pages());
            });
            self.call_max = self.call_max.max(begun.elapsed());
            if !matches!(scanned, Ok(true)) {
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
        let scanned = self.tracker.scan(chunk, &armable(), true, |region| {
            count += region.range.pages().count().0;
            armed.insert(region.range.pages());
        });
        if matches!(scanned, Ok(true)) {
            // What was armed before and is so still is watched as well.
            let scanned = self.tracker.scan(chunk, &still_armed(), false, |region| {
                armed.insert(region.range.pages());
            });
            count = armed.within(chunk.pages()).map(|run| run.count().0).sum();
            if !matches!(scanned, Ok(true)) {
                tracing::trace!(?chunk, "what was armed before is not known");
            }
        }
        self.call_max = self.call_max.max(begun.elapsed());
        self.cursor = chunk.end.0;
        match scanned {
            Ok(true) => {}
            Ok(false) => {
                // Another mapping is there now; it is looked at when the maps are read next.
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

    /// Where the next slice begins.
    pub(crate) const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Whether `page` is in the slice that is armed.
    pub(crate) fn is_armed(&self, page: PageIndex) -> bool {
        self.armed.contains(page)
    }

    /// How often all memory was gone through, and how many pages were armed.
    pub(crate) const fn progress(&self) -> (u64, u64) {
        (self.passes, self.armed_pages)
    }

    /// Bytes of what is tracked that are in huge pages now, which are left alone.
    pub(crate) fn huge_bytes(&self) -> u64 {
        let mut bytes = 0;
        for (start, end) in &self.tracked {
            let range = AddrRange::new(*start, *end);
            let looked = self.tracker.looking().each(range, true, |piece| {
                let huge = |region: Region| bytes += region.range.len();
                self.tracker.scan(piece, &in_huge_pages(), false, huge)
            });
            if let Err(cause) = looked {
                tracing::debug!(%cause, ?range, "huge pages were not counted");
            }
        }
        bytes
    }

    /// Bytes of private mappings that the program can write and that are not tracked.
    pub(crate) const fn untracked_bytes(&self) -> u64 {
        self.untracked_bytes
    }

    /// Gives everything back. How long the longest call of all took, a bound of how long it held
    /// the memory's lock; and how long the program stood still for it.
    pub(crate) fn finish(self) -> (Duration, Duration) {
        if self.is_shared {
            return (self.call_max, Duration::ZERO);
        }
        let released = self.tracker.release();
        (self.call_max.max(released.longest), released.stop.unwrap_or_default())
    }
}

/// Private memory that the program can write. Shared memory can be written past any mapping, so
/// that what is seen of it here would not be the whole truth.
fn is_writable(mapped: &Mapped) -> bool {
    mapped.write && !mapped.shared && !mapped.is_special()
}

/// What of it is worth to be let go of in the end.
fn can_be_tracked(mapped: &Mapped) -> bool {
    is_writable(mapped) && (mapped.file.is_none() || mapped.range.len() <= FILE_BYTES_MAX)
}

/// The mappings that are tracked, as they are now.
fn trackable(process: &Process) -> Result<Vec<AddrRange>, ProcError> {
    process.dir().parse("maps", &mut Vec::new(), |text| {
        let mut ranges = Vec::new();
        for entry in maps_entries(text) {
            let mapped = Mapped::new(&entry?);
            if can_be_tracked(&mapped) {
                ranges.push(mapped.range);
            }
        }
        Ok(ranges)
    })
}
