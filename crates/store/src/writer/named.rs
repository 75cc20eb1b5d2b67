//! Ranges in which somebody allowed a loss. Their pages are kept aside as they are while memory is
//! copied, and encoded when all of it is: only then it is known how far apart the values of a
//! range are, and which of its pages are critical after all. What is kept aside is a file without a
//! name, as large as the ranges.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use codec::{FRAME_PAGES_MAX, FiniteSpan};
use image::{Frame, LOSS_ENTRIES_MAX, LossRecord, PageMask};
use mem::{MemoryId, PageIndex, PageRange, PageSet};
use plan::{ByPlace, LossBound, LossEntry, LossyRange, Plan, Tier};

use super::{CheckpointWriter, Pace, lock};
use crate::error::{IoFailure, WriteError};
use crate::hashes::chunk_of;
use crate::lane::{NamedChunk, Tally};
use crate::loss::span_of;
use crate::{divide, layout};

/// What is kept aside.
#[derive(Debug)]
pub(super) struct Named {
    ranges: Vec<LossyRange>,
    /// The pages that the ranges touch, ascending.
    runs: Vec<Run>,
    file: File,
    path: PathBuf,
    /// What was made of each range, once that was begun.
    made: Mutex<Vec<(LossyRange, Tally)>>,
    is_begun: AtomicBool,
}

/// Neighbouring pages of a memory.
#[derive(Debug)]
struct Run {
    memory: MemoryId,
    pages: PageRange,
    /// Where they begin in the file.
    offset_bytes: u64,
    /// Those that were put.
    there: Mutex<PageSet>,
}

impl Named {
    fn new(ranges: Vec<LossyRange>, file: File, path: PathBuf) -> Self {
        let mut memories: Vec<MemoryId> = ranges.iter().map(|range| range.memory).collect();
        memories.sort_unstable();
        memories.dedup();
        let (mut runs, mut offset_bytes) = (Vec::new(), 0);
        for memory in memories {
            let mut pages = PageSet::new();
            let here = ranges.iter().filter(|range| range.memory == memory);
            here.for_each(|range| pages.insert(range.pages()));
            for pages in pages.runs() {
                runs.push(Run { memory, pages: *pages, offset_bytes, there: Mutex::default() });
                offset_bytes += pages.bytes();
            }
        }
        let (made, is_begun) = (Mutex::default(), AtomicBool::new(false));
        Self { ranges, runs, file, path, made, is_begun }
    }

    /// Cuts `pages` into parts that are in a range, and others.
    pub(super) fn parts(&self, memory: MemoryId, pages: PageRange) -> Vec<(PageRange, bool)> {
        let (mut parts, mut at) = (Vec::new(), pages.start);
        let here = self.runs.iter().filter(|run| run.memory == memory);
        for named in here.filter_map(|run| run.pages.intersect(pages)) {
            if at < named.start {
                parts.push((PageRange { start: at, end: named.start }, false));
            }
            parts.push((named, true));
            at = named.end;
        }
        if at < pages.end {
            parts.push((PageRange { start: at, end: pages.end }, false));
        }
        parts
    }

    /// Keeps `pages`, all of one run; they take the place of what was kept of them before.
    pub(super) fn keep(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> io::Result<()> {
        if u64::try_from(bytes.len()).ok() != Some(pages.bytes()) {
            return Err(io::Error::other("the bytes do not fill the pages"));
        }
        let run = self.run(memory, pages.start)?;
        self.file.write_all_at(bytes, run.place(pages.start))?;
        lock(&run.there).insert(pages);
        Ok(())
    }

    fn run(&self, memory: MemoryId, page: PageIndex) -> io::Result<&Run> {
        let run = self.runs.iter().find(|run| run.memory == memory && run.pages.contains(page));
        run.ok_or_else(|| io::Error::other("the page is in no range"))
    }

    /// Reads pages of one run.
    fn read(&self, run: &Run, pages: PageRange, bytes: &mut [u8]) -> Result<(), IoFailure> {
        let read = self.file.read_exact_at(bytes, run.place(pages.start));
        read.map_err(IoFailure::on("read", &self.path))
    }

    /// `range` with what its bound is relative to, as far as that is known: by what was `kept` of
    /// each run.
    fn measured<E: From<WriteError>>(
        &self,
        range: &LossyRange,
        kept: &[(&Run, PageSet)],
        check: &dyn Fn() -> Result<(), E>,
    ) -> Result<LossyRange, E> {
        let LossBound::RangeRelative { fraction, .. } = range.bound else { return Ok(*range) };
        // Its pages are neighbours, so that they are all of one run.
        let here = kept.iter().find(|(run, _)| {
            run.memory == range.memory && run.pages.intersect(range.pages()).is_some()
        });
        let span = here.map_or(Ok(FiniteSpan::new()), |(run, kept)| {
            let read = |pages, bytes: &mut [u8]| -> Result<(), E> {
                check()?;
                Ok(self.read(run, pages, bytes).map_err(WriteError::from)?)
            };
            span_of(range, kept.within(range.pages()), read)
        })?;
        // Values that are further apart than a number can tell are so at least that far.
        let span = span.span().min(f64::MAX);
        Ok(LossyRange { bound: LossBound::RangeRelative { fraction, span }, ..*range })
    }
}

impl Run {
    fn place(&self, page: PageIndex) -> u64 {
        self.offset_bytes + (page.0 - self.pages.start.0) * mem::PAGE_SIZE
    }

    /// What was put and is still there by `plan`.
    fn kept(&self, plan: &ByPlace<'_>) -> PageSet {
        let put = lock(&self.there);
        let here = plan.within(self.memory, self.pages).filter(|(_, extent)| extent.is_some());
        here.flat_map(|(pages, _)| put.within(pages)).collect()
    }
}

/// Kept pages on their way into the checkpoint; several threads may [work](Self::work) at once.
#[derive(Debug)]
pub struct Approximation<'a> {
    writer: &'a CheckpointWriter,
    named: &'a Named,
    /// With their spans.
    ranges: Vec<LossyRange>,
    critical: divide::Division,
    /// Chunks with the run that each is of.
    chunks: Vec<(&'a Run, PageIndex, PageMask)>,
    next: AtomicUsize,
}

impl CheckpointWriter {
    /// Allows a loss in `ranges`, no two of which have a byte in common. The span of a bound that
    /// is relative to it is measured here and need not be given. Call it before the first `put`.
    ///
    /// # Errors
    /// When there is no space for what has to be kept aside, and for more ranges than the loss
    /// manifest has room for, with what it may take over from the parent: see
    /// [`crate::Checkpoint::has_room_for_losses`].
    pub fn allow_loss(&mut self, ranges: Vec<LossyRange>) -> Result<(), WriteError> {
        let parent = self.parent.as_deref();
        let has_room = parent.is_none_or(|parent| parent.has_room_for_losses(ranges.len()));
        if !has_room || ranges.len() > LOSS_ENTRIES_MAX {
            return Err(WriteError::Losses { count: ranges.len() });
        }
        let bytes = ranges.iter().map(|range| range.pages().bytes()).sum();
        self.store.space_for(self.options.reserve_bytes.saturating_add(bytes))?;
        let file = self.dir.create(layout::NAMED)?;
        // Gone with us, whatever happens.
        self.dir.remove(layout::NAMED)?;
        self.named = Some(Named::new(ranges, file, self.dir.join(layout::NAMED)));
        Ok(())
    }

    /// Begins to encode the pages in which a loss is allowed, once all memory is put; `None` when
    /// there are none. `plan` is the one that [`Self::finish`] will be given: critical pages are
    /// saved in full. What is left out here is made up for by `finish`. While spans are measured
    /// `check` is asked again and again whether to go on.
    ///
    /// # Errors
    /// When the pages cannot be read back, or `check` fails.
    pub fn approximation<E: From<WriteError>>(
        &self,
        plan: &Plan,
        check: &dyn Fn() -> Result<(), E>,
    ) -> Result<Option<Approximation<'_>>, E> {
        let Some(named) = &self.named else { return Ok(None) };
        if named.is_begun.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
        self.next_round();
        let by_place = plan.by_place();
        let kept: Vec<_> = named.runs.iter().map(|run| (run, run.kept(&by_place))).collect();
        let measured = named.ranges.iter().map(|range| named.measured(range, &kept, check));
        let ranges = measured.collect::<Result<Vec<_>, _>>()?;
        *lock(&named.made) = ranges.iter().map(|range| (*range, Tally::default())).collect();
        let mut chunks = Vec::new();
        for (run, kept) in kept {
            let mut masks: Vec<(&Run, PageIndex, PageMask)> = Vec::new();
            for part in kept.runs().iter().flat_map(|run| run.aligned_chunks(FRAME_PAGES_MAX)) {
                let chunk = chunk_of(part.start).start;
                let mask = PageMask::of(part, chunk);
                match masks.last_mut() {
                    Some((_, last, pages)) if *last == chunk => *pages = pages.or(mask),
                    _ => masks.push((run, chunk, mask)),
                }
            }
            chunks.append(&mut masks);
        }
        let critical = divide::Division::new(plan);
        let next = AtomicUsize::new(0);
        Ok(Some(Approximation { writer: self, named, ranges, critical, chunks, next }))
    }

    /// What was made of the ranges, and the loss manifest of a checkpoint with these frames: that,
    /// and what the parent says of pages that are its own.
    pub(super) fn losses(&self, frames: &[Frame]) -> (Vec<LossEntry>, Vec<LossRecord>) {
        let made = self.named.as_ref().map(|named| lock(&named.made).clone()).unwrap_or_default();
        let entries: Vec<LossEntry> =
            made.iter().map(|(range, tally)| entry(range, tally)).collect();
        let mut records: Vec<LossRecord> =
            entries.iter().map(|entry| LossRecord { entry: *entry, made_in: None }).collect();
        if let Some(kept) = &self.kept_loss {
            // With what was handed down to the other form.
            records.extend(kept);
        } else if let Some(parent) = self.parent.as_deref() {
            let counted = |older: &LossyRange| {
                let own = made.iter().find(|(range, _)| says_as_much(range, older));
                own.map(|(_, tally)| tally.again.clone()).unwrap_or_default()
            };
            records.extend(parent.handed_down(frames, &counted));
        }
        (entries, records)
    }
}

/// Whether every frame that `older` allows is one that `range` allows, too.
fn says_as_much(range: &LossyRange, older: &LossyRange) -> bool {
    let what = |named: &LossyRange| (named.memory, named.range, named.numeric, named.bound.name());
    what(range) == what(older) && range.bound.allowed(1.0) >= older.bound.allowed(1.0)
}

fn entry(range: &LossyRange, tally: &Tally) -> LossEntry {
    LossEntry {
        named: *range,
        largest_error: tally.largest_error,
        elements_lossy: tally.elements_lossy,
        elements_exact: range.elements().saturating_sub(tally.elements_lossy),
        elements_not_finite: tally.elements_not_finite,
        page_bytes: tally.page_bytes,
        stored_bytes: tally.stored_bytes,
    }
}

impl Approximation<'_> {
    /// Bytes of pages that are to be encoded.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|(_, _, pages)| u64::from(pages.count()) * mem::PAGE_SIZE).sum()
    }

    /// Encodes until nothing is left, from as many threads as call it. `each` hears of the bytes of
    /// every chunk.
    ///
    /// # Errors
    /// When a chunk cannot be read or written, or `each` fails.
    pub fn work<E: From<WriteError>>(&self, each: &dyn Fn(u64) -> Result<(), E>) -> Result<(), E> {
        let mut tallies = vec![Tally::default(); self.ranges.len()];
        let mut bytes = Vec::new();
        while let Some((run, chunk, pages)) =
            self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            each(u64::from(pages.count()) * mem::PAGE_SIZE)?;
            self.put(run, *chunk, *pages, &mut bytes, &mut tallies)?;
        }
        for ((_, sum), tally) in lock(&self.named.made).iter_mut().zip(&tallies) {
            sum.add(tally);
        }
        Ok(())
    }

    fn put(
        &self,
        run: &Run,
        chunk: PageIndex,
        pages: PageMask,
        bytes: &mut Vec<u8>,
        tallies: &mut [Tally],
    ) -> Result<(), WriteError> {
        bytes.clear();
        for part in divide::runs(pages, chunk) {
            let start = bytes.len();
            bytes.resize(start + crate::read::bytes_of(part), 0);
            self.named.read(run, part, &mut bytes[start..])?;
        }
        let masks = self.critical.masks(run.memory, chunk);
        let critical = masks.iter().find(|(tier, _)| *tier == Tier::Critical);
        // Ranges are few, and those of a chunk fewer.
        let here = |range: &LossyRange| {
            range.memory == run.memory && range.pages().intersect(chunk_of(chunk)).is_some()
        };
        let numbers: Vec<usize> =
            (0..self.ranges.len()).filter(|number| here(&self.ranges[*number])).collect();
        let ranges: Vec<LossyRange> = numbers.iter().map(|number| self.ranges[*number]).collect();
        let critical = critical.map_or(PageMask::default(), |(_, mask)| *mask);
        let named = NamedChunk { chunk, pages, bytes, ranges: &ranges, critical };
        let mut of_chunk = vec![Tally::default(); ranges.len()];
        let want = self.writer.pace.as_ref().map_or(self.writer.options.want, Pace::want);
        let target = self.writer.target(run.memory, want);
        let put = self.writer.lend_lane(run.memory, chunk_of(chunk), |lane| {
            lane.put_named(&target, &named, &mut of_chunk)
        });
        put.map_err(|error| WriteError::EarlierPut(error.to_string()))?;
        for (number, tally) in numbers.into_iter().zip(&of_chunk) {
            tallies[number].add(tally);
        }
        Ok(())
    }
}
