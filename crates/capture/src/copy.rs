//! Moving pages from a frozen program to a sink, from several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mem::{MemoryId, PageRange, PageSet, PageSink, PageSinkError, PageSource, PageSourceError};
use target::Memory;

/// Pages of a piece: 64 KiB, the most that a frame of a checkpoint holds.
const PIECE_PAGES: u64 = 16;
/// Pages read by one system call: 1 MiB, where its own cost no longer shows.
const READ_PAGES: u64 = 256;

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
    let reads = reads(list);
    let work = Work {
        source,
        sink,
        reads: &reads,
        next: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        failure: Mutex::new(None),
        stop,
    };
    let others = workers.clamp(1, reads.len().max(1)) - 1;
    std::thread::scope(|scope| {
        for _ in 0..others {
            let name = std::thread::Builder::new().name("copy".to_owned());
            // With fewer threads the copy is slower, not wrong.
            if name.spawn_scoped(scope, || work.run()).is_err() {
                break;
            }
        }
        work.run();
    });
    let failure = work.failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    match failure {
        Some(cause) => Err(cause),
        None => Ok(Copied { bytes: work.bytes.into_inner() }),
    }
}

/// The runs cut into reads whose ends lie on multiples of the read size.
fn reads(list: &PageList) -> Vec<(MemoryId, PageRange)> {
    list.memories
        .iter()
        .flat_map(|(id, set)| set.runs().iter().map(move |run| (*id, *run)))
        .flat_map(|(id, run)| run.aligned_chunks(READ_PAGES).map(move |chunk| (id, chunk)))
        .collect()
}

struct Work<'a> {
    source: &'a dyn PageSource,
    sink: &'a dyn PageSink,
    reads: &'a [(MemoryId, PageRange)],
    next: AtomicUsize,
    bytes: AtomicU64,
    is_over: AtomicBool,
    failure: Mutex<Option<CopyError>>,
    stop: &'a (dyn Fn(u64) -> Option<String> + Sync),
}

impl Work<'_> {
    fn run(&self) {
        if let Err(cause) = self.read_all() {
            self.is_over.store(true, Ordering::Relaxed);
            let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
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
            self.source.read(*memory, *pages, &mut buffer)?;
            self.hand_over(*memory, *pages, &buffer)?;
            self.bytes.fetch_add(pages.bytes(), Ordering::Relaxed);
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
    use std::collections::BTreeMap;

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
