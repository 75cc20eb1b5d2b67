//! Loading: page source -> memory of the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mem::{MemoryId, PAGE_SIZE, PageRange, PageSet, PageSource};
use plan::Plan;
use sys::remote::ProcMem;
use sys::userfault::{Install, Userfault};

use crate::order::{Piece, load_order};
use crate::{Observer, Phase, ResumeError};

/// Pages in a piece: 1 MiB, in which the kernel copies at full speed and which still fits into
/// a processor's second-level cache.
const PIECE_PAGES: u64 = 256;
const PIECE_BYTES: usize = 1 << 20;
const _: () = assert!(PIECE_BYTES as u64 == PIECE_PAGES * PAGE_SIZE);

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
            MemoryId::Private(space) if space == self.space => {
                for (part, is_missing) in self.parts(pages) {
                    let before = (part.start.0 - pages.start.0) * PAGE_SIZE;
                    let at = usize::try_from(before).map_err(io::Error::other)?;
                    let length = usize::try_from(part.bytes()).map_err(io::Error::other)?;
                    let bytes = bytes.get(at..at + length).unwrap_or_default();
                    match is_missing {
                        true => self.put(part, bytes)?,
                        false => self.memory.write_all(part.start.addr(), bytes)?,
                    }
                }
                Ok(())
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
    /// The parts of `pages` that are missing ones, and those that are not: mappings that touch make
    /// one run, and one of them may be registered and the other not.
    fn parts(&self, pages: PageRange) -> Vec<(PageRange, bool)> {
        let whole: PageSet = [pages].into_iter().collect();
        let Some((missing, _)) = &self.missing else { return vec![(pages, false)] };
        let others = whole.difference(missing);
        let mut parts: Vec<_> = missing.within(pages).map(|part| (part, true)).collect();
        parts.extend(others.runs().iter().map(|part| (*part, false)));
        parts
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

/// Cuts `sets` into pieces, in the order of `order`: see [`load_order`].
pub(super) fn pieces(sets: &[(MemoryId, PageSet)], order: Option<&Plan>) -> Vec<Piece> {
    load_order(sets, order, PIECE_PAGES)
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
    let total: u64 = pieces.iter().map(Piece::bytes).sum();
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<ResumeError>> = Mutex::new(None);
    let work = || {
        let mut buffer = vec![0; PIECE_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            match load_piece(source, targets, piece, &mut buffer, observer) {
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
    piece: &Piece,
    buffer: &mut [u8],
    observer: &dyn Observer,
) -> Result<u64, ResumeError> {
    if let Some(why) = observer.cancelled() {
        return Err(ResumeError::Cancelled(why));
    }
    let bytes = piece.bytes();
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let Some(buffer) = buffer.get_mut(..length) else {
        let cause = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(failed(piece.memory, piece.hull(), cause));
    };
    source.read_runs(piece.memory, &piece.runs, buffer)?;
    let mut rest: &[u8] = buffer;
    for run in &piece.runs {
        let (these, others) = rest.split_at(usize::try_from(run.bytes()).unwrap_or(rest.len()));
        rest = others;
        let written = targets.write(piece.memory, *run, these);
        written.map_err(|cause| failed(piece.memory, *run, cause))?;
    }
    Ok(bytes)
}

fn failed(memory: MemoryId, pages: PageRange, cause: io::Error) -> ResumeError {
    let step = format!("write {pages} of {memory}");
    ResumeError::Step { phase: Phase::Memory, step, cause }
}
