//! Pages of the source, with the last few pieces kept: a source decodes more than one at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use mem::{MemoryId, PAGE_SIZE, PageIndex, PageRange, PageSet, PageSource, PageSourceError};

/// Pages read together: what a source keeps in one frame.
const PIECE_PAGES: u64 = 16;
/// Pieces kept: 4 MiB.
const KEPT: usize = 64;

/// A run of pages with its bytes.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) pages: PageRange,
    bytes: Vec<u8>,
}

impl Piece {
    /// The bytes of `pages`, all of which are inside.
    pub(super) fn bytes(&self, pages: PageRange) -> &[u8] {
        let offset = |page: PageIndex| {
            usize::try_from((page.0 - self.pages.start.0) * PAGE_SIZE).unwrap_or(usize::MAX)
        };
        self.bytes.get(offset(pages.start)..offset(pages.end)).unwrap_or(&[])
    }
}

/// The pages of one memory of the source.
pub(super) struct Pages<'a> {
    source: &'a dyn PageSource,
    pub(super) memory: MemoryId,
    /// Which of them have content.
    pub(super) present: PageSet,
    kept: Mutex<VecDeque<Arc<Piece>>>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(
        source: &'a dyn PageSource,
        memory: MemoryId,
    ) -> Result<Self, PageSourceError> {
        let present = source.pages(memory)?;
        Ok(Self { source, memory, present, kept: Mutex::new(VecDeque::new()) })
    }

    /// The piece that holds `page`, or `None` when the source has no content for it.
    pub(super) fn piece_of(&self, page: PageIndex) -> Result<Option<Arc<Piece>>, PageSourceError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = kept().iter().find(|piece| piece.pages.contains(page)) {
            return Ok(Some(Arc::clone(piece)));
        }
        let start = page.0 / PIECE_PAGES * PIECE_PAGES;
        let around = PageRange::new(start, start + PIECE_PAGES);
        let Some(pages) = self.present.within(around).find(|run| run.contains(page)) else {
            return Ok(None);
        };
        let piece = Arc::new(self.read(pages)?);
        let mut list = kept();
        if list.len() >= KEPT {
            list.pop_front();
        }
        list.push_back(Arc::clone(&piece));
        Ok(Some(piece))
    }

    /// Reads `runs`, all of which have content.
    pub(super) fn read_runs(&self, runs: &[PageRange]) -> Result<Vec<Piece>, PageSourceError> {
        let sum: u64 = runs.iter().map(|run| run.bytes()).sum();
        let mut bytes = vec![0; usize::try_from(sum).unwrap_or(0)];
        self.source.read_runs(self.memory, runs, &mut bytes)?;
        if let [pages] = runs {
            return Ok(vec![Piece { pages: *pages, bytes }]);
        }
        let mut rest = &bytes[..];
        let piece = |pages: &PageRange| {
            let (these, others) = rest.split_at(usize::try_from(pages.bytes()).unwrap_or(0));
            rest = others;
            Piece { pages: *pages, bytes: these.to_vec() }
        };
        Ok(runs.iter().map(piece).collect())
    }

    /// Reads `pages`, all of which have content.
    pub(super) fn read(&self, pages: PageRange) -> Result<Piece, PageSourceError> {
        let mut bytes = vec![0; usize::try_from(pages.bytes()).unwrap_or(0)];
        self.source.read(self.memory, pages, &mut bytes)?;
        Ok(Piece { pages, bytes })
    }
}
