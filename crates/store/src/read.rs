//! Reading pages, through however many parents.
//!
//! Pages are asked for by chunk, a mask of up to 16 pages at once, so that no frame of any
//! checkpoint in the chain is decoded twice for one chunk and none is that holds nothing asked for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use codec::{FRAME_BYTES_MAX, FRAME_PAGES_MAX};
use image::{Frame, LineKey, Opener, PageHash, PageMask};
use mem::{
    MemoryId, PAGE_SIZE, PageIndex, PageRange, PageSet, PageSource, PageSourceError,
    read_one_by_one,
};
use plan::Treatment;

use crate::Checkpoint;
use crate::hashes::{chunk_of, page_at};
use crate::solids::Solids;

const PAGE_BYTES: usize = 4096;

/// Decoders and buffers that are not in use right now.
#[derive(Debug)]
pub(crate) struct Readers {
    key: LineKey,
    free: Mutex<Vec<Reader>>,
    pub(crate) solids: Solids,
}

/// A decoder and its buffers.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) opener: Opener,
    stored: Vec<u8>,
    pages: Vec<u8>,
    below: Vec<u8>,
    base: Vec<u8>,
}

impl Readers {
    pub(crate) fn new(key: &LineKey) -> Self {
        Self { key: key.clone(), free: Mutex::new(Vec::new()), solids: Solids::default() }
    }

    /// Lends a reader for as long as `work` takes.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Reader) -> T) -> T {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = free().pop();
        let mut reader = reader.unwrap_or_else(|| Reader {
            opener: Opener::new(&self.key),
            stored: Vec::new(),
            pages: Vec::new(),
            below: Vec::new(),
            base: Vec::new(),
        });
        let result = work(&mut reader);
        free().push(reader);
        result
    }
}

/// Where pages are wanted: `bytes` are those from page `start` on.
struct Window<'a> {
    start: PageIndex,
    bytes: &'a mut [u8],
}

impl Window<'_> {
    /// The bytes of `pages`, all of which lie inside.
    fn part(&mut self, pages: PageRange) -> &mut [u8] {
        let first = bytes_of(PageRange { start: self.start, end: pages.start });
        &mut self.bytes[first..first + bytes_of(pages)]
    }

    /// The bytes of page `place` of the chunk beginning at `chunk`.
    fn page(&mut self, chunk: PageIndex, place: usize) -> &mut [u8] {
        let start = page_at(chunk, place);
        self.part(PageRange { start, end: start.offset(1) })
    }
}

/// What is to be read from one checkpoint of the chain for one chunk.
#[derive(Debug, Default)]
struct Tasks {
    /// Frames to decode, each with the pages that are wanted of it.
    own: Vec<(Frame, PageMask)>,
    /// Wanted pages that are the parent's.
    below: PageMask,
    /// Pages whose earlier content deltas refer to, as far as the parent has them.
    bases: PageMask,
}

impl Checkpoint {
    /// Fills the pages of `wanted` of the chunk beginning at `chunk` into `window`.
    fn fill(
        &self,
        memory: MemoryId,
        chunk: PageIndex,
        wanted: PageMask,
        window: &mut Window<'_>,
    ) -> Result<(), PageSourceError> {
        let tasks = self.tasks(memory, chunk, wanted, window)?;
        if tasks.own.is_empty() && tasks.below.is_empty() {
            return Ok(());
        }
        self.readers.with(|reader| {
            self.fill_from_below(memory, chunk, &tasks, window, reader)?;
            for (frame, wanted) in &tasks.own {
                self.fill_from_frame(frame, chunk, *wanted, &tasks, window, reader)?;
            }
            Ok(())
        })
    }

    /// Looks up who has the pages of `wanted`; zeros are filled in at once.
    fn tasks(
        &self,
        memory: MemoryId,
        chunk: PageIndex,
        wanted: PageMask,
        window: &mut Window<'_>,
    ) -> Result<Tasks, PageSourceError> {
        let mut tasks = Tasks::default();
        let mut absent = wanted;
        for frame in self.index.overlapping(memory, chunk_of(chunk)) {
            let here = PageMask::of(frame.pages, chunk).and(wanted);
            let own = frame.own().and(here);
            absent = absent.without(here);
            tasks.below = tasks.below.or(here.without(own));
            if frame.treatment == Treatment::Zero {
                own.places().for_each(|place| window.page(chunk, place).fill(0));
                continue;
            }
            if own.is_empty() {
                continue;
            }
            if frame.treatment == Treatment::Delta {
                tasks.bases = tasks.bases.or(frame.held);
            }
            tasks.own.push((frame, own));
        }
        if let Some(place) = absent.places().next() {
            let first = page_at(chunk, place);
            let pages = PageRange { start: first, end: first.offset(1) };
            return Err(PageSourceError::Absent { memory, pages });
        }
        if let Some(parent) = self.parent() {
            tasks.bases = tasks.bases.and(parent.present(memory, chunk));
        }
        Ok(tasks)
    }

    /// The pages of the chunk beginning at `chunk` that the checkpoint has.
    pub(crate) fn present(&self, memory: MemoryId, chunk: PageIndex) -> PageMask {
        let frames = self.index.overlapping(memory, chunk_of(chunk));
        frames.fold(PageMask::default(), |mask, frame| mask.or(PageMask::of(frame.pages, chunk)))
    }

    /// Has the parent fill in its pages, and with them the bases of deltas into `reader.below`.
    fn fill_from_below(
        &self,
        memory: MemoryId,
        chunk: PageIndex,
        tasks: &Tasks,
        window: &mut Window<'_>,
        reader: &mut Reader,
    ) -> Result<(), PageSourceError> {
        let wanted = tasks.below.or(tasks.bases);
        if wanted.is_empty() {
            return Ok(());
        }
        let Some(parent) = self.parent() else {
            // The index was checked: without a parent nothing refers to one.
            return Err(PageSourceError::Absent { memory, pages: chunk_of(chunk) });
        };
        if tasks.bases.is_empty() {
            return parent.fill(memory, chunk, wanted, window);
        }
        reader.below.resize(FRAME_BYTES_MAX, 0);
        let mut below = Window { start: chunk, bytes: &mut reader.below };
        parent.fill(memory, chunk, wanted, &mut below)?;
        for place in tasks.below.places() {
            window.page(chunk, place).copy_from_slice(below.page(chunk, place));
        }
        Ok(())
    }

    /// Decodes `frame` and fills its pages that are in `wanted`.
    fn fill_from_frame(
        &self,
        frame: &Frame,
        chunk: PageIndex,
        wanted: PageMask,
        tasks: &Tasks,
        window: &mut Window<'_>,
        reader: &mut Reader,
    ) -> Result<(), PageSourceError> {
        match frame.treatment {
            // It may be decoded already.
            Treatment::Solid => reader.stored.clear(),
            _ => self.read_stored(frame, &mut reader.stored)?,
        }
        let base = base_of(frame, tasks, reader);
        let Reader { opener, stored, pages, base: base_bytes, .. } = reader;
        let base = base.then_some(&base_bytes[..]);
        if wanted == frame.held && wanted == PageMask::of(frame.pages, chunk) {
            return self.open_frame(opener, frame, stored, base, window.part(frame.pages));
        }
        pages.resize(frame.held_bytes(), 0);
        self.open_frame(opener, frame, stored, base, pages)?;
        let each = frame.held.places().zip(pages.chunks_exact(PAGE_BYTES));
        for (place, page) in each.filter(|(place, _)| wanted.has(*place)) {
            window.page(chunk, place).copy_from_slice(page);
        }
        Ok(())
    }

    /// Fills `pages` with what `frame` holds, checked. What it shares with others need not be in
    /// `stored`.
    fn open_frame(
        &self,
        opener: &mut Opener,
        frame: &Frame,
        stored: &[u8],
        base: Option<&[u8]>,
        pages: &mut [u8],
    ) -> Result<(), PageSourceError> {
        match frame.treatment {
            Treatment::Twin => return self.read_twin(opener, frame, stored, pages),
            Treatment::Solid => return self.read_solid(opener, frame, stored, pages),
            _ => {}
        }
        opener.open(frame, stored, base, pages).map_err(|e| damaged(frame, e.to_string()))
    }

    /// The pages that one frame of this checkpoint holds, decoded and checked, from its `stored`
    /// bytes, and their hashes. Those that it shares with others need not be there.
    pub(crate) fn open_stored<'a>(
        &self,
        frame: &Frame,
        stored: &[u8],
        reader: &'a mut Reader,
    ) -> Result<(&'a [u8], Vec<PageHash>), PageSourceError> {
        let chunk = frame.chunk();
        let mut tasks = Tasks::default();
        if let (Treatment::Delta, Some(parent)) = (frame.treatment, self.parent()) {
            tasks.bases = frame.held.and(parent.present(frame.memory, chunk));
        }
        let mut nowhere = Window { start: chunk, bytes: &mut [] };
        self.fill_from_below(frame.memory, chunk, &tasks, &mut nowhere, reader)?;
        let base = base_of(frame, &tasks, reader);
        let Reader { opener, pages, base: base_bytes, .. } = reader;
        pages.resize(frame.held_bytes(), 0);
        let base = base.then_some(&base_bytes[..]);
        self.open_frame(opener, frame, stored, base, pages)?;
        let zeros = vec![PageHash::default(); pages.len() / PAGE_BYTES];
        let hashes = if frame.hash_count() > 0 { opener.hashes().to_vec() } else { zeros };
        Ok((pages, hashes))
    }

    /// The pages of `wanted` of the chunk beginning at `chunk`, one after the other.
    pub(crate) fn pages_of(
        &self,
        memory: MemoryId,
        chunk: PageIndex,
        wanted: PageMask,
        scratch: &mut Vec<u8>,
        pages: &mut Vec<u8>,
    ) -> Result<(), PageSourceError> {
        scratch.resize(FRAME_BYTES_MAX, 0);
        self.fill(memory, chunk, wanted, &mut Window { start: chunk, bytes: scratch })?;
        gather(scratch, wanted, pages);
        Ok(())
    }

    /// Reads the stored bytes of one frame into `stored`.
    pub(crate) fn read_stored(
        &self,
        frame: &Frame,
        stored: &mut Vec<u8>,
    ) -> Result<(), PageSourceError> {
        let Frame { memory, pages, .. } = *frame;
        let file = self.file_of(frame)?;
        stored.resize(usize::try_from(frame.stored_bytes).unwrap_or(usize::MAX), 0);
        file.read_exact_at(stored, frame.offset_bytes).map_err(|cause| PageSourceError::Io {
            memory,
            pages,
            cause,
        })
    }

    /// The file that holds a frame.
    pub(crate) fn file_of(&self, frame: &Frame) -> Result<&File, PageSourceError> {
        let file = self.data.get(usize::from(frame.file));
        file.ok_or_else(|| damaged(frame, "its file is not listed".to_owned()))
    }
}

/// Gathers what a delta refers to; false when there is nothing.
fn base_of(frame: &Frame, tasks: &Tasks, reader: &mut Reader) -> bool {
    let bases = match frame.treatment {
        Treatment::Delta => frame.held.and(tasks.bases),
        _ => PageMask::default(),
    };
    if !bases.is_empty() {
        gather(&reader.below, bases, &mut reader.base);
    }
    !bases.is_empty()
}

/// Copies the pages of `mask` out of the chunk `bytes`.
fn gather(bytes: &[u8], mask: PageMask, pages: &mut Vec<u8>) {
    pages.clear();
    let each = bytes.chunks_exact(PAGE_BYTES).enumerate();
    each.filter(|(place, _)| mask.has(*place)).for_each(|(_, page)| pages.extend_from_slice(page));
}

impl PageSource for Checkpoint {
    fn will_need(&self, memory: MemoryId, pages: &PageSet) {
        self.read_ahead(memory, pages);
    }

    fn pages(&self, memory: MemoryId) -> Result<PageSet, PageSourceError> {
        Ok(self.index.pages(memory))
    }

    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        if buffer.len() != bytes_of(pages) {
            let detail = format!("a buffer of {} bytes was given", buffer.len());
            let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, detail);
            return Err(PageSourceError::Io { memory, pages, cause });
        }
        let mut window = Window { start: pages.start, bytes: buffer };
        for part in pages.aligned_chunks(FRAME_PAGES_MAX) {
            let chunk = chunk_of(part.start).start;
            let wanted = PageMask::of(part, chunk);
            self.fill(memory, chunk, wanted, &mut window).map_err(|e| match e {
                // All that is lacking, not only the first page.
                PageSourceError::Absent { pages: lacking, .. } if lacking.start >= pages.start => {
                    let pages = PageRange { start: lacking.start, end: pages.end };
                    PageSourceError::Absent { memory, pages }
                }
                other => other,
            })?;
        }
        Ok(())
    }

    fn read_runs(
        &self,
        memory: MemoryId,
        runs: &[PageRange],
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        if let (true, Some((chunk, wanted))) = (runs.len() > 1, mask_of(runs)) {
            let mut pages = Vec::with_capacity(buffer.len());
            self.pages_of(memory, chunk, wanted, &mut Vec::new(), &mut pages)?;
            if pages.len() == buffer.len() {
                buffer.copy_from_slice(&pages);
                return Ok(());
            }
        }
        read_one_by_one(self, memory, runs, buffer)
    }
}

/// The pages of `runs`, all in the chunk beginning at the one returned; `None` when they are not
/// in one.
fn mask_of(runs: &[PageRange]) -> Option<(PageIndex, PageMask)> {
    let chunk = chunk_of(runs.first()?.start);
    let is_inside = |run: &PageRange| run.start >= chunk.start && run.end <= chunk.end;
    runs.iter().all(is_inside).then(|| {
        let add = |mask: PageMask, run: &PageRange| mask.or(PageMask::of(*run, chunk.start));
        (chunk.start, runs.iter().fold(PageMask::default(), add))
    })
}

/// Stretches of a file that are read although nothing in them was asked for: as long as a disk
/// takes to begin anew.
const GAP_BYTES: u64 = 64 << 10;

impl Checkpoint {
    /// Where the bytes of `pages` are; those that a parent has a part in are added to `below`.
    fn places(
        &self,
        memory: MemoryId,
        pages: &PageSet,
        below: &mut PageSet,
    ) -> Vec<(usize, u64, u64)> {
        let mut places = Vec::new();
        for run in pages.runs() {
            for frame in self.index.overlapping(memory, *run) {
                let Some(wanted) = frame.pages.intersect(*run) else { continue };
                if frame.stored_bytes > 0 {
                    let end = frame.offset_bytes + u64::from(frame.stored_bytes);
                    places.push((usize::from(frame.file), frame.offset_bytes, end));
                }
                let is_whole = u64::from(frame.own().count()) == frame.pages.count().0;
                if !is_whole || frame.treatment == Treatment::Delta {
                    below.insert(wanted);
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Has the kernel read what is stored of `pages` (posix_fadvise(2)).
    fn read_ahead(&self, memory: MemoryId, pages: &PageSet) {
        let mut below = PageSet::new();
        let mut places = self.places(memory, pages, &mut below).into_iter().peekable();
        while let Some((file, start, mut end)) = places.next() {
            while let Some((_, _, next_end)) =
                places.next_if(|(next, at, _)| *next == file && *at <= end + GAP_BYTES)
            {
                end = end.max(next_end);
            }
            let length = std::num::NonZeroU64::new(end - start);
            if let (Some(file), Some(_)) = (self.data.get(file), length) {
                // Only faster with it.
                let _ = rustix::fs::fadvise(file, start, length, rustix::fs::Advice::WillNeed);
            }
        }
        if let Some(parent) = self.parent().filter(|_| !below.is_empty()) {
            parent.read_ahead(memory, &below);
        }
    }
}

/// The bytes of `pages`, which are few enough to lie in memory.
pub(crate) fn bytes_of(pages: PageRange) -> usize {
    usize::try_from(pages.count().0.saturating_mul(PAGE_SIZE)).unwrap_or(usize::MAX)
}

pub(crate) fn damaged(frame: &Frame, detail: String) -> PageSourceError {
    PageSourceError::Damaged { memory: frame.memory, pages: frame.pages, detail }
}
