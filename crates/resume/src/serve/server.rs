//! Answering faults.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use mem::{AddrRange, MemoryId, PAGE_SIZE, PageIndex, PageRange, PageSource, PageSourceError};
use plan::Plan;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::priority::set_thread_nice;
use sys::userfault::{Install, Obstacle, Progress, Userfault, UserfaultError};

use super::held::HeldBack;
use super::ledger::{Kept, Ledger, Space, Spaces, Word};
use super::pages::Pages;
use super::spaces::{Job, State};
use super::trouble::{Met, Trouble};
use super::view::View;

/// Gives the plan, as soon as somebody can wait for it: to decode a large one takes some
/// milliseconds, in which faults are answered already.
pub type PlanOf<'a> = &'a (dyn Fn() -> &'a Plan + Sync);

/// Threads that answer faults. One of them waits for messages; more than there are processors,
/// since they wait for disks.
const THREADS: usize = 6;
/// How long a wait for messages lasts at most: new spaces and the end are looked for then.
const LOOK: Duration = Duration::from_millis(100);
/// The priority of the threads that answer faults.
const NICE: i32 = -10;
/// How far one call of `UFFDIO_WAKE` may reach: all of user memory.
const EVERYWHERE: AddrRange =
    AddrRange { start: mem::VirtAddr(0x1_0000), end: mem::VirtAddr(0x7fff_ffff_f000) };
/// Pages are put in so that they do not count as written.
const PUT: Install = Install { write_protect: true, no_wake: false };

/// Why a server cannot go on. The program's threads wait.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The source cannot be listed.
    #[error("serve the program's pages: {0}")]
    Source(#[from] PageSourceError),
    /// A call on a userfaultfd failed.
    #[error("serve the program's pages: {0}")]
    Userfault(#[from] UserfaultError),
    /// The ledger cannot hold the state.
    #[error("keep the state of the program's memory: {0}")]
    Ledger(io::Error),
    /// A userfaultfd that the ledger names is not there.
    #[error("find a userfaultfd of the program: {0}")]
    Lost(io::Error),
    /// Messages cannot be waited for.
    #[error("wait for the program's faults: {0}")]
    Wait(io::Error),
}

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every page is there, and the kernel was told.
    Complete,
    /// The program has ended.
    Gone,
    /// [`Server::stop`] was called.
    Stopped,
}

/// Serves the pages of one program and of its forks.
pub struct Server<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) pages: Pages<'a>,
    pub(super) plan: Option<PlanOf<'a>>,
    pub(super) fill: bool,
    pub(super) state: Mutex<State>,
    /// Who holds it reads messages; inside are faults that others read on the way.
    reading: Mutex<VecDeque<Job>>,
    /// Pages that cannot be had.
    trouble: Trouble,
    /// Threads that answer a fault right now.
    pub(super) busy: AtomicUsize,
    /// When the last fault was answered.
    pub(super) last_fault_ns: AtomicU64,
    pub(super) can_be_nice: AtomicBool,
    pub(super) done: AtomicBool,
    stopped: AtomicBool,
    /// Readable when the state is asked for.
    bell: BorrowedFd<'a>,
    failure: Mutex<Option<ServeError>>,
}

/// Writes down the state a server begins with: `ranges` of the program, registered with
/// `userfault`, are to get their pages from the same pages of the source.
///
/// # Errors
/// When there is no room for it.
pub fn begin(
    ledger: &Ledger,
    userfault: Userfault,
    ranges: &[PageRange],
    loaded_pages: u64,
) -> io::Result<()> {
    let view = View::in_place(ranges);
    let mut spaces = Spaces::new();
    spaces.insert(0, Space { userfault: Kept::new(userfault), view });
    ledger.snapshot(&spaces, 1)?;
    ledger.set(Word::BegunNs, now_ns());
    ledger.set(Word::PagesPresent, loaded_pages);
    Ok(())
}

/// Nanoseconds since the host was started.
pub(super) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

impl<'a> Server<'a> {
    /// Takes up the state in `ledger`, whoever left it: the source's pages of `memory` belong to
    /// the program, in whose `ranges` pages are missing. With `fill` everything is loaded in the
    /// order of `plan`, what is `held` back of it with what is cold. `bell` is an eventfd that is
    /// readable when the state is asked for ([`Ledger::ask_for_state`]).
    ///
    /// # Errors
    /// When the source cannot be listed or the state not be taken up.
    pub fn new(
        ledger: &'a Ledger,
        source: &'a dyn PageSource,
        memory: MemoryId,
        ranges: &'a [PageRange],
        (plan, fill, held): (Option<PlanOf<'a>>, bool, Option<HeldBack>),
        bell: BorrowedFd<'a>,
    ) -> Result<Self, ServeError> {
        let mut pages = Pages::new(source, memory, held)?;
        pages.present = Self::content(&pages.present, ranges);
        let state = State::take_up(ledger)?;
        ledger.set(Word::PagesTotal, pages.present.count().0);
        ledger.add(Word::Servers, 1);
        ledger.set(Word::ServerPid, u64::from(std::process::id()));
        // Whoever waited for an answer of an earlier server asks again.
        for space in state.spaces.values() {
            space.userfault.wake(EVERYWHERE)?;
        }
        Ok(Self {
            ledger,
            pages,
            plan,
            fill,
            state: Mutex::new(state),
            reading: Mutex::default(),
            trouble: Trouble::begin(ledger),
            busy: AtomicUsize::new(0),
            last_fault_ns: AtomicU64::new(0),
            can_be_nice: AtomicBool::new(false),
            done: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            bell,
            failure: Mutex::new(None),
        })
    }

    /// Serves until everything is there or the program has ended. Starts threads.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn run(&self) -> Result<Ended, ServeError> {
        self.ledger.set(Word::Serving, 1);
        let ended = std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let thread = std::thread::Builder::new().name("faults".to_owned());
                thread.spawn_scoped(scope, || self.guarded(|| self.answer_all())).map_err(
                    |error| {
                        self.done.store(true, Ordering::Release);
                        ServeError::Wait(error)
                    },
                )?;
            }
            let ended = self.guarded(|| self.fill_all());
            self.done.store(true, Ordering::Release);
            Ok::<_, ServeError>(ended)
        })?;
        self.ledger.set(Word::Serving, 0);
        if let Some(failure) = locked(&self.failure).take() {
            return Err(failure);
        }
        if self.stopped.load(Ordering::Acquire) {
            return Ok(Ended::Stopped);
        }
        Ok(ended.unwrap_or(Ended::Gone))
    }

    /// Ends the server as soon as its threads look; what they have begun is finished.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.done.store(true, Ordering::Release);
    }

    /// Whether it is ending.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Runs `work`; its failure ends the server.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, ServeError>) -> Option<T> {
        match work() {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(%error, "the fault server stops");
                self.done.store(true, Ordering::Release);
                locked(&self.failure).get_or_insert(error);
                None
            }
        }
    }

    fn answer_all(&self) -> Result<(), ServeError> {
        // Somebody stands still meanwhile. Without the privilege it takes its turn.
        let _ = set_thread_nice(NICE);
        while !self.done.load(Ordering::Acquire) {
            let Some(job) = self.next_job()? else { continue };
            self.busy.fetch_add(1, Ordering::AcqRel);
            let answered = self.answer(job);
            self.last_fault_ns.store(now_ns(), Ordering::Release);
            self.busy.fetch_sub(1, Ordering::AcqRel);
            answered?;
        }
        Ok(())
    }

    /// Waits for a fault; other messages are applied on the way. `None`: look whether to end.
    fn next_job(&self) -> Result<Option<Job>, ServeError> {
        let mut waiting = locked(&self.reading);
        if let Some(job) = waiting.pop_front().or_else(|| self.trouble.due()) {
            return Ok(Some(job));
        }
        if self.done.load(Ordering::Acquire) {
            return Ok(None);
        }
        let (spaces, changes): (Vec<_>, u64) = {
            let state = self.state();
            let each = state.spaces.iter();
            (each.map(|(n, space)| (*n, Arc::clone(&space.userfault))).collect(), state.changes)
        };
        self.poll_and_read(&spaces, changes, &mut waiting)
    }

    fn poll_and_read(
        &self,
        spaces: &[(u64, Arc<Kept>)],
        changes: u64,
        waiting: &mut VecDeque<Job>,
    ) -> Result<Option<Job>, ServeError> {
        loop {
            let each =
                spaces.iter().map(|(_, u)| PollFd::from_borrowed_fd(u.as_fd(), PollFlags::IN));
            let bell = PollFd::from_borrowed_fd(self.bell, PollFlags::IN);
            let mut slots: Vec<_> = each.chain([bell]).collect();
            let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
            match poll(&mut slots, Some(&look)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(ServeError::Wait(error.into())),
            }
            if slots.last().is_some_and(|bell| bell.revents().contains(PollFlags::IN)) {
                self.give_state(waiting)?;
                return Ok(waiting.pop_front());
            }
            let ready = slots.iter().zip(spaces);
            let ready = ready.filter(|(slot, _)| slot.revents().contains(PollFlags::IN));
            let mut state = self.state();
            for (_, (space, _)) in ready {
                if let Some(Some(job)) = state.next(self.ledger, *space)? {
                    waiting.push_back(job);
                }
            }
            if let Some(job) = waiting.pop_front() {
                return Ok(Some(job));
            }
            if state.changes != changes {
                return Ok(None);
            }
        }
    }

    /// Writes the state down for whoever asked.
    fn give_state(&self, waiting: &mut VecDeque<Job>) -> Result<(), ServeError> {
        // Its count means nothing; that it was reset by another server neither.
        let _ = rustix::io::read(self.bell, &mut [0_u8; 8]);
        let asked = self.ledger.get(Word::StateAsked);
        let mut state = self.state();
        self.read_all(&mut state, waiting)?;
        state.settle(self.ledger)?;
        self.ledger.set(Word::StateGiven, asked);
        Ok(())
    }

    /// Reads every message that is there, if nobody else is at it.
    pub(super) fn drain(&self) -> Result<(), ServeError> {
        let mut waiting = match self.reading.try_lock() {
            Ok(waiting) => waiting,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => {
                std::thread::yield_now();
                return Ok(());
            }
        };
        self.read_all(&mut self.state(), &mut waiting)
    }

    fn read_all(&self, state: &mut State, waiting: &mut VecDeque<Job>) -> Result<(), ServeError> {
        let spaces: Vec<u64> = state.spaces.keys().copied().collect();
        for space in spaces {
            while let Some(read) = state.next(self.ledger, space)? {
                waiting.extend(read);
            }
        }
        Ok(())
    }

    /// Answers one fault.
    fn answer(&self, job: Job) -> Result<(), ServeError> {
        if !job.is_again {
            match self.trouble.meet(self.ledger, &job) {
                Met::New => self.note(&job),
                Met::Tried => {}
                Met::Waits => return Ok(()),
            }
        }
        match self.put_page(job)? {
            Ok(()) => self.trouble.over(self.ledger, &job),
            Err(error) => self.trouble.wait(self.ledger, job, &error),
        }
        Ok(())
    }

    /// Counts and logs a fault.
    fn note(&self, job: &Job) {
        let (space, page) = job.key();
        let count = self.ledger.add(Word::Faults, 1);
        tracing::trace!(space, page = page.0, count, "fault");
        self.ledger.log_fault(space, page, job.fault.thread, now_ns());
    }

    /// Puts the page of `job` in, if the source has it to give and somebody is there to get it.
    fn put_page(&self, job: Job) -> Result<Result<(), PageSourceError>, ServeError> {
        let page = job.fault.address.page();
        loop {
            let source = self.source_of(job.space, page);
            let piece = match source.map(|source| self.pages.piece_of(source)).transpose() {
                Ok(piece) => piece.flatten(),
                Err(error) => return Ok(Err(error)),
            };
            let state = self.state();
            let Some(space) = state.spaces.get(&job.space) else { return Ok(Ok(())) };
            if space.view.layout.source_of(page) != source {
                continue;
            }
            let at = PageRange::new(page.0, page.0 + 1);
            let put = match (source, &piece) {
                (Some(source), Some(piece)) => {
                    let bytes = piece.bytes(PageRange::new(source.0, source.0 + 1));
                    space.userfault.copy(page.addr(), bytes, PUT)?
                }
                _ => space.userfault.zero(at.addrs(), false)?,
            };
            match put.obstacle {
                None => {
                    if piece.is_some() && job.space == 0 {
                        self.ledger.add(Word::PagesPresent, 1);
                    }
                    drop(state);
                    // What was decoded with it would have to be decoded again.
                    if let Some(piece) = piece.filter(|_| self.is_filling()) {
                        self.busy.fetch_sub(1, Ordering::AcqRel);
                        let put = self.put_piece(job.space, &piece);
                        self.busy.fetch_add(1, Ordering::AcqRel);
                        put?;
                    }
                    break;
                }
                // Somebody put it in, or it is no longer ours to put in.
                Some(Obstacle::Present | Obstacle::NotMapped) => {
                    space.userfault.wake(at.addrs())?;
                    break;
                }
                Some(Obstacle::Ended) => break,
                Some(Obstacle::Changing) => {
                    drop(state);
                    self.drain()?;
                }
            }
        }
        Ok(Ok(()))
    }

    fn source_of(&self, space: u64, page: PageIndex) -> Option<PageIndex> {
        self.state().spaces.get(&space)?.view.layout.source_of(page)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Whether the process of a space has ended: its userfaultfd then knows no memory any more.
    pub(super) fn has_ended(space: &Space) -> bool {
        // No page is ever mapped at the very end of user memory.
        let nowhere = AddrRange::new(EVERYWHERE.end.0 - PAGE_SIZE, EVERYWHERE.end.0);
        matches!(
            space.userfault.zero(nowhere, true),
            Ok(Progress { obstacle: Some(Obstacle::Ended), .. })
        )
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
