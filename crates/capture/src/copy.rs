//! Moving pages from a frozen program to a sink, from several threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mem::{MemoryId, PageRange, PageSet, PageSink, PageSinkError, PageSource, PageSourceError};
use target::Memory;

/// Pages of a piece: 64 KiB, the most that a frame of a checkpoint holds.
const PIECE_PAGES: u64 = 16;
/// Pages read by one system call: 1 MiB, where its own cost no longer shows.
const READ_PAGES: u64 = 256;
const PAGE_BYTES: usize = 4096;
/// Pages read by one system call from a program that runs: the kernel holds the lock of its
/// memory map for as long as the call copies, and the program waits.
const GENTLE_READ_PAGES: u64 = 16;

/// What there is to copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageList {
    memories: Vec<(MemoryId, PageSet)>,
}

impl PageList {
    /// The pages of each memory that hold content.
    pub fn memories(&self) -> &[(MemoryId, PageSet)] {
        &self.memories
    }

    /// The pages of `memory` that hold content.
    pub fn of(&self, memory: MemoryId) -> PageSet {
        let found = self.memories.iter().find(|(id, _)| *id == memory);
        found.map(|(_, pages)| pages.clone()).unwrap_or_default()
    }

    pub(crate) fn new(memories: Vec<(MemoryId, PageSet)>) -> Self {
        Self { memories }
    }

    /// The same list in two: the private pages of `some` with all shared objects, and the private
    /// pages that are left.
    #[must_use]
    pub fn divide(self, some: &PageSet) -> (Self, Self) {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for (id, pages) in self.memories {
            if let MemoryId::Private(_) = id {
                let rest = pages.difference(some);
                with.push((id, pages.difference(&rest)));
                without.push((id, rest));
            } else {
                with.push((id, pages));
            }
        }
        (Self { memories: with }, Self { memories: without })
    }

    /// Adds pages of `memory`, which come from elsewhere.
    pub fn add(&mut self, memory: MemoryId, pages: &PageSet) {
        let at = self.memories.iter().position(|(id, _)| *id == memory);
        let at = at.unwrap_or_else(|| {
            self.memories.push((memory, PageSet::new()));
            self.memories.len() - 1
        });
        if let Some((_, set)) = self.memories.get_mut(at) {
            pages.runs().iter().for_each(|run| set.insert(*run));
        }
    }

    /// All of them, in bytes.
    pub fn bytes(&self) -> u64 {
        self.memories.iter().map(|(_, set)| set.count().bytes()).sum()
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes given to the sink.
    pub bytes: u64,
    /// Processor time of the threads for reading; encoding and writing is not in it.
    pub reading: Duration,
}

/// Why copying was given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A page could not be read.
    #[error("copy memory: {0}")]
    Source(#[from] PageSourceError),
    /// The sink refused a page.
    #[error("copy memory: {0}")]
    Sink(#[from] PageSinkError),
    /// The caller asked to stop.
    #[error("copy memory: {0}")]
    Stopped(String),
    /// A thread could not be started.
    #[error("copy memory: start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Lists the pages of `memory` that hold content.
///
/// # Errors
/// When the page tables cannot be read.
pub fn pages(memory: &Memory) -> Result<PageList, PageSourceError> {
    let ids = memory.memories();
    let memories = ids
        .into_iter()
        .map(|id| Ok((id, memory.pages(id)?)))
        .collect::<Result<Vec<_>, PageSourceError>>()?;
    Ok(PageList { memories })
}

/// Copies every page of `list` from `source` to `sink`, from `workers` threads (at least one).
/// Each piece is at most 64 KiB and never crosses a multiple of it. `stop` is asked between
/// reads, with the bytes copied so far; a sentence from it ends the copy.
///
/// Memory used: 1 MiB a thread.
///
/// # Errors
/// The first failure of a read, of the sink, or the sentence of `stop`.
pub fn copy(
    source: &dyn PageSource,
    list: &PageList,
    sink: &dyn PageSink,
    workers: usize,
    stop: &(dyn Fn(u64) -> Option<String> + Sync),
) -> Result<Copied, CopyError> {
    let how = How { read_pages: READ_PAGES, nice: None, left_out: None };
    copy_pages(source, list, sink, workers, stop, how)
}

/// Like [`copy`], with threads of nice value `nice`, of a source that nobody waits for.
///
/// # Errors
/// As [`copy`].
pub fn copy_behind(
    source: &dyn PageSource,
    list: &PageList,
    sink: &dyn PageSink,
    workers: usize,
    nice: i32,
    stop: &(dyn Fn(u64) -> Option<String> + Sync),
) -> Result<Copied, CopyError> {
    let how = How { read_pages: READ_PAGES, nice: Some(nice), left_out: None };
    copy_pages(source, list, sink, workers, stop, how)
}

/// Like [`copy`], of a source whose pages may go away meanwhile: what cannot be read is left out,
/// and listed.
pub(crate) fn copy_what_is_there(
    source: &dyn PageSource,
    list: &PageList,
    sink: &dyn PageSink,
    workers: usize,
    nice: i32,
    stop: &(dyn Fn(u64) -> Option<String> + Sync),
) -> Result<(Copied, BTreeMap<MemoryId, PageSet>), CopyError> {
    let left_out = Mutex::default();
    let how = How { read_pages: GENTLE_READ_PAGES, nice: Some(nice), left_out: Some(&left_out) };
    let copied = copy_pages(source, list, sink, workers, stop, how)?;
    Ok((copied, left_out.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

type LeftOut = Mutex<BTreeMap<MemoryId, PageSet>>;

/// How pages are read.
#[derive(Clone, Copy)]
struct How<'a> {
    /// Pages read by one system call.
    read_pages: u64,
    /// What the priority is lowered to between reads.
    nice: Option<i32>,
    /// Where to note what cannot be read; `None`: that is an error.
    left_out: Option<&'a LeftOut>,
}

fn copy_pages(
    source: &dyn PageSource,
    list: &PageList,
    sink: &dyn PageSink,
    workers: usize,
    stop: &(dyn Fn(u64) -> Option<String> + Sync),
    how: How<'_>,
) -> Result<Copied, CopyError> {
    let nice = how.nice;
    let reads = reads(list, how.read_pages);
    let work = Work {
        source,
        sink,
        reads: &reads,
        next: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        reading_ns: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        failure: Mutex::new(None),
        stop,
        how,
    };
    let workers = workers.clamp(1, work.reads.len().max(1));
    std::thread::scope(|scope| {
        // At a priority of their own all threads are new ones: this one could not go back.
        let others = workers - usize::from(nice.is_none());
        let started = (0..others)
            .map(|_| {
                let thread = std::thread::Builder::new().name("copy".to_owned());
                thread.spawn_scoped(scope, || {
                    work.run();
                })
            })
            // With fewer threads the copy is slower, not wrong.
            .take_while(Result::is_ok)
            .count();
        if nice.is_none() || started == 0 {
            work.run();
        }
    });
    let failure = work.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failure {
        Some(cause) => Err(cause),
        None => Ok(Copied {
            bytes: work.bytes.into_inner(),
            reading: Duration::from_nanos(work.reading_ns.into_inner()),
        }),
    }
}

/// The runs cut into reads whose ends lie on multiples of the read size.
fn reads(list: &PageList, read_pages: u64) -> Vec<(MemoryId, PageRange)> {
    list.memories
        .iter()
        .flat_map(|(id, set)| set.runs().iter().map(move |run| (*id, *run)))
        .flat_map(|(id, run)| run.aligned_chunks(read_pages).map(move |chunk| (id, chunk)))
        .collect()
}

struct Work<'a> {
    source: &'a dyn PageSource,
    sink: &'a dyn PageSink,
    reads: &'a [(MemoryId, PageRange)],
    next: AtomicUsize,
    bytes: AtomicU64,
    reading_ns: AtomicU64,
    is_over: AtomicBool,
    failure: Mutex<Option<CopyError>>,
    stop: &'a (dyn Fn(u64) -> Option<String> + Sync),
    how: How<'a>,
}

impl Work<'_> {
    fn run(&self) {
        if let Err(cause) = self.read_all() {
            self.is_over.store(true, Ordering::Relaxed);
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(cause);
        }
    }

    fn read_all(&self) -> Result<(), CopyError> {
        let mut buffer = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((memory, pages)) = self.reads.get(next) else { break };
            if let Some(why) = (self.stop)(self.bytes.load(Ordering::Relaxed)) {
                return Err(CopyError::Stopped(why));
            }
            let length = usize::try_from(pages.bytes()).map_err(std::io::Error::other)?;
            buffer.resize(length, 0);
            // Whoever is made to wait while it holds a lock of the program makes the program wait:
            // reading is done at the ordinary priority, everything else at the low one.
            // Not how long it took: others want the processors, and the program does not run in the end.
            let begun = sys::clock::thread_cpu();
            let read = self.at_ordinary_priority(|| self.source.read(*memory, *pages, &mut buffer));
            let took = sys::clock::thread_cpu().saturating_sub(begun).as_nanos();
            let took = u64::try_from(took).unwrap_or(u64::MAX);
            self.reading_ns.fetch_add(took, Ordering::Relaxed);
            match (read, self.how.left_out) {
                (Ok(()), _) => self.hand_over(*memory, *pages, &buffer)?,
                (Err(cause), None) => return Err(cause.into()),
                (Err(_), Some(left_out)) => {
                    self.page_by_page(*memory, *pages, &mut buffer, left_out)?;
                }
            }
            self.bytes.fetch_add(pages.bytes(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn at_ordinary_priority<T>(&self, work: impl FnOnce() -> T) -> T {
        // Without the privilege to go up again it stays low after the first read.
        let raised = self.how.nice.is_some() && sys::priority::set_thread_nice(0).is_ok();
        let result = work();
        if raised && let Some(nice) = self.how.nice {
            let _ = sys::priority::set_thread_nice(nice);
        }
        result
    }

    fn page_by_page(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
        left_out: &LeftOut,
    ) -> Result<(), CopyError> {
        for (page, bytes) in pages.aligned_chunks(1).zip(buffer.chunks_exact_mut(PAGE_BYTES)) {
            if self.source.read(memory, page, bytes).is_ok() {
                self.sink.put(memory, page, bytes)?;
            } else {
                let mut left_out = left_out.lock().unwrap_or_else(PoisonError::into_inner);
                left_out.entry(memory).or_default().insert(page);
            }
        }
        Ok(())
    }

    fn hand_over(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), CopyError> {
        let mut rest = bytes;
        for piece in pages.aligned_chunks(PIECE_PAGES) {
            let length = usize::try_from(piece.bytes()).map_err(std::io::Error::other)?;
            let (content, behind) = rest.split_at(length);
            self.sink.put(memory, piece, content)?;
            rest = behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every page holds its number.
    struct Numbers;

    impl PageSource for Numbers {
        fn pages(&self, _: MemoryId) -> Result<PageSet, PageSourceError> {
            Ok(PageSet::new())
        }

        fn read(
            &self,
            _: MemoryId,
            pages: PageRange,
            buffer: &mut [u8],
        ) -> Result<(), PageSourceError> {
            for (number, page) in (pages.start.0..).zip(buffer.chunks_exact_mut(4096)) {
                page.fill(u8::try_from(number % 251).unwrap());
            }
            Ok(())
        }
    }

    #[derive(Default)]
    struct Store(Mutex<BTreeMap<(MemoryId, u64), u8>>);

    impl PageSink for Store {
        fn put(&self, id: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
            assert!(pages.count().0 <= PIECE_PAGES);
            assert_eq!(pages.start.0 / PIECE_PAGES, (pages.end.0 - 1) / PIECE_PAGES);
            let mut map = self.0.lock().unwrap();
            for (number, page) in (pages.start.0..).zip(bytes.chunks_exact(4096)) {
                assert!(map.insert((id, number), page[0]).is_none(), "page {number} twice");
            }
            Ok(())
        }
    }

    fn list() -> PageList {
        let ranges = [PageRange::new(3, 700), PageRange::new(800, 801), PageRange::new(1023, 1025)];
        let set: PageSet = ranges.into_iter().collect();
        PageList { memories: vec![(MemoryId::Private(0), set.clone()), (MemoryId::Shared(1), set)] }
    }

    #[test]
    fn every_page_arrives_once_and_whole() {
        let list = list();
        for workers in [0, 1, 3, 100] {
            let store = Store::default();
            let copied = copy(&Numbers, &list, &store, workers, &|_| None).unwrap();
            assert_eq!(copied.bytes, list.bytes());
            let map = store.0.into_inner().unwrap();
            assert_eq!(map.len() as u64 * 4096, list.bytes());
            assert!(map.iter().all(|((_, n), byte)| u64::from(*byte) == n % 251));
        }
    }

    /// Pages go away: every seventh cannot be read.
    struct Leaky;

    impl PageSource for Leaky {
        fn pages(&self, _: MemoryId) -> Result<PageSet, PageSourceError> {
            Ok(PageSet::new())
        }

        fn read(
            &self,
            memory: MemoryId,
            pages: PageRange,
            buffer: &mut [u8],
        ) -> Result<(), PageSourceError> {
            match (pages.start.0..pages.end.0).any(|number| number % 7 == 0) {
                true => Err(PageSourceError::Absent { memory, pages }),
                false => Numbers.read(memory, pages, buffer),
            }
        }
    }

    #[test]
    fn what_went_away_is_left_out_and_listed() {
        let (list, store) = (list(), Store::default());
        let (_, left_out) = copy_what_is_there(&Leaky, &list, &store, 2, 0, &|_| None).unwrap();
        let map = store.0.into_inner().unwrap();
        for (memory, set) in list.memories() {
            for number in set.runs().iter().flat_map(|run| run.start.0..run.end.0) {
                let is_out = left_out[memory].contains(mem::PageIndex(number));
                assert_eq!(is_out, number % 7 == 0);
                assert_eq!(map.contains_key(&(*memory, number)), !is_out);
            }
        }
        assert!(copy(&Leaky, &list, &Store::default(), 2, &|_| None).is_err());
    }

    #[test]
    fn a_list_in_two_is_the_list() {
        let some: PageSet =
            [PageRange::new(10, 20), PageRange::new(650, 900)].into_iter().collect();
        let (with, without) = list().divide(&some);
        let private = MemoryId::Private(0);
        assert_eq!(with.of(MemoryId::Shared(1)), list().of(MemoryId::Shared(1)));
        assert_eq!(with.of(private).count().0, 10 + 50 + 1);
        assert_eq!(with.of(private).union(&without.of(private)), list().of(private));
        assert_eq!(with.bytes() + without.bytes(), list().bytes());
    }

    #[test]
    fn the_caller_can_stop_it() {
        let result = copy(&Numbers, &list(), &Store::default(), 2, &|done| {
            (done > 0).then(|| "enough".to_owned())
        });
        assert!(matches!(result, Err(CopyError::Stopped(why)) if why == "enough"));
        let nothing = PageList::default();
        assert_eq!(copy(&Numbers, &nothing, &Store::default(), 2, &|_| None).unwrap().bytes, 0);
    }
}
