//! Staging memory: where pages go during the freeze, so that encoding can wait for the thaw.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mem::{MemoryId, PageRange, PageSink, PageSinkError};
use sys::arena::{Arena, Piece};

use crate::phase::{Stopped, Watch};
use crate::threads::side_by_side;

/// Copies pages into memory faulted in beforehand, then hands them on to a slower sink. What
/// does not fit goes to the slower sink at once: right, but the freeze lasts longer.
pub(crate) struct Staging<'a> {
    arena: Option<Arena>,
    room_bytes: Option<u64>,
    pieces: Mutex<Vec<Staged>>,
    slow: &'a dyn PageSink,
    bytes: AtomicU64,
}

struct Staged {
    memory: MemoryId,
    pages: PageRange,
    piece: Piece,
}

impl<'a> Staging<'a> {
    /// Staging of up to `room_bytes` before `slow`; none at all when the host has no such
    /// memory to spare.
    pub(crate) fn new(room_bytes: Option<u64>, slow: &'a dyn PageSink) -> Self {
        let arena = room_bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .and_then(|bytes| Arena::new(bytes).ok());
        Self { arena, room_bytes, pieces: Mutex::new(Vec::new()), slow, bytes: AtomicU64::new(0) }
    }

    /// The room that was asked for.
    pub(crate) fn room_bytes(&self) -> Option<u64> {
        self.room_bytes
    }

    /// Bytes taken so far, staged or passed on.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Hands everything staged on to the slower sink, from `workers` threads of nice value
    /// `nice`. `progress` hears of every piece.
    pub(crate) fn drain(
        &self,
        workers: usize,
        nice: i32,
        watch: &Watch,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), DrainError> {
        let Some(arena) = &self.arena else { return Ok(()) };
        let pieces = self.pieces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), DrainError> {
            while let Some(staged) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                watch.check()?;
                self.slow.put(staged.memory, staged.pages, arena.get(staged.piece))?;
                progress(staged.pages.bytes());
            }
            Ok(())
        };
        side_by_side(workers, nice, work, || DrainError::Panicked)
    }
}

impl PageSink for Staging<'_> {
    fn put(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        if pages.bytes() != bytes.len() as u64 {
            let cause = io::Error::other("the bytes do not fill the pages");
            return Err(PageSinkError { memory, pages, cause });
        }
        self.bytes.fetch_add(pages.bytes(), Ordering::Relaxed);
        let Some(piece) = self.arena.as_ref().and_then(|arena| arena.push(bytes)) else {
            return self.slow.put(memory, pages, bytes);
        };
        let staged = Staged { memory, pages, piece };
        self.pieces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(staged);
        Ok(())
    }
}

/// Why staged pages could not be handed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// The slower sink refused.
    #[error(transparent)]
    Sink(#[from] PageSinkError),
    /// Time is up, or the user interrupted.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A worker thread panicked.
    #[error("encode pages: a worker thread panicked; this is a bug")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::events::Silent;
    use crate::phase::{Phase, Phases};

    #[derive(Default)]
    struct Kept(Mutex<BTreeMap<(MemoryId, u64), u8>>);

    impl PageSink for Kept {
        fn put(
            &self,
            memory: MemoryId,
            pages: PageRange,
            bytes: &[u8],
        ) -> Result<(), PageSinkError> {
            let mut kept = self.0.lock().unwrap();
            for (page, chunk) in (pages.start.0..).zip(bytes.chunks(4096)) {
                assert!(chunk.iter().all(|b| *b == chunk[0]));
                assert!(kept.insert((memory, page), chunk[0]).is_none());
            }
            Ok(())
        }
    }

    #[test]
    fn every_page_arrives_once_also_those_that_did_not_fit() {
        let kept = Kept::default();
        let id = MemoryId::Private(0);
        let staging = Staging::new(Some(2 << 20), &kept);
        let pages = 700u64; // 2.7 MiB into 2 MiB of room
        for page in 0..pages {
            let value = u8::try_from(page % 251).unwrap();
            staging.put(id, PageRange::new(page, page + 1), &[value; 4096]).unwrap();
        }
        assert_eq!(kept.0.lock().unwrap().len(), 700 - 512);
        let limit = std::time::Duration::from_secs(60);
        let drained = Phases::new(&Silent, None)
            .run(Phase { name: "drain", limit, undo: "none" }, |watch| {
                staging.drain(2, 0, watch, &|_| {})
            });
        drained.unwrap();
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.len(), 700);
        assert!(kept.iter().all(|((_, page), value)| u64::from(*value) == page % 251));
    }
}
