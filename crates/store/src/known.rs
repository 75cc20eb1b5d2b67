//! The hashes of all pages of a checkpoint at once: looked up through its chain a single time, so
//! that what is asked for afterwards does not depend on how many checkpoints stand behind it.

use image::PageMask;
use mem::{MemoryId, PageIndex, PageRange, PageSet, PageSourceError};
use plan::Treatment;

use crate::Checkpoint;
use crate::hashes::{ChunkHashes, chunk_of};

const CHUNK_PAGES: u64 = codec::FRAME_PAGES_MAX;

/// What [`Checkpoint::chunk_hashes`] finds, for every chunk that has pages: about 280 bytes for
/// each 64 KiB of memory.
#[derive(Debug)]
pub(crate) struct KnownHashes {
    /// Ascending by memory and page.
    runs: Vec<Run>,
}

/// Neighbouring chunks of a memory.
#[derive(Debug)]
struct Run {
    memory: MemoryId,
    /// Whole chunks.
    pages: PageRange,
    chunks: Vec<ChunkHashes>,
    /// Which pages of each are still looked for, in the checkpoint at hand and in its parent.
    wanted: Vec<PageMask>,
    below: Vec<PageMask>,
}

impl KnownHashes {
    /// Looks all pages of `checkpoint` up; `None` when its chain cannot have as many as it says.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Result<Option<Self>, PageSourceError> {
        let sets = checkpoint.memories().into_iter();
        let sets = sets.map(|memory| (memory, chunks(&checkpoint.index.pages(memory))));
        let sets: Vec<_> = sets.collect();
        let count: u64 = sets.iter().map(|(_, set)| set.count().0 / CHUNK_PAGES).sum();
        // Every page is stored somewhere, by a frame that lies in one chunk.
        let frames: usize = checkpoint.chain().map(|one| one.index.len()).sum();
        if usize::try_from(count).map_or(true, |count| count > frames) {
            return Ok(None);
        }
        let each =
            sets.iter().flat_map(|(memory, set)| set.runs().iter().map(|run| (*memory, *run)));
        let mut known = Self { runs: each.map(Run::new).collect() };
        for one in checkpoint.chain() {
            let is_more = known.add(one)?;
            if !is_more {
                break;
            }
        }
        for run in &mut known.runs {
            (run.wanted, run.below) = (Vec::new(), Vec::new());
        }
        Ok(Some(known))
    }

    /// Adds what `one` of the chain stores itself; says whether pages are left for its parent.
    fn add(&mut self, one: &Checkpoint) -> Result<bool, PageSourceError> {
        for run in &mut self.runs {
            for entry in one.index.entries(run.memory, run.pages) {
                let frame = &entry.frame;
                let Some(part) = frame.pages.intersect(run.pages) else { continue };
                let is_among_critical = one.is_among_critical(frame);
                for pages in part.aligned_chunks(CHUNK_PAGES) {
                    let at = run.at(pages.start);
                    let here = PageMask::of(pages, chunk_of(pages.start).start).and(run.wanted[at]);
                    let own = frame.own().and(here);
                    run.below[at] = run.below[at].or(here.without(own));
                    if own.is_empty() {
                        continue;
                    }
                    let chunk = &mut run.chunks[at];
                    chunk.present = chunk.present.or(own);
                    if is_among_critical {
                        chunk.critical = chunk.critical.or(own);
                    }
                    if frame.treatment == Treatment::Zero {
                        continue;
                    }
                    for (place, hash) in frame.held.places().zip(one.hashes.of(&entry)?) {
                        if own.has(place) {
                            chunk.hashes[place] = hash;
                            chunk.delta_depths[place] = frame.delta_depth;
                        }
                    }
                }
            }
        }
        let mut is_more = false;
        for run in &mut self.runs {
            std::mem::swap(&mut run.wanted, &mut run.below);
            is_more |= run.wanted.iter().any(|wanted| !wanted.is_empty());
            run.below.fill(PageMask::default());
        }
        Ok(is_more)
    }

    /// What is known of the pages in `wanted` of the chunk beginning at `chunk`.
    pub(crate) fn chunk(
        &self,
        memory: MemoryId,
        chunk: PageIndex,
        wanted: PageMask,
    ) -> ChunkHashes {
        let behind = |run: &Run| (run.memory, run.pages.end) <= (memory, chunk);
        let run = self.runs.get(self.runs.partition_point(behind));
        let run = run.filter(|run| run.memory == memory && run.pages.contains(chunk));
        let mut found = run.map_or_else(ChunkHashes::default, |run| run.chunks[run.at(chunk)]);
        found.present = found.present.and(wanted);
        found
    }
}

impl Run {
    fn new((memory, pages): (MemoryId, PageRange)) -> Self {
        let count = usize::try_from(pages.count().0 / CHUNK_PAGES).unwrap_or(0);
        Self {
            memory,
            pages,
            chunks: vec![ChunkHashes::default(); count],
            wanted: vec![PageMask::ALL; count],
            below: vec![PageMask::default(); count],
        }
    }

    /// The number of the chunk that has `page`.
    fn at(&self, page: PageIndex) -> usize {
        usize::try_from((page.0 - self.pages.start.0) / CHUNK_PAGES).unwrap_or(usize::MAX)
    }
}

/// The chunks that `pages` are in, as pages.
fn chunks(pages: &PageSet) -> PageSet {
    let whole = |run: &PageRange| {
        let end = run.end.0.checked_next_multiple_of(CHUNK_PAGES).unwrap_or(u64::MAX);
        PageRange { start: chunk_of(run.start).start, end: PageIndex(end) }
    };
    pages.runs().iter().map(whole).collect()
}
