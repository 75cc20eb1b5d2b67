//! Write tracking: which pages of a program's private memory were written since they were armed.
//!
//! A userfaultfd of the program's memory write-protects pages asynchronously
//! (`UFFD_FEATURE_WP_ASYNC`, Linux >= 6.7): a write lifts the protection of its page and goes on,
//! nobody is waited for. `PAGEMAP_SCAN` tells the pages that are not protected and protects them
//! again. When we die the descriptor closes, the protection goes with it, and nothing is left.
//!
//! What a scan says of a page: written to, made, dropped (`MADV_DONTNEED`), or never armed; all of
//! it is [`Changed`], and of what has changed the part that holds content is listed apart.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mem::{AddrRange, PageSet};
use sys::pagemap::{Categories, Pagemap, PagemapError, ScanFilter};
use sys::userfault::{Features, Kind, Modes, Userfault, UserfaultError};

use crate::pace::Pace;
use crate::{Process, SessionError};

/// Why writes cannot be tracked. The program runs on as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// No userfaultfd could be had.
    #[error("track the writes of a program: {0}")]
    Session(#[from] SessionError),
    /// The kernel lacks what is needed.
    #[error("track the writes of a program: {0}")]
    Userfault(#[from] UserfaultError),
    /// Its page tables cannot be read.
    #[error("track the writes of a program: {0}")]
    Pagemap(#[from] PagemapError),
}

/// What a look at the page tables found. Sets are added to, so that several looks can be united.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Pages of which nothing that was known holds any longer.
    pub pages: PageSet,
    /// Those of them that hold content now.
    pub content: PageSet,
}

/// What is left when tracking has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The longest that the lock of the memory map was held.
    pub longest: Duration,
    /// What was in huge pages and is not any more: a write to an armed one splits it.
    pub split: PageSet,
}

/// The pages of a program under write tracking, until it is dropped.
#[derive(Debug)]
pub struct Tracker {
    userfault: Userfault,
    pagemap: Pagemap,
    /// What was registered.
    taken: Mutex<PageSet>,
    /// What was in huge pages when it was armed.
    huge: Mutex<PageSet>,
    arming: Pace,
    looking: Pace,
}

impl Tracker {
    /// Starts to track `process`, nothing of it armed yet. Says how long the program stood still
    /// for it.
    ///
    /// # Errors
    /// When the program may not be stopped or the kernel lacks the means.
    pub fn start(process: &Process, deadline: Instant) -> Result<(Self, Duration), TrackError> {
        // For write tracking alone nothing in the kernel waits for us, so that no privilege is
        // needed and no system call can fail.
        let (userfault, stop) = process.open_userfault(Kind::UserModeOnly, deadline)?;
        userfault.handshake(Features::TRACK_WRITES)?;
        let tracker = Self {
            userfault,
            pagemap: Pagemap::open(process.dir())?,
            taken: Mutex::new(PageSet::new()),
            huge: Mutex::new(PageSet::new()),
            arming: Pace::new(16 << 20),
            looking: Pace::new(256 << 20),
        };
        Ok((tracker, stop))
    }

    /// Looks through the page tables of `process` from now on. A program that was replaced by
    /// execve(2) has others than when the tracking began, of which nothing is armed.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn reopen(&mut self, process: &Process) -> Result<(), TrackError> {
        self.pagemap = Pagemap::open(process.dir())?;
        Ok(())
    }

    /// Takes the mapping at `range` in and arms all of it: every page counts as changed. `false`:
    /// it cannot be tracked, because it went away or has a userfaultfd of the program's own.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn add(&self, range: AddrRange, changed: &mut Changed) -> Result<bool, TrackError> {
        match self.userfault.register(range, Modes::WriteProtect) {
            Ok(()) => {}
            Err(UserfaultError::Taken { .. } | UserfaultError::Range { .. }) => return Ok(false),
            Err(cause) => return Err(cause.into()),
        }
        self.taken().insert(range.pages());
        let tracked = self.arm(range, &mut changed.content)?;
        if tracked {
            changed.pages.insert(range.pages());
        }
        Ok(tracked)
    }

    /// Lists what has changed in the mapping at `range` since it was armed last, and with
    /// `rearm` arms it again. `false`: not all of it is tracked, nothing is known of it.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn changed(
        &self,
        range: AddrRange,
        rearm: bool,
        changed: &mut Changed,
    ) -> Result<bool, TrackError> {
        let mut found = Changed::default();
        let mut tracked = true;
        self.looking.each(range, |piece| {
            let written = |region: sys::pagemap::Region| found.pages.insert(region.range.pages());
            tracked =
                known(self.pagemap.scan_tracked(piece, &ScanFilter::WRITTEN, false, written))?;
            Ok::<_, TrackError>(tracked)
        })?;
        for run in found.pages.runs() {
            tracked = tracked
                && match rearm {
                    true => self.arm(run.addrs(), &mut found.content)?,
                    false => self.list(run.addrs(), &mut found.content)?,
                };
        }
        if tracked {
            changed.pages = changed.pages.union(&found.pages);
            changed.content = changed.content.union(&found.content);
        }
        Ok(tracked)
    }

    /// Arms the pages of `range` and adds those with content to `content`.
    fn arm(&self, range: AddrRange, content: &mut PageSet) -> Result<bool, TrackError> {
        let mut tracked = true;
        self.arming.each(range, |piece| {
            tracked = self.entries(piece, true, content)?;
            Ok::<_, TrackError>(tracked)
        })?;
        Ok(tracked)
    }

    fn list(&self, range: AddrRange, content: &mut PageSet) -> Result<bool, TrackError> {
        self.entries(range, false, content)
    }

    fn entries(
        &self,
        range: AddrRange,
        arm: bool,
        content: &mut PageSet,
    ) -> Result<bool, TrackError> {
        let mut huge = Vec::new();
        let scanned = self.pagemap.scan_tracked(range, &ScanFilter::ARMABLE, arm, |region| {
            if region.categories.is_private_content() {
                content.insert(region.range.pages());
            }
            if arm && region.categories.contains(Categories::HUGE) {
                huge.push(region.range.pages());
            }
        });
        if !huge.is_empty() {
            let mut all = self.huge.lock().unwrap_or_else(PoisonError::into_inner);
            huge.into_iter().for_each(|run| all.insert(run));
        }
        known(scanned)
    }

    fn taken(&self) -> MutexGuard<'_, PageSet> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the tracking in pieces that hold the map's lock for a short time each, where closing
    /// the descriptor alone would hold it for 30 ms a gigabyte. Dropping does the same.
    pub fn release(self) -> Released {
        let longest = self.let_go();
        let huge = std::mem::take(&mut *self.huge.lock().unwrap_or_else(PoisonError::into_inner));
        Released { longest, split: self.split(&huge) }
    }

    /// The 2 MB ranges of `huge` that are small pages now, all of them there. Where some are
    /// missing the program itself took its huge page apart.
    fn split(&self, huge: &PageSet) -> PageSet {
        const HUGE_PAGES: u64 = 512;
        let mut small = PageSet::new();
        for run in huge.runs() {
            let there = |region: sys::pagemap::Region| small.insert(region.range.pages());
            // Of a program that has ended nothing is to be given back.
            if self.pagemap.scan(run.addrs(), &ScanFilter::SMALL_PAGES, there).is_err() {
                return PageSet::new();
            }
        }
        small
            .runs()
            .iter()
            .flat_map(|run| run.aligned_chunks(HUGE_PAGES))
            .filter(|chunk| chunk.count().0 == HUGE_PAGES)
            .collect()
    }

    fn let_go(&self) -> Duration {
        let mut longest = Duration::ZERO;
        let taken = std::mem::take(&mut *self.taken());
        for run in taken.runs() {
            let pieces = self.arming.each(run.addrs(), |piece| {
                // What went away meanwhile took its protection with it.
                let _ = self.userfault.unregister(piece);
                // Whoever waits for the map's lock gets it before the next piece does.
                std::thread::yield_now();
                Ok::<_, TrackError>(true)
            });
            longest = longest.max(pieces.unwrap_or_default());
        }
        longest
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// `false` when the mapping is not tracked.
fn known(scanned: Result<(), PagemapError>) -> Result<bool, TrackError> {
    match scanned {
        Ok(()) => Ok(true),
        Err(PagemapError::NotTracked { .. }) => Ok(false),
        Err(cause) => Err(cause.into()),
    }
}
