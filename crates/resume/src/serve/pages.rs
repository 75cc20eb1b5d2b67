//! Pages of the source, with the last few pieces kept: a source decodes more than one at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mem::{MemoryId, PAGE_SIZE, PageIndex, PageRange, PageSet, PageSource, PageSourceError};
use plan::{ByPlace, Extent, Plan, Tier};

use super::held::HeldBack;

/// Pages read together: what a source keeps in one frame.
const PIECE_PAGES: u64 = 16;
/// Pieces kept: 8 MiB at most, of half as much when there are several in a chunk.
const KEPT: usize = 128;

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
    /// Which of them come with nothing else, and not ahead.
    pub(super) held: Option<HeldBack>,
    /// Where the tiers are, once that is known.
    places: OnceLock<ByPlace<'a>>,
    kept: Mutex<VecDeque<Arc<Piece>>>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(
        source: &'a dyn PageSource,
        memory: MemoryId,
        held: Option<HeldBack>,
    ) -> Result<Self, PageSourceError> {
        let (present, places) = (source.pages(memory)?, OnceLock::new());
        Ok(Self { source, memory, present, held, places, kept: Mutex::new(VecDeque::new()) })
    }

    /// From now on pages are read together with those of their tier alone.
    pub(super) fn know(&self, plan: &'a Plan) {
        let _ = self.places.set(plan.by_place());
    }

    /// How many pages are loaded ahead by the plan, and which of those are held back.
    pub(super) fn held_back(&self) -> (u64, PageSet) {
        let (Some(held), Some(places)) = (&self.held, self.places.get()) else {
            return (0, PageSet::new());
        };
        let runs = self.present.runs().iter();
        let parts = runs.flat_map(|run| places.within(self.memory, *run));
        let is_ahead = |extent: &Extent| extent.tier != Tier::Cold;
        let ahead = parts.filter(|(_, extent)| extent.is_some_and(is_ahead));
        let ahead: PageSet = ahead.map(|(pages, _)| pages).collect();
        (ahead.count().0, held.within(&ahead))
    }

    /// Whether `page` is held back, as far as that is known.
    fn is_held(&self, page: PageIndex) -> bool {
        let is_ahead = |places: &ByPlace<'_>| {
            places.at(self.memory, page).is_some_and(|extent| extent.tier != Tier::Cold)
        };
        self.held.is_some_and(|held| held.has(page)) && self.places.get().is_none_or(is_ahead)
    }

    /// The piece that holds `page`, or `None` when the source has no content for it.
    pub(super) fn piece_of(&self, page: PageIndex) -> Result<Option<Arc<Piece>>, PageSourceError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = kept().iter().find(|piece| piece.pages.contains(page)) {
            return Ok(Some(Arc::clone(piece)));
        }
        let runs = self.with_its_like(page);
        if !runs.iter().any(|run| run.contains(page)) {
            return Ok(None);
        }
        let pieces = self.read_runs(&runs)?;
        let mut found = None;
        let mut list = kept();
        for piece in pieces.into_iter().map(Arc::new) {
            if piece.pages.contains(page) {
                found = Some(Arc::clone(&piece));
            }
            if list.len() >= KEPT {
                list.pop_front();
            }
            list.push_back(piece);
        }
        Ok(found)
    }

    /// The pages around `page` that are in its tier: a source has them together, and those of other
    /// tiers elsewhere. One that is held back comes alone: that it is asked for is to mean that it
    /// is used, and that it is not, that it is not.
    fn with_its_like(&self, page: PageIndex) -> Vec<PageRange> {
        let alone = PageRange::new(page.0, page.0 + 1);
        if self.is_held(page) {
            return self.present.within(alone).collect();
        }
        let start = page.0 / PIECE_PAGES * PIECE_PAGES;
        let around = PageRange::new(start, start + PIECE_PAGES);
        let mut present: PageSet = self.present.within(around).collect();
        for other in around.start.0..around.end.0 {
            if self.is_held(PageIndex(other)) {
                present.remove(PageRange::new(other, other + 1));
            }
        }
        let Some(places) = self.places.get() else {
            return present.runs().iter().copied().filter(|run| run.contains(page)).collect();
        };
        let tier = |extent: Option<&Extent>| extent.map_or(Plan::UNNAMED, |extent| extent.tier);
        let wanted = tier(places.at(self.memory, page));
        let parts = present.runs().iter().flat_map(|run| places.within(self.memory, *run));
        let mut runs: Vec<PageRange> = Vec::new();
        for (pages, _) in parts.filter(|(_, extent)| tier(*extent) == wanted) {
            match runs.last_mut() {
                Some(last) if last.end == pages.start => last.end = pages.end,
                _ => runs.push(pages),
            }
        }
        runs
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
}
