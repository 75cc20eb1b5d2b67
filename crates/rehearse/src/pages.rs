//! The clone's pages: where they are kept, which of them it has touched.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mem::{AddrRange, PAGE_SIZE, PageIndex, PageSet, VirtAddr};
use sys::remote::ProcMem;
use sys::userfault::{Install, Obstacle, Userfault};

use crate::{RehearseError, Touch};

const PAGE_BYTES: usize = 4096;

/// Memory of the clone that is watched: it is missing, and what it held lies elsewhere in the
/// clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) range: AddrRange,
    /// Where its first byte is kept.
    pub(crate) kept_at: u64,
}

/// The pages of a clone. Shared by the thread that serves its faults and the one that leads it.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) userfault: Userfault,
    /// The clone's memory.
    pub(crate) mem: ProcMem,
    /// Ascending.
    watched: Vec<Watched>,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    begun: Instant,
    touches: Vec<Touch>,
    /// Pages that are in place.
    present: HashSet<PageIndex>,
    /// Pages that have no content any more.
    dropped: PageSet,
}

impl Pages {
    pub(crate) fn new(userfault: Userfault, mem: ProcMem, mut watched: Vec<Watched>) -> Self {
        watched.sort_unstable_by_key(|w| w.range.start);
        let log = Mutex::new(Log {
            begun: Instant::now(),
            touches: Vec::new(),
            present: HashSet::new(),
            dropped: PageSet::new(),
        });
        Self { userfault, mem, watched, log }
    }

    /// The clone starts now.
    pub(crate) fn begin(&self) -> Instant {
        let mut log = self.log();
        log.begun = Instant::now();
        log.begun
    }

    /// How many pages were touched.
    pub(crate) fn count(&self) -> usize {
        self.log().touches.len()
    }

    /// The touches so far, in order.
    pub(crate) fn touches(&self) -> Vec<Touch> {
        self.log().touches.clone()
    }

    /// The clone waits for `page`: puts it in place, and notes that.
    pub(crate) fn fault(&self, page: PageIndex, write: bool) -> Result<(), RehearseError> {
        self.put(page, write, false)
    }

    /// A call of the program touches these bytes: what is missing of them is put in place and
    /// noted, as the kernel would have the page.
    pub(crate) fn touch(&self, start: u64, bytes: u64, write: bool) -> Result<(), RehearseError> {
        if bytes == 0 {
            return Ok(());
        }
        let last = start.saturating_add(bytes - 1);
        for number in start / PAGE_SIZE..=last / PAGE_SIZE {
            let page = PageIndex(number);
            if self.watched(page).is_some() {
                self.put(page, write, true)?;
            }
        }
        Ok(())
    }

    /// Puts all missing pages of `range` in place without noting them; `Ok(false)` when there are
    /// more than `pages_max`.
    pub(crate) fn complete(&self, range: AddrRange, pages_max: u64) -> Result<bool, RehearseError> {
        let first = self.watched.partition_point(|w| w.range.end <= range.start);
        let parts: Vec<AddrRange> = self.watched[first..]
            .iter()
            .take_while(|w| w.range.start < range.end)
            .map(|w| {
                let (start, end) = (w.range.start.max(range.start), w.range.end.min(range.end));
                AddrRange::new(start.0, end.0)
            })
            .collect();
        if parts.iter().map(|part| part.pages().count().0).sum::<u64>() > pages_max {
            return Ok(false);
        }
        for part in parts {
            for number in part.pages().start.0..part.pages().end.0 {
                let page = PageIndex(number);
                let known = self.log().present.contains(&page);
                if !known {
                    self.install(page)?;
                    self.log().present.insert(page);
                }
            }
        }
        Ok(true)
    }

    /// The pages of `range` are zero from now on, or gone.
    pub(crate) fn drop_content(&self, range: AddrRange) {
        let mut log = self.log();
        log.dropped.insert(range.pages());
        log.present.retain(|page| !range.pages().contains(*page));
    }

    /// Reads the clone's memory, which a call of the program reads.
    pub(crate) fn read(&self, start: u64, buffer: &mut [u8]) -> Result<(), RehearseError> {
        self.touch(start, buffer.len() as u64, false)?;
        self.mem
            .read_exact(VirtAddr(start), buffer)
            .map_err(RehearseError::io("read the clone's memory"))
    }

    /// Reads what the clone's memory holds, missing or not, without noting it; says whether it
    /// could.
    pub(crate) fn peek(&self, start: u64, buffer: &mut [u8]) -> bool {
        let mut at = start;
        let mut rest = buffer;
        while !rest.is_empty() {
            let page = VirtAddr(at).page();
            let left = PAGE_SIZE - at % PAGE_SIZE;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (part, others) = rest.split_at_mut(count);
            let is_kept = !self.log().present.contains(&page);
            let kept = self.kept(page).filter(|_| is_kept).map(|kept| kept + at % PAGE_SIZE);
            if self.mem.read_exact(VirtAddr(kept.unwrap_or(at)), part).is_err() {
                return false;
            }
            at += count as u64;
            rest = others;
        }
        true
    }

    /// Writes to the clone's memory, as a call of the program does.
    pub(crate) fn write(&self, start: u64, bytes: &[u8]) -> Result<(), RehearseError> {
        self.touch(start, bytes.len() as u64, true)?;
        self.mem
            .write_all(VirtAddr(start), bytes)
            .map_err(RehearseError::io("write the clone's memory"))
    }

    fn put(&self, page: PageIndex, write: bool, by_call: bool) -> Result<(), RehearseError> {
        {
            let mut log = self.log();
            if !log.present.insert(page) {
                if by_call {
                    return Ok(());
                }
                // Another thread's fault is served at this moment, or was.
                drop(log);
                let range = one(page);
                self.userfault.wake(range)?;
                return Ok(());
            }
            let time_ns = u64::try_from(log.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            // Memory that was given back is new: nothing of it is in a checkpoint.
            if !log.dropped.contains(page) {
                log.touches.push(Touch { page, time_ns, write, by_call });
            }
        }
        self.install(page)
    }

    fn install(&self, page: PageIndex) -> Result<(), RehearseError> {
        let mut bytes = [0; PAGE_BYTES];
        let is_dropped = self.log().dropped.contains(page);
        if let Some(kept) = self.kept(page).filter(|_| !is_dropped) {
            // What cannot be read there is a guard page, or lies behind the end of a file.
            if self.mem.read_exact(VirtAddr(kept), &mut bytes).is_err() {
                bytes.fill(0);
            }
        }
        let done = self.userfault.copy(page.addr(), &bytes, Install::default())?;
        match done.obstacle {
            Some(Obstacle::Present) => Ok(self.userfault.wake(one(page))?),
            // It was unmapped meanwhile, or the clone has ended.
            _ => Ok(()),
        }
    }

    fn watched(&self, page: PageIndex) -> Option<&Watched> {
        let at = self.watched.partition_point(|w| w.range.end <= page.addr());
        self.watched.get(at).filter(|w| w.range.start <= page.addr())
    }

    fn kept(&self, page: PageIndex) -> Option<u64> {
        let watched = self.watched(page)?;
        Some(watched.kept_at + (page.addr().0 - watched.range.start.0))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn one(page: PageIndex) -> AddrRange {
    AddrRange::new(page.addr().0, page.addr().0 + PAGE_SIZE)
}
