//! Loading: page source -> memory of the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mem::{MemoryId, PageRange, PageSet, PageSource};
use plan::Plan;
use sys::remote::ProcMem;
use sys::userfault::{Install, Userfault};

use crate::{Observer, Phase, ResumeError};

/// Pages in a piece: 1 MiB, in which the kernel copies at full speed and which still fits into
/// a processor's second-level cache.
const PIECE_PAGES: u64 = 256;
const PIECE_BYTES: usize = 1 << 20;
const _: () = assert!(PIECE_BYTES as u64 == PIECE_PAGES * mem::PAGE_SIZE);

/// Where pages go.
pub(super) struct Targets {
    /// The process's memory.
    pub(super) memory: ProcMem,
    /// The number of the address space that memory is.
    pub(super) space: u32,
    /// The shared objects, by number.
    pub(super) objects: Vec<Option<File>>,
    /// Where pages are missing, and what puts them in.
    pub(super) missing: Option<(PageSet, Userfault)>,
}

impl Targets {
    fn write(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> io::Result<()> {
        match memory {
            MemoryId::Private(space) if space == self.space && self.is_missing(pages) => {
                self.put(pages, bytes)
            }
            MemoryId::Private(space) if space == self.space => {
                self.memory.write_all(pages.start.addr(), bytes)
            }
            MemoryId::Shared(object) => {
                let file = self.objects.get(object as usize).and_then(Option::as_ref);
                let file = file.ok_or_else(|| io::Error::other("there is no such object"))?;
                file.write_all_at(bytes, pages.start.addr().0)
            }
            MemoryId::Private(_) => Err(io::Error::other("there is no such address space")),
        }
    }
}

impl Targets {
    /// Whether the pages are missing ones; a mapping is registered whole, so all are or none.
    fn is_missing(&self, pages: PageRange) -> bool {
        self.missing.as_ref().is_some_and(|(set, _)| set.contains(pages.start))
    }

    fn put(&self, pages: PageRange, bytes: &[u8]) -> io::Result<()> {
        let Some((_, userfault)) = &self.missing else { return Ok(()) };
        let how = Install { write_protect: true, no_wake: false };
        let put = userfault.copy(pages.start.addr(), bytes, how).map_err(io::Error::other)?;
        match put.obstacle {
            None => Ok(()),
            Some(why) => Err(io::Error::other(format!("the new process's memory is {why:?}"))),
        }
    }
}

/// One run of pages to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    memory: MemoryId,
    pages: PageRange,
}

/// Cuts `sets` into pieces, in the order of `order` where it names pages, then ascending.
pub(super) fn pieces(sets: &[(MemoryId, PageSet)], order: Option<&Plan>) -> Vec<Piece> {
    let each = load_order(sets, order, PIECE_PAGES).into_iter();
    each.map(|(memory, pages)| Piece { memory, pages }).collect()
}

/// Runs of at most `pages_max` pages of `sets`, in the order of `order` where it names pages, then
/// ascending.
pub(crate) fn load_order(
    sets: &[(MemoryId, PageSet)],
    order: Option<&Plan>,
    pages_max: u64,
) -> Vec<(MemoryId, PageRange)> {
    let mut left: Vec<(MemoryId, PageSet)> = sets.to_vec();
    let mut pieces = Vec::new();
    let mut extents: Vec<_> = order.iter().flat_map(|plan| &plan.extents).collect();
    extents.sort_by_key(|extent| extent.load_order);
    for extent in extents {
        if let Some((_, set)) = left.iter_mut().find(|(id, _)| *id == extent.memory) {
            let runs: Vec<_> = set.within(extent.pages).collect();
            for run in runs {
                set.remove(run);
                push(&mut pieces, extent.memory, run, pages_max);
            }
        }
    }
    for (memory, set) in left {
        for run in set.runs() {
            push(&mut pieces, memory, *run, pages_max);
        }
    }
    pieces
}

fn push(pieces: &mut Vec<(MemoryId, PageRange)>, memory: MemoryId, run: PageRange, pages_max: u64) {
    pieces.extend(run.aligned_chunks(pages_max).map(|pages| (memory, pages)));
}

/// Loads every piece with `workers` threads, in order as far as several threads can; gives the
/// bytes loaded.
pub(super) fn load(
    source: &dyn PageSource,
    targets: &Targets,
    pieces: &[Piece],
    workers: usize,
    observer: &dyn Observer,
) -> Result<u64, ResumeError> {
    let total: u64 = pieces.iter().map(|p| p.pages.bytes()).sum();
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<ResumeError>> = Mutex::new(None);
    let work = || {
        let mut buffer = vec![0; PIECE_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            match load_piece(source, targets, *piece, &mut buffer, observer) {
                Ok(bytes) => {
                    let sum = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
                    observer.loaded(sum, total);
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut slot = failure.lock().unwrap_or_else(|e| e.into_inner());
                    slot.get_or_insert(error);
                }
            }
        }
    };
    if workers <= 1 || pieces.len() <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let name = std::thread::Builder::new().name("load".to_owned());
                // With fewer threads it is slower, not wrong.
                if name.spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
        });
    }
    match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(error) => Err(error),
        None => Ok(done.into_inner()),
    }
}

fn load_piece(
    source: &dyn PageSource,
    targets: &Targets,
    piece: Piece,
    buffer: &mut [u8],
    observer: &dyn Observer,
) -> Result<u64, ResumeError> {
    if let Some(why) = observer.cancelled() {
        return Err(ResumeError::Cancelled(why));
    }
    let bytes = piece.pages.bytes();
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let Some(buffer) = buffer.get_mut(..length) else {
        return Err(failed(piece, io::Error::from(io::ErrorKind::InvalidInput)));
    };
    source.read(piece.memory, piece.pages, buffer)?;
    targets.write(piece.memory, piece.pages, buffer).map_err(|cause| failed(piece, cause))?;
    Ok(bytes)
}

fn failed(piece: Piece, cause: io::Error) -> ResumeError {
    let step = format!("write {} of {}", piece.pages, piece.memory);
    ResumeError::Step { phase: Phase::Memory, step, cause }
}

#[cfg(test)]
mod tests {
    use plan::{Extent, Tier, Treatment};

    use super::*;

    const MEMORY: MemoryId = MemoryId::Private(0);

    fn set(runs: &[(u64, u64)]) -> PageSet {
        runs.iter().map(|(start, end)| PageRange::new(*start, *end)).collect()
    }

    #[test]
    fn every_page_is_loaded_once_and_planned_ones_come_first() {
        let sets = [(MEMORY, set(&[(0, 300), (1000, 1010)]))];
        let extent = Extent {
            memory: MEMORY,
            pages: PageRange::new(1005, 1100),
            tier: Tier::Critical,
            treatment: Treatment::Raw,
            load_order: 0,
            reason: "".into(),
        };
        let plan = Plan { extents: vec![extent] };
        let got: Vec<_> =
            pieces(&sets, Some(&plan)).iter().map(|p| (p.pages.start.0, p.pages.end.0)).collect();
        assert_eq!(got, [(1005, 1010), (0, 256), (256, 300), (1000, 1005)]);
    }
}
