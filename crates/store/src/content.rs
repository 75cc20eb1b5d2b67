//! What all pages of a checkpoint make, from all of them or from what its parent does not have.

use std::collections::BTreeMap;

use codec::FRAME_PAGES_MAX;
use image::{ContentHash, ContentHasher, Frame, LineKey, PageHash, PageMask};
use mem::{MemoryId, PageIndex, PageRange, PageSet, PageSourceError};

use crate::hashes::chunk_of;
use crate::{Checkpoint, divide};

/// The pages of a checkpoint, frame by frame: those that it stores, and which are its parent's.
pub(crate) struct Content {
    /// Of what it stores.
    own: ContentHasher,
    below: BTreeMap<MemoryId, PageSet>,
}

impl Content {
    pub(crate) fn new(key: &LineKey) -> Self {
        Self { own: ContentHasher::new(key), below: BTreeMap::new() }
    }

    /// Adds a frame with the hashes of the pages it holds.
    pub(crate) fn add(&mut self, frame: &Frame, hashes: &[PageHash]) {
        let own = frame.own();
        let below = self.below.entry(frame.memory).or_default();
        if own.is_empty() {
            below.insert(frame.pages);
            return;
        }
        let mut held = [PageHash::default(); 16];
        for (place, hash) in frame.held.places().zip(hashes) {
            held[place] = *hash;
        }
        // What stores anything lies in one chunk.
        let chunk = frame.chunk();
        self.own.add_chunk(frame.memory, chunk, own, &held);
        let theirs = PageMask::of(frame.pages, chunk).without(own);
        divide::runs(theirs, chunk).for_each(|run| below.insert(run));
    }

    /// What they make, page by page, with the parent's as its hashes say.
    pub(crate) fn whole(self, parent: Option<&Checkpoint>) -> Result<ContentHash, PageSourceError> {
        let Self { own: mut hasher, below } = self;
        for (memory, pages) in &below {
            each_chunk(parent, *memory, pages, |chunk, which, hashes| {
                hasher.add_chunk(*memory, chunk, which, hashes);
            })?;
        }
        Ok(hasher.finish())
    }

    /// The same from what the parent's pages make: without those that it does not have from there.
    pub(crate) fn on(self, parent: &Checkpoint) -> Result<ContentHash, PageSourceError> {
        let Self { own: mut hasher, mut below } = self;
        hasher.add_content(parent.content());
        for memory in parent.memories() {
            let theirs = parent.index.pages(memory);
            let stay = below.remove(&memory).unwrap_or_default();
            if let Some(missing) = stay.difference(&theirs).runs().first() {
                return Err(not_there(memory, *missing));
            }
            each_chunk(Some(parent), memory, &theirs.difference(&stay), |chunk, which, hashes| {
                hasher.remove_chunk(memory, chunk, which, hashes);
            })?;
        }
        let left = below.iter().find_map(|(m, pages)| Some((*m, *pages.runs().first()?)));
        match left {
            Some((memory, pages)) => Err(not_there(memory, pages)),
            None => Ok(hasher.finish()),
        }
    }
}

impl Checkpoint {
    /// The content hash as the hashes make it, page by page through all parents.
    pub(crate) fn computed_content(&self) -> Result<ContentHash, PageSourceError> {
        let mut content = Content::new(&self.key);
        for memory in self.memories() {
            for entry in self.index.entries(memory, PageRange::new(0, u64::MAX)) {
                content.add(&entry.frame, &self.hashes.of(&entry)?);
            }
        }
        content.whole(self.parent())
    }
}

/// Calls `act` with each chunk that `pages` are in: which of its pages, and their hashes.
fn each_chunk(
    parent: Option<&Checkpoint>,
    memory: MemoryId,
    pages: &PageSet,
    mut act: impl FnMut(PageIndex, PageMask, &[PageHash; 16]),
) -> Result<(), PageSourceError> {
    for part in pages.runs().iter().flat_map(|run| run.aligned_chunks(FRAME_PAGES_MAX)) {
        let chunk = chunk_of(part.start).start;
        let which = PageMask::of(part, chunk);
        let parent = parent.ok_or_else(|| not_there(memory, part))?;
        let known = parent.chunk_hashes(memory, chunk, which)?;
        if !which.without(known.present).is_empty() {
            return Err(not_there(memory, part));
        }
        act(chunk, which, &known.hashes);
    }
    Ok(())
}

fn not_there(memory: MemoryId, pages: PageRange) -> PageSourceError {
    let detail = "the parent does not hold all of its pages".to_owned();
    PageSourceError::Damaged { memory, pages, detail }
}
