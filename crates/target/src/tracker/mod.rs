//! Write tracking: which pages of a program's private memory were written since they were armed.
//!
//! A userfaultfd of the program's memory write-protects pages asynchronously
//! (`UFFD_FEATURE_WP_ASYNC`, Linux >= 6.7): a write lifts the protection of its page and goes on,
//! nobody is waited for. `PAGEMAP_SCAN` tells the pages that are not protected and protects them
//! again. When we die the descriptor closes, the protection goes with it, and nothing is left.
//!
//! What a scan says of a page: written to, made, dropped (`MADV_DONTNEED`), or never armed; all of
//! it is [`Changed`], and of what has changed the part that holds content is listed apart.
//!
//! A mapping is taken in or let go whole, and only while the program stands still. To register
//! or unregister a part of one splits it for the moment, and mremap(2) of memory in two mappings
//! fails: a program that moves its memory all the time would see that. Both take microseconds.
//! Letting go is cheap in this order only: protection is lifted in pieces while the program runs
//! (a lock that other readers share, no mapping changes), then each mapping is registered for
//! missing pages instead, which drops the write tracking without a walk, and then it is
//! unregistered, without one either. Unregistering at once walks 20 ms a gigabyte under the map's
//! lock. In between a missing page would be waited for, so nothing may run.
//!
//! Looking is in [`look`], letting go in [`release`].
//!
//! Two may look through one tracker: who copies ([`Tracker::changed`]) and who wants to know how
//! often pages are written ([`Tracker::scan`]). What the second arms the first still finds changed.

mod look;
mod release;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use mem::{AddrRange, PageSet};
use sys::pagemap::{Pagemap, PagemapError, ScanFilter};
use sys::proc::ProcError;
use sys::userfault::{Features, Kind, Modes, Userfault, UserfaultError};

use crate::pace::Pace;
use crate::{FreezeError, FreezeOptions, Frozen, Process, SessionError};

/// Mappings that are taken in at most in one stop, which lasts some microseconds for each.
const TAKEN_IN_A_STOP: usize = 2000;
/// Bytes that are armed, or let go, at once at most: up to 100 ns for each page.
const ARMED_BYTES: u64 = 16 << 20;
/// Bytes that are looked through at once at most: up to 15 ns for each page.
const LOOKED_BYTES: u64 = 128 << 20;
/// How long the program may take to stand still for being let go.
const STOP_LIMIT: Duration = Duration::from_secs(1);

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
    /// Its mappings cannot be listed.
    #[error("track the writes of a program: {0}")]
    Proc(#[from] ProcError),
    /// It cannot be stopped to take its mappings in.
    #[error("track the writes of a program: {0}")]
    Freeze(#[from] FreezeError),
}

/// What a program does while its pages are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// It runs, and wants the lock of its memory map now and then.
    Runs,
    /// It stands still.
    Stopped,
}

/// What a look at the page tables found. Sets are added to, so that several looks can be united.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Pages of which nothing that was known holds any longer.
    pub pages: PageSet,
    /// Those of them that hold content now.
    pub content: PageSet,
}

/// What is known of a program that is tracked, beside what its page tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// What was registered.
    pub taken: PageSet,
    /// Of that, what was not armed since.
    pub unarmed: PageSet,
    /// What was in huge pages when it was armed.
    pub huge: PageSet,
    /// Written, and armed since for a purpose other than copying.
    pub disturbed: PageSet,
}

/// What is left when tracking has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The longest that the lock of the memory map was held.
    pub longest: Duration,
    /// How long the program stood still for it; `None` when it could not be stopped.
    pub stop: Option<Duration>,
    /// What was in huge pages and is not any more: a write to an armed one splits it.
    pub split: PageSet,
}

/// Lists the mappings of a process that are to be tracked, as they are at that moment.
pub type List = fn(&Process) -> Result<Vec<AddrRange>, ProcError>;

/// A tracker and how long the program stood still for it.
pub type Started<'p> = (Tracker<'p>, Duration);

/// The pages of a program under write tracking, until it is dropped.
#[derive(Debug)]
pub struct Tracker<'p> {
    process: &'p Process,
    list: List,
    userfault: Userfault,
    pagemap: RwLock<Pagemap>,
    /// What was registered.
    taken: Mutex<PageSet>,
    /// Registered and not armed since: what the page tables say there is of no worth. Memory that
    /// was moved may bring protection along that is older than its registration.
    unarmed: Mutex<PageSet>,
    /// What was in huge pages when it was armed.
    huge: Mutex<PageSet>,
    /// Written, and armed since for a purpose other than copying.
    disturbed: Mutex<PageSet>,
    arming: Pace,
    looking: Pace,
}

impl<'p> Tracker<'p> {
    /// Starts to track the mappings of `process` that `list` names, nothing of them armed yet.
    /// Says how long the program stood still for it.
    ///
    /// # Errors
    /// When the program may not be stopped or the kernel lacks the means.
    pub fn start(
        process: &'p Process,
        deadline: Instant,
        list: List,
    ) -> Result<Started<'p>, TrackError> {
        let mut frozen = process.freeze(FreezeOptions { deadline, suspend_seccomp: false })?;
        let tracker = Self::start_in(&mut frozen, list)?;
        Ok((tracker, frozen.thaw()))
    }

    /// As [`start`](Self::start), within a stop that is there already.
    ///
    /// # Errors
    /// When the kernel lacks the means or the program may not have a userfaultfd.
    pub fn start_in(frozen: &mut Frozen<'p>, list: List) -> Result<Self, TrackError> {
        // For write tracking alone nothing in the kernel waits for us, so that no privilege is
        // needed and no system call can fail.
        let userfault = frozen.open_userfault(Kind::UserModeOnly)?;
        userfault.handshake(Features::TRACK_WRITES)?;
        let process = frozen.process();
        let tracker = Self {
            process,
            list,
            userfault,
            pagemap: RwLock::new(Pagemap::open(process.dir())?),
            taken: Mutex::default(),
            unarmed: Mutex::default(),
            huge: Mutex::default(),
            disturbed: Mutex::default(),
            arming: Pace::new(ARMED_BYTES),
            looking: Pace::new(LOOKED_BYTES),
        };
        tracker.register(frozen)?;
        Ok(tracker)
    }

    /// Goes on with what another process of ours tracked, which has given up `userfault` and said
    /// what it knew of it.
    ///
    /// # Errors
    /// When the program's page tables cannot be read.
    pub fn adopt(
        process: &'p Process,
        list: List,
        userfault: Userfault,
        known: Tracked,
    ) -> Result<Self, TrackError> {
        Ok(Self {
            process,
            list,
            userfault,
            pagemap: RwLock::new(Pagemap::open(process.dir())?),
            taken: Mutex::new(known.taken),
            unarmed: Mutex::new(known.unarmed),
            huge: Mutex::new(known.huge),
            disturbed: Mutex::new(known.disturbed),
            arming: Pace::new(ARMED_BYTES),
            looking: Pace::new(LOOKED_BYTES),
        })
    }

    /// Gives the tracking up to whoever gets the descriptor, with what is known. If nobody does it
    /// ends when the descriptor closes.
    ///
    /// # Errors
    /// When no descriptor can be had.
    pub fn give_up(self) -> std::io::Result<(OwnedFd, Tracked)> {
        let known = Tracked {
            // Nothing of it is ours to let go of any more.
            taken: std::mem::take(&mut *self.taken()),
            unarmed: std::mem::take(&mut *locked(&self.unarmed)),
            huge: std::mem::take(&mut *locked(&self.huge)),
            disturbed: std::mem::take(&mut *locked(&self.disturbed)),
        };
        let descriptor = self.userfault.as_fd().try_clone_to_owned()?;
        Ok((descriptor, known))
    }

    /// The pace at which the program's page tables are looked through, for whoever looks beside.
    pub fn looking(&self) -> &Pace {
        &self.looking
    }

    /// Takes in the mappings that have come since, in one stop, the length of which it says.
    /// Nothing is known of them until they are armed.
    ///
    /// # Errors
    /// When the program cannot be stopped.
    pub fn take_in(&self, freeze: FreezeOptions) -> Result<Duration, TrackError> {
        let frozen = self.process.freeze(freeze)?;
        self.register(&frozen)?;
        Ok(frozen.thaw())
    }

    /// Registers the mappings of a program that stands still, the largest first. What is left
    /// out, or has a userfaultfd of the program's own, is not tracked, and any look says so.
    fn register(&self, frozen: &Frozen<'_>) -> Result<(), TrackError> {
        let mut mappings = (self.list)(frozen.process())?;
        mappings.sort_unstable_by_key(|mapping| std::cmp::Reverse(mapping.len()));
        for mapping in mappings.into_iter().take(TAKEN_IN_A_STOP) {
            if self.is_tracked(mapping)? {
                continue;
            }
            match self.userfault.register(mapping, Modes::WriteProtect) {
                Ok(()) => {
                    self.taken().insert(mapping.pages());
                    locked(&self.unarmed).insert(mapping.pages());
                }
                Err(UserfaultError::Taken { .. } | UserfaultError::Range { .. }) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(())
    }

    /// Looks through the page tables of the program as it is now. A program that was replaced by
    /// execve(2) has others than when the tracking began, of which nothing is armed.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn reopen(&self) -> Result<(), TrackError> {
        let pagemap = Pagemap::open(self.process.dir())?;
        *self.pagemap.write().unwrap_or_else(PoisonError::into_inner) = pagemap;
        Ok(())
    }

    fn pagemap(&self) -> RwLockReadGuard<'_, Pagemap> {
        self.pagemap.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the mapping at `range` is registered, by its first page.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn is_tracked(&self, range: AddrRange) -> Result<bool, TrackError> {
        let first = AddrRange::new(range.start.0, range.start.0 + mem::PAGE_SIZE);
        known(self.pagemap().scan_tracked(first, &ScanFilter::WRITTEN, false, |_| {}))
    }

    fn taken(&self) -> MutexGuard<'_, PageSet> {
        locked(&self.taken)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `false` when the mapping is not tracked.
fn known(scanned: Result<(), PagemapError>) -> Result<bool, TrackError> {
    match scanned {
        Ok(()) => Ok(true),
        Err(PagemapError::NotTracked { .. }) => Ok(false),
        Err(cause) => Err(cause.into()),
    }
}
