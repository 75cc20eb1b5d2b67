//! Copying a program's private memory while it runs, so that little is left for the freeze.
//!
//! Each [`round`](Precopy::round) arms what changed since the round before and then copies it, so
//! that whatever is written during or after the copying is seen by the next round. The
//! [last](Precopy::left) one is made of the frozen program. Nothing is believed of a mapping
//! that is not under tracking from arming to looking: it is copied whole, frozen. And no page is
//! left out for being unchanged: one that is neither known to be copied nor known to be empty is
//! looked at, and copied. So a mapping that was replaced by another with the same bounds, a program
//! that called execve(2), or one with a userfaultfd of its own costs time and never a byte.
//!
//! What tracking cannot see, and how it is met: docs/decisions/0006-copying-while-it-runs.md.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mem::{AddrRange, MemoryId, PageSet, PageSink, PageSource, Sharing};
use sys::proc::{ProcError, maps_entries, parse_fdinfo, parse_limits};
use sys::userfault::Userfault;
use target::{
    Changed, FreezeOptions, Memory, PrivateRange, Process, Program, Released, TrackError, Tracked,
    Tracker,
};

use crate::copy::{CopyError, PageList, copy_what_is_there};

/// The private memory of an address space; one for now.
const PRIVATE: MemoryId = MemoryId::Private(0);

/// Bytes armed at once in a stop of a program that reads around the page cache.
const ARMED_STOPPED_BYTES: u64 = 32 << 20;

/// How long such a stop goes on with the next bytes.
const STOP_MAX: Duration = Duration::from_millis(1);

/// New mappings of less than this are left to the freeze; to take them in costs a stop.
const WORTH_A_STOP_BYTES: u64 = 1 << 20;

/// A program whose memory is being copied while it runs. Dropping it ends the tracking.
#[derive(Debug)]
pub struct Precopy<'p> {
    process: &'p Process,
    tracker: Arc<Tracker<'p>>,
    freeze: FreezeOptions,
    /// Pages whose bytes the sink has, or is told to have, unless the next look says that they
    /// changed.
    copied: PageSet,
    /// Those of them that were copied before this began.
    inherited: PageSet,
    /// Pages that held nothing when they were armed, unless the next look says the like. Of what
    /// is in neither set nothing is known, however unchanged it may be.
    empty: PageSet,
    /// Arm only while every thread stands still.
    arm_stopped: bool,
    stops: Vec<Duration>,
}

/// What a look at tracked mappings found.
#[derive(Default)]
struct Look {
    changed: Changed,
    /// The mappings that are tracked. What is in no other is left to the freeze.
    tracked: PageSet,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Bytes that had changed since the round before and were copied.
    pub copied_bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// Processor time of all threads for reading them.
    pub reading: Duration,
}

/// What the freeze has to copy.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Every page that holds content, copied before or not.
    pub pages: PageList,
    /// Those that are not copied yet.
    pub list: PageList,
    /// Guard pages in private memory, ascending, for [`Captured::set_guards`].
    ///
    /// [`Captured::set_guards`]: crate::Captured::set_guards
    pub guards: Vec<AddrRange>,
}

/// Why copying while it runs was given up. The program runs on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrecopyError {
    /// Its writes cannot be tracked.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// Something under `/proc`.
    #[error("copy memory while it runs: {0}")]
    Proc(#[from] ProcError),
    /// It could not be stopped to arm its pages.
    #[error("copy memory while it runs: {0}")]
    Freeze(#[from] target::FreezeError),
    /// Its memory cannot be read.
    #[error("copy memory while it runs: {0}")]
    Memory(#[from] target::MemoryError),
    /// Pages could not be moved.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl<'p> Precopy<'p> {
    /// Begins to track `process`; `freeze` says how it may be stopped for that, which is once
    /// and short.
    ///
    /// # Errors
    /// When writes cannot be tracked: the memory has to be copied while the program is frozen.
    pub fn start(process: &'p Process, freeze: FreezeOptions) -> Result<Self, PrecopyError> {
        let (tracker, stop) = Tracker::start(process, freeze.deadline, to_track)?;
        let mut precopy = Self::carry_on(process, freeze, Arc::new(tracker), PageSet::new())?;
        precopy.stops.push(stop);
        Ok(precopy)
    }

    /// Goes on with a `tracker` that has been at work since all of `copied` was copied: of those
    /// pages only what has changed since is copied, and the sink has to be told of the others,
    /// which are [`inherited`](Self::inherited).
    ///
    /// # Errors
    /// When it cannot be told how the program reads its files.
    pub fn carry_on(
        process: &'p Process,
        freeze: FreezeOptions,
        tracker: Arc<Tracker<'p>>,
        copied: PageSet,
    ) -> Result<Self, PrecopyError> {
        Ok(Self {
            process,
            tracker,
            freeze,
            inherited: copied.clone(),
            copied,
            empty: PageSet::new(),
            arm_stopped: reads_directly(process)?,
            stops: Vec::new(),
        })
    }

    /// Pages that were copied before this began and have not changed since, as far as the rounds
    /// tell. The sink has to be told of them, in an earlier round than the last: what is found
    /// changed then is copied, and takes their place.
    pub const fn inherited(&self) -> &PageSet {
        &self.inherited
    }

    /// The tracker, for whoever carries on, or wants to know what is written meanwhile.
    pub fn tracker(&self) -> &Arc<Tracker<'p>> {
        &self.tracker
    }

    /// Tracks a program as [`start`](Self::start) does, for somebody who tells it to
    /// [`carry_on`](Self::carry_on) with: the descriptor of a tracker that another process of ours
    /// has given up, and what that knew.
    ///
    /// # Errors
    /// When the program's page tables cannot be read.
    pub fn adopt(
        process: &'p Process,
        userfault: Userfault,
        known: Tracked,
    ) -> Result<Arc<Tracker<'p>>, PrecopyError> {
        Ok(Arc::new(Tracker::adopt(process, to_track, userfault, known)?))
    }

    /// Every stop of the program so far.
    pub fn stops(&self) -> &[Duration] {
        &self.stops
    }

    /// Copies what changed since the round before, everything in the first one. `sink` takes
    /// pages again that it had; the later bytes count. `workers` threads of nice value `nice`
    /// copy; `stop` as for [`copy`].
    ///
    /// # Errors
    /// When the program ends, the sink fails, or `stop` says so.
    pub fn round(
        &mut self,
        sink: &dyn PageSink,
        workers: usize,
        nice: i32,
        stop: &(dyn Fn(u64) -> Option<String> + Sync),
    ) -> Result<Round, PrecopyError> {
        let begun = Instant::now();
        let mappings = private_mappings(self.process)?;
        let memory = Memory::live(self.process, mappings.clone(), Vec::new())?;
        let mut look = self.look(&mappings)?;
        if !self.arm_stopped && reads_directly(self.process)? {
            // Pages that were pinned when they were armed take bytes that nobody sees: forget
            // what was armed and copied, and arm again with nothing under way.
            self.arm_stopped = true;
            self.forget();
            look = self.look_stopped(&mappings, true)?;
        }
        let Look { mut changed, tracked } = look;
        let unchanged = tracked.difference(&changed.pages);
        for set in [&mut self.copied, &mut self.empty, &mut self.inherited] {
            *set = set.difference(&set.difference(&unchanged));
        }
        // What a round left out, because its mapping was not tracked then or it could not be read,
        // has not changed since it was armed, perhaps, and was never copied.
        self.add_unknown(&tracked, &memory, Program::Runs, &mut changed)?;
        let list = PageList::new(vec![(PRIVATE, changed.content.clone())]);
        let (copied, mut left_out) = copy_what_is_there(&memory, &list, sink, workers, nice, stop)?;
        let missed = left_out.remove(&PRIVATE).unwrap_or_default();
        self.copied = self.copied.union(&changed.content.difference(&missed));
        self.empty = self.empty.union(&changed.pages.difference(&changed.content));
        Ok(Round { copied_bytes: copied.bytes, took: begun.elapsed(), reading: copied.reading })
    }

    /// Nothing is known of any page any more.
    fn forget(&mut self) {
        self.copied = PageSet::new();
        self.empty = PageSet::new();
        self.inherited = PageSet::new();
    }

    /// Adds to `changed` what of `pages` is neither in it nor known, with what it holds now.
    fn add_unknown(
        &self,
        pages: &PageSet,
        memory: &Memory,
        program: Program,
        changed: &mut Changed,
    ) -> Result<(), PrecopyError> {
        let known = self.copied.union(&self.empty).union(&changed.pages);
        let unknown = pages.difference(&known);
        let mut content = Vec::new();
        for run in unknown.runs() {
            self.tracker.looking().each(run.addrs(), program == Program::Runs, |piece| {
                content.extend_from_slice(memory.content(piece)?.runs());
                Ok::<_, PrecopyError>(true)
            })?;
        }
        changed.pages = changed.pages.union(&unknown);
        changed.content = changed.content.union(&content.into_iter().collect());
        Ok(())
    }

    /// What changed, armed again.
    fn look(&mut self, mappings: &[PrivateRange]) -> Result<Look, PrecopyError> {
        if self.arm_stopped {
            return self.look_stopped(mappings, false);
        }
        let mut look = Look::default();
        let mut strangers = Vec::new();
        for range in mappings.iter().map(|mapping| mapping.range) {
            match self.tracker.changed(range, Program::Runs, &mut look.changed)? {
                true => look.tracked.insert(range.pages()),
                false => strangers.push(range),
            }
        }
        if strangers.iter().map(|range| range.len()).sum::<u64>() >= WORTH_A_STOP_BYTES {
            self.stops.push(self.tracker.take_in(self.freeze)?);
            for range in strangers {
                if self.tracker.afresh(range, Program::Runs, &mut look.changed)? {
                    look.tracked.insert(range.pages());
                }
            }
        }
        Ok(look)
    }

    /// The same with every thread stopped, so that no read(2) of an O_DIRECT descriptor holds
    /// pages: a thread in one cannot stop before it is over. With `afresh` all is armed again.
    fn look_stopped(
        &mut self,
        mappings: &[PrivateRange],
        afresh: bool,
    ) -> Result<Look, PrecopyError> {
        let mut look = Look::default();
        let chunk_pages = ARMED_STOPPED_BYTES / mem::PAGE_SIZE;
        let mut chunks = mappings
            .iter()
            .flat_map(|mapping| mapping.range.pages().aligned_chunks(chunk_pages))
            .map(|pages| pages.addrs())
            .peekable();
        while chunks.peek().is_some() {
            let frozen = self.process.freeze(self.freeze)?;
            let begun = Instant::now();
            let mut done = Ok(());
            while let Some(chunk) = chunks.next_if(|_| done.is_ok() && begun.elapsed() < STOP_MAX) {
                let tracked = match afresh {
                    true => self.tracker.afresh(chunk, Program::Stopped, &mut look.changed),
                    false => self.tracker.changed(chunk, Program::Stopped, &mut look.changed),
                };
                match tracked {
                    Ok(true) => look.tracked.insert(chunk.pages()),
                    Ok(false) => {}
                    Err(cause) => done = Err(cause),
                }
            }
            self.stops.push(frozen.thaw());
            done?;
        }
        Ok(look)
    }

    /// Finds what is left to copy of the frozen program, whose `memory` is that of its state: what
    /// changed since the last round, what is not tracked, and shared objects. `workers` threads look.
    ///
    /// # Errors
    /// When its memory cannot be looked at.
    pub fn left(&mut self, memory: &Memory, workers: usize) -> Result<Left, PrecopyError> {
        self.tracker.reopen()?;
        if !self.arm_stopped && reads_directly(self.process)? {
            self.forget();
        }
        let ranges: Vec<AddrRange> = memory.private_ranges().iter().map(|m| m.range).collect();
        let mut changed = self.look_last(memory, &ranges, workers)?;
        let all: PageSet = ranges.iter().map(|range| range.pages()).collect();
        self.add_unknown(&all, memory, Program::Stopped, &mut changed)?;
        // Guard pages are never armed, so that each look sees them as changed.
        let mut guards = Vec::new();
        for run in changed.pages.difference(&changed.content).runs() {
            guards.extend(memory.guards(run.addrs())?);
        }
        // What is not mapped any more is no page of the program.
        let kept: PageSet = ranges
            .iter()
            .flat_map(|range| self.copied.within(range.pages()))
            .collect::<PageSet>()
            .difference(&changed.pages);
        let whole = kept.union(&changed.content);
        memory.know(PRIVATE, whole.clone());
        let mut pages = vec![(PRIVATE, whole)];
        let mut left = vec![(PRIVATE, changed.content)];
        for id in memory.memories().into_iter().filter(|id| *id != PRIVATE) {
            let object = memory.pages(id).map_err(CopyError::from)?;
            pages.push((id, object.clone()));
            left.push((id, object));
        }
        Ok(Left { pages: PageList::new(pages), list: PageList::new(left), guards })
    }

    /// What changed in `ranges` of the frozen program, looked at by `workers` threads.
    fn look_last(
        &self,
        memory: &Memory,
        ranges: &[AddrRange],
        workers: usize,
    ) -> Result<Changed, PrecopyError> {
        let total: u64 = ranges.iter().map(|range| range.len()).sum();
        let share = total.div_ceil(workers.max(1) as u64).max(SHARE_BYTES_MIN);
        let pieces: Vec<AddrRange> = ranges
            .iter()
            .flat_map(|range| range.pages().aligned_chunks((share / mem::PAGE_SIZE).max(1)))
            .map(|pages| pages.addrs())
            .collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<Changed, PrecopyError> {
            let mut changed = Changed::default();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(range) = pieces.get(at) else { return Ok(changed) };
                if !self.tracker.changed_last(*range, &mut changed)? {
                    changed.pages.insert(range.pages());
                    changed.content = changed.content.union(&memory.content(*range)?);
                }
            }
        };
        let threads = if total > SHARE_BYTES_MIN { workers.saturating_sub(1) } else { 0 };
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work()?;
            for other in others {
                let one = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                all.pages = all.pages.union(&one.pages);
                all.content = all.content.union(&one.content);
            }
            Ok(all)
        })
    }

    /// Ends the tracking, in short locks of the program's memory map.
    pub fn release(self) -> Released {
        self.tracker.release()
    }

    /// Ends it when nobody else looks through the tracker; else only what is in huge pages is let go
    /// of, so that it stays there.
    pub fn give_up(self) -> Released {
        match Arc::try_unwrap(self.tracker) {
            Ok(tracker) => tracker.release(),
            Err(shared) => Released { split: shared.spare_huge(), ..Released::default() },
        }
    }
}

/// Address space below which one thread looks faster than two are started.
const SHARE_BYTES_MIN: u64 = 512 << 20;

/// The same as addresses, for the tracker.
fn to_track(process: &Process) -> Result<Vec<AddrRange>, ProcError> {
    Ok(private_mappings(process)?.into_iter().map(|mapping| mapping.range).collect())
}

/// The mappings that hold private pages and can be tracked, as they are now: those of no file.
/// When a page that was copied from a file is dropped the kernel puts a marker in its place that
/// looks armed and unwritten (it must outlive the page for shared files), so of private file
/// mappings nothing is believed. They are small as a rule, and are copied at the freeze.
fn private_mappings(process: &Process) -> Result<Vec<PrivateRange>, ProcError> {
    process.dir().parse("maps", &mut Vec::new(), |text| {
        let mut private = Vec::new();
        for entry in maps_entries(text) {
            let entry = entry?;
            // The kernel's own: vdso, vvar, vsyscall.
            let is_kernels = entry.name_raw.starts_with(b"[v");
            if entry.sharing == Sharing::Private && !is_kernels && !entry.has_inode() {
                let readable = entry.protection.read;
                private.push(PrivateRange { range: entry.range, readable });
            }
        }
        Ok(private)
    })
}

/// What a running program has that decides how it can be copied while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// A descriptor of its own is free, which the tracking of its writes takes for a moment.
    pub has_free_descriptor: bool,
    /// It reads files around the page cache, so that its pages are armed in stops only.
    pub reads_directly: bool,
}

impl Means {
    /// Those of `process`, as they are now.
    ///
    /// # Errors
    /// When it has ended or may not be looked into.
    pub fn of(process: &Process) -> Result<Self, ProcError> {
        const NOFILE: usize = libc::RLIMIT_NOFILE as usize;
        let limits = process.dir().parse("limits", &mut Vec::new(), parse_limits)?;
        let limit = limits.get(NOFILE).map_or(u64::MAX, |limit| limit.soft);
        let is_below = |fd: &&i32| u64::try_from(**fd).is_ok_and(|fd| fd < limit);
        let taken = process.dir().descriptors()?.iter().filter(is_below).count();
        Ok(Self {
            has_free_descriptor: u64::try_from(taken).is_ok_and(|taken| taken < limit),
            reads_directly: reads_directly(process)?,
        })
    }
}

/// Whether the program has a descriptor that is read and written around the page cache
/// (`O_DIRECT`): the device writes to pages that were pinned when the read(2) began, without
/// their protection being lifted.
fn reads_directly(process: &Process) -> Result<bool, ProcError> {
    let mut buffer = Vec::new();
    for fd in process.dir().descriptors()? {
        match is_direct(process, fd, &mut buffer) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            // Closed since it was listed.
            Err(cause) if cause.is_gone() => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(false)
}

fn is_direct(process: &Process, fd: i32, buffer: &mut Vec<u8>) -> Result<bool, ProcError> {
    let info = process.dir().parse(&format!("fdinfo/{fd}"), buffer, parse_fdinfo)?;
    if info.flags & libc::O_DIRECT.cast_unsigned() == 0 {
        return Ok(false);
    }
    // Of a pipe the flag says that packets stay apart (pipe2(2)): its bytes are copied, as ever. By its
    // number it is known to be what has the flag, and not what the descriptor has become since.
    let stat = process.dir().stat(&format!("fd/{fd}"))?;
    Ok(stat.file_type() != libc::S_IFIFO || stat.inode != info.inode)
}
