//! What is looked at when both processes stand still, besides what the builder compares.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use capture::Captured;
use mem::{MemoryId, PageIndex, PageRange, PageSource, PageSourceError, Sharing, VirtAddr};
use process::{Blocker, Instance, StateKind, Thread};
use rustix::fs::{Mode, OFlags};
use store::Checkpoint;
use sys::task::Tid;
use target::{Memory, Process};

use super::error::UpdateError;

/// Pages that are compared at most, spread over all of them.
const PAGES_MAX: u64 = 64;
/// Every so many of them are compared with the checkpoint, too: each has to be decoded.
const STORED_EVERY: u64 = 8;
const MEMORY: MemoryId = MemoryId::Private(0);

/// Compares pages of the frozen program with the process `new` that was built from it, those that
/// are there in both, and with the checkpoint, from which the others will come. Pages that the
/// kernel writes to on its own account are left out.
pub(super) fn pages(
    captured: &Captured,
    checkpoint: &Checkpoint,
    new: i32,
) -> Result<u64, UpdateError> {
    let process = Process::open(new).map_err(|e| failed(io::Error::other(e)))?;
    let new = Memory::live(&process, Vec::new(), Vec::new());
    let new = new.map_err(|e| failed(io::Error::other(e)))?;
    let all = captured.memory.pages(MEMORY).map_err(|e| failed(io::Error::other(e)))?;
    let step = (all.count().0 / PAGES_MAX).max(1);
    let (mut compared, mut next, mut before) = (0, 0, 0);
    for run in all.runs() {
        let count = run.count().0;
        while next < before + count {
            let page = PageIndex(run.start.0 + (next - before));
            let is_stored = (next / step).is_multiple_of(STORED_EVERY);
            next += step;
            if written_by_kernel(&captured.instance, page) {
                continue;
            }
            let there = new.content(page_range(page).addrs());
            // One that is not there yet is not asked for: that would count as a fault of the program.
            let is_there = !there.map_err(|e| failed(io::Error::other(e)))?.is_empty();
            if !is_there && !is_stored {
                continue;
            }
            let Some(old) = read(&captured.memory, page)? else { continue };
            let differs = |bytes: Option<Vec<u8>>| bytes.is_some_and(|bytes| bytes != old);
            if is_there && differs(read(&new, page)?)
                || is_stored && differs(read(checkpoint, page)?)
            {
                return Err(UpdateError::Differs { page: page.addr().0 });
            }
            compared += 1;
        }
        before += count;
    }
    Ok(compared)
}

fn page_range(page: PageIndex) -> PageRange {
    PageRange { start: page, end: page.offset(1) }
}

/// The page's bytes; none where it has no content of its own.
fn read(source: &dyn PageSource, page: PageIndex) -> Result<Option<Vec<u8>>, UpdateError> {
    let pages = page_range(page);
    let mut bytes = vec![0; usize::try_from(pages.bytes()).unwrap_or_default()];
    match source.read(MEMORY, pages, &mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(PageSourceError::Absent { .. }) => Ok(None),
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

fn failed(cause: io::Error) -> UpdateError {
    UpdateError::Io { step: "compare pages", cause }
}

/// Whether the kernel writes to the page by itself: the restartable-sequence areas.
fn written_by_kernel(instance: &Instance, page: PageIndex) -> bool {
    let threads = instance.groups.iter().flat_map(|group| &group.threads);
    let areas = threads.filter_map(|thread| thread.rseq);
    areas.into_iter().any(|rseq| {
        let last = VirtAddr(rseq.address + u64::from(rseq.size_bytes.max(1)) - 1);
        (VirtAddr(rseq.address).page()..=last.page()).contains(&page)
    })
}

/// The files of the program's shared memory once more, open for writing, too.
pub(super) fn objects(captured: &Captured) -> Result<Vec<OwnedFd>, UpdateError> {
    let failed = |cause: io::Error| UpdateError::Io { step: "open shared memory", cause };
    let open = |object: &target::ObjectFile| {
        let path = format!("/proc/self/fd/{}", object.file.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))
    };
    captured.memory.object_files().iter().map(open).collect()
}

/// What only a program that stands still shows, and what an update of it would break.
pub(super) fn refuse_late(
    captured: &Captured,
    pid: i32,
    is_stopped: bool,
) -> Result<(), UpdateError> {
    let Some(group) = captured.instance.groups.first() else { return Ok(()) };
    let blocker = |kind, object: String, lift: &str| {
        let lift = lift.to_owned();
        UpdateError::Late(Blocker { kind, object, holder: String::new(), lift, transient: true })
    };
    if is_stopped {
        let lift = "let it go on (SIGCONT)";
        return Err(blocker(StateKind::Process, "the process, which is stopped".to_owned(), lift));
    }
    let shares = captured.instance.spaces.iter().flat_map(|space| &space.mappings).any(|mapping| {
        mapping.sharing == Sharing::Shared && (mapping.protection.write || mapping.has_flag(b"mw"))
    });
    let Some(holder) = group.threads.iter().find(|t| shares && holds_robust_lock(t, pid)) else {
        return Ok(());
    };
    let object = format!("a robust mutex that thread {} holds", holder.tid);
    let lift = "try again: in shared memory the end of the old process would let go of it";
    Err(blocker(StateKind::RobustList, object, lift))
}

/// Whether a thread has anything on its list of robust futexes (set_robust_list(2)): the kernel
/// goes through it when the thread ends.
fn holds_robust_lock(thread: &Thread, pid: i32) -> bool {
    let head = thread.robust_list.head;
    let Some(tid) = Tid::new(pid) else { return true };
    if head == 0 {
        return false;
    }
    // struct robust_list_head: first entry, offset, entry that is being taken.
    let mut words = [0; 24];
    if sys::remote::read_exact(tid, VirtAddr(head), &mut words).is_err() {
        return true;
    }
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&words[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    word(0) & !1 != head || word(16) != 0
}
