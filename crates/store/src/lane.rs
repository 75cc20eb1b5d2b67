//! What one thread does with the pages that are put: compare, encode, gather, write.

mod named;

use std::io;
use std::time::Instant;

use codec::{FRAME_PAGES_MAX, LossyEncoder, Want};
use image::{Frame, LineKey, PageHash, PageMask, Put, Sealed, Sealer, TwinPlace};
use mem::{MemoryId, PAGE_SIZE, PageIndex, PageRange, PageSource};
use plan::{Tier, Treatment};

use crate::Checkpoint;
use crate::data::{DataFile, Hashed, Piece};
use crate::divide::{self, Division};
use crate::hashes::{ChunkHashes, chunk_of};
use crate::pace::Pace;
use crate::twin_find::TwinFinder;
pub(crate) use named::{NamedChunk, Tally};

/// Deltas behind each other at most: reading such a page decodes that many frames and the one
/// they end at. A page that changes every time is stored whole every eighth time.
pub(crate) const DELTA_DEPTH_MAX: u8 = 8;

const PAGE_BYTES: usize = 4096;
/// What is shorter costs as much where it is in a file as it does stored.
const TWIN_BYTES_MIN: usize = 4 * PAGE_BYTES;

/// What one thread needs to encode and write.
#[derive(Debug)]
pub(crate) struct Lane {
    sealer: Sealer,
    lossy: LossyEncoder,
    /// For each file what is encoded and what is raw.
    pieces: Vec<[Piece; 2]>,
    /// The round of copying that goes on.
    pub(crate) round: u32,
    /// Written frames and those without bytes.
    pub(crate) puts: Vec<Put>,
    /// The hashes of the pages that the written ones hold.
    pub(crate) hashed: Vec<Hashed>,
    buffers: Buffers,
    twins: Option<TwinFinder>,
}

/// Buffers that are used again and again.
#[derive(Debug, Default)]
struct Buffers {
    hashes: Vec<PageHash>,
    changed: Vec<u8>,
    changed_hashes: Vec<PageHash>,
    part: Vec<u8>,
    chunk: Vec<u8>,
    base: Vec<u8>,
}

/// Where pages go and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The data files by number.
    pub(crate) data: &'a [DataFile],
    /// What is in which of them; `None`: all in the first.
    pub(crate) division: Option<&'a Division>,
    pub(crate) parent: Option<&'a Checkpoint>,
    pub(crate) pace: Option<&'a Pace>,
    pub(crate) memory: MemoryId,
    pub(crate) want: Want,
    /// Changed pages may be stored as the difference to the parent's, which are read for it.
    pub(crate) has_deltas: bool,
}

impl Lane {
    /// A lane of the line with this key, that looks for twins with `twins`.
    pub(crate) fn new(key: &LineKey, twins: Option<&TwinFinder>) -> Self {
        Self {
            sealer: Sealer::new(key),
            lossy: LossyEncoder::new(),
            pieces: Vec::new(),
            round: 0,
            puts: Vec::new(),
            hashed: Vec::new(),
            buffers: Buffers::default(),
            twins: twins.cloned(),
        }
    }

    /// Takes `pages` with these `bytes`.
    pub(crate) fn put(
        &mut self,
        target: &Target<'_>,
        pages: PageRange,
        bytes: &[u8],
    ) -> io::Result<()> {
        if u64::try_from(bytes.len()).ok() != Some(pages.bytes()) {
            let detail = format!("{} bytes were given for {} pages", bytes.len(), pages.count().0);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        let mut rest = bytes;
        for part in pages.aligned_chunks(FRAME_PAGES_MAX) {
            let length = usize::try_from(part.count().0 * PAGE_SIZE).map_err(io::Error::other)?;
            let (these, others) = rest.split_at(length);
            rest = others;
            // The buffers are lent out, so that the encoder can be used beside them.
            let mut buffers = std::mem::take(&mut self.buffers);
            let done = self.put_chunk(target, part, these, &mut buffers);
            self.buffers = buffers;
            done?;
        }
        Ok(())
    }

    /// Takes `pages`, which are as the pages from `from` on of a memory of `source`. What the
    /// parent has just so is referred to without being read.
    pub(crate) fn put_same(
        &mut self,
        target: &Target<'_>,
        pages: PageRange,
        (source, memory, from): (&Checkpoint, MemoryId, PageIndex),
    ) -> io::Result<()> {
        for part in pages.aligned_chunks(FRAME_PAGES_MAX) {
            let start = from.offset(part.start.0 - pages.start.0);
            let is_in_place = start == part.start && memory == target.memory;
            if is_in_place && self.is_in_parent(target, part, source)? {
                self.refer(target, part);
                continue;
            }
            let wanted = PageRange { start, end: start.offset(part.count().0) };
            let length = usize::try_from(part.bytes()).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            source.read(memory, wanted, &mut bytes).map_err(io::Error::other)?;
            self.put(target, part, &bytes)?;
        }
        Ok(())
    }

    /// Whether the parent has all pages of one chunk exactly as `source` has them.
    fn is_in_parent(
        &self,
        target: &Target<'_>,
        pages: PageRange,
        source: &Checkpoint,
    ) -> io::Result<bool> {
        let Some(parent) = target.parent.filter(|parent| parent.key == source.key) else {
            return Ok(false);
        };
        let (memory, chunk) = (target.memory, chunk_of(pages.start).start);
        let all = PageMask::of(pages, chunk);
        let theirs = parent.chunk_hashes(memory, chunk, all).map_err(io::Error::other)?;
        if std::ptr::eq(parent, source) {
            return Ok(all.places().all(|place| theirs.present.has(place)));
        }
        let wanted = source.chunk_hashes(memory, chunk, all).map_err(io::Error::other)?;
        Ok(all.places().all(|place| {
            let both = theirs.present.has(place) && wanted.present.has(place);
            both && theirs.hashes[place] == wanted.hashes[place]
        }))
    }

    /// Refers to the parent for pages of one chunk.
    fn refer(&mut self, target: &Target<'_>, pages: PageRange) {
        let chunk = chunk_of(pages.start).start;
        let all = PageMask::of(pages, chunk);
        let whole = [(Tier::Critical, all)];
        let tiers = target.division.map(|division| division.masks(target.memory, chunk));
        for (_, mask) in tiers.as_ref().map_or(&whole[..], |tiers| &tiers[..]) {
            self.refer_to(target.memory, chunk, mask.and(all));
        }
    }

    /// Refers to the parent for the pages `mask` of a chunk.
    fn refer_to(&mut self, memory: MemoryId, chunk: PageIndex, mask: PageMask) {
        let round = self.round;
        let frame = |run| Frame::without_bytes(memory, run, Treatment::Parent);
        self.puts.extend(divide::runs(mask, chunk).map(|run| Put { round, frame: frame(run) }));
    }

    /// Takes pages of one chunk, which make a frame for each tier.
    fn put_chunk(
        &mut self,
        target: &Target<'_>,
        pages: PageRange,
        bytes: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        buffers.hashes.clear();
        self.sealer.hash(bytes, &mut buffers.hashes);
        let chunk = chunk_of(pages.start).start;
        let all = PageMask::of(pages, chunk);
        let Some(division) = target.division else {
            return self.put_frame(target, (Tier::Critical, chunk, all), bytes, buffers).map(drop);
        };
        let masks = division.masks(target.memory, chunk).map(|(tier, mask)| (tier, mask.and(all)));
        if let Some((tier, _)) = masks.iter().find(|(_, mask)| *mask == all) {
            return self.put_frame(target, (*tier, chunk, all), bytes, buffers).map(drop);
        }
        let hashes = std::mem::take(&mut buffers.hashes);
        let mut part = std::mem::take(&mut buffers.part);
        for (tier, mask) in masks.into_iter().filter(|(_, mask)| !mask.is_empty()) {
            part.clear();
            buffers.hashes.clear();
            let each = all.places().zip(bytes.chunks_exact(PAGE_BYTES)).zip(&hashes);
            for ((_, page), hash) in each.filter(|((place, _), _)| mask.has(*place)) {
                part.extend_from_slice(page);
                buffers.hashes.push(*hash);
            }
            self.put_frame(target, (tier, chunk, mask), &part, buffers)?;
        }
        buffers.part = part;
        buffers.hashes = hashes;
        Ok(())
    }

    /// Takes the pages `all` of a chunk, of one tier, whose hashes are in `buffers`: those that
    /// are as in the parent are referred to, the others make one frame. Says how many bytes that
    /// stores.
    fn put_frame(
        &mut self,
        target: &Target<'_>,
        (tier, chunk, all): (Tier, PageIndex, PageMask),
        bytes: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<u32> {
        let memory = target.memory;
        let place = Place { tier, chunk, pages: all };
        let Some(parent) = target.parent else {
            return self.seal(target, place, all, (bytes, &buffers.hashes), None);
        };
        let known = parent.chunk_hashes(memory, chunk, all).map_err(io::Error::other)?;
        let promoted = promoted(target, parent, place, &known);
        let changed = changed_pages(&buffers.hashes, &known, all).or(promoted);
        if changed.is_empty() {
            self.refer_to(memory, chunk, all);
            return Ok(0);
        }
        buffers.changed.clear();
        buffers.changed_hashes.clear();
        let each = all.places().zip(bytes.chunks_exact(PAGE_BYTES)).zip(&buffers.hashes);
        for ((_, page), hash) in each.filter(|((place, _), _)| changed.has(*place)) {
            buffers.changed.extend_from_slice(page);
            buffers.changed_hashes.push(*hash);
        }
        // As differences promoted ones would have to be read where they were after all.
        // Neither are critical ones, for which whoever resumes stands still.
        let is_whole = target.division.is_some() && tier == Tier::Critical;
        let bases = match promoted.is_empty() && target.has_deltas && !is_whole {
            true => changed.and(known.present),
            false => PageMask::default(),
        };
        let mut base = None;
        if let Some(depth) = base_depth(&known, bases).filter(|depth| *depth < DELTA_DEPTH_MAX) {
            let Buffers { chunk: scratch, base: bytes, .. } = buffers;
            let read = parent.pages_of(memory, chunk, bases, scratch, bytes);
            read.map_err(io::Error::other)?;
            base = Some((&buffers.base[..], depth + 1));
        }
        self.seal(target, place, changed, (&buffers.changed, &buffers.changed_hashes), base)
    }

    /// Encodes the pages in `held`, whose bytes and hashes are given, as a frame of the pages of
    /// `place`.
    fn seal(
        &mut self,
        target: &Target<'_>,
        place: Place,
        held: PageMask,
        (bytes, hashes): (&[u8], &[PageHash]),
        base: Option<(&[u8], u8)>,
    ) -> io::Result<u32> {
        let twin = match base {
            Some(_) => None,
            None => self.twin(target, place, held, bytes),
        };
        let sealed = match twin {
            Some(twin) => self.sealer.seal_twin(hashes, twin),
            None => {
                let begun = Instant::now();
                let want = if place.tier == Tier::Cold { small(target.want) } else { target.want };
                let sealed = self.sealer.seal(bytes, hashes, base.map(|(base, _)| base), want);
                let sealed = sealed.map_err(io::Error::other)?;
                if let (Some(pace), None, false) = (target.pace, base, sealed.bytes.is_empty()) {
                    pace.encoded(want, bytes.len(), sealed.bytes.len(), begun.elapsed());
                }
                sealed
            }
        };
        let depth = base.map_or(0, |(_, depth)| depth);
        let frame = frame_of(target, place, held, &sealed, depth)?;
        let round = self.round;
        if sealed.treatment == Treatment::Zero {
            for pages in divide::runs(place.pages, place.chunk) {
                let parts = zeros_and_others(&Frame { pages, ..frame }).into_iter();
                self.puts.extend(parts.map(|frame| Put { round, frame }));
            }
            return Ok(0);
        }
        let piece = piece(&mut self.pieces, &frame);
        make_room(
            piece,
            sealed.bytes.len(),
            data_of(target.data, &frame)?,
            &mut self.puts,
            &mut self.hashed,
        )?;
        let runs = divide::runs(place.pages, place.chunk).collect();
        piece.add(Put { round, frame }, runs, sealed.bytes, hashes);
        Ok(frame.stored_bytes)
    }

    /// Where the pages `held` are in a file outside of the store. What is needed before the first
    /// instruction is stored all the same, where it lies in load order; so is what is zero.
    fn twin(
        &mut self,
        target: &Target<'_>,
        place: Place,
        held: PageMask,
        bytes: &[u8],
    ) -> Option<TwinPlace> {
        let finder = self.twins.as_mut()?;
        let is_needed_first = target.division.is_some() && place.tier == Tier::Critical;
        if is_needed_first || bytes.len() < TWIN_BYTES_MIN || codec::is_zero(bytes) {
            return None;
        }
        finder.find(place.chunk, held, bytes)
    }

    /// Takes a frame that is encoded already and stands for `runs` of pages of its chunk.
    pub(crate) fn add(
        &mut self,
        data: &[DataFile],
        (frame, runs): (Frame, Vec<PageRange>),
        stored: &[u8],
        hashes: &[PageHash],
    ) -> io::Result<()> {
        let put = Put { round: self.round, frame };
        if matches!(frame.treatment, Treatment::Zero | Treatment::Parent) {
            self.puts.push(put);
            return Ok(());
        }
        let piece = piece(&mut self.pieces, &frame);
        make_room(piece, stored.len(), data_of(data, &frame)?, &mut self.puts, &mut self.hashed)?;
        piece.add(put, runs, stored, hashes);
        Ok(())
    }

    /// Takes frames of one file that share their stored bytes.
    pub(crate) fn add_shared(
        &mut self,
        data: &[DataFile],
        parts: Vec<SolidPart>,
        stored: &[u8],
    ) -> io::Result<()> {
        let Some(first) = parts.first().map(|part| part.frame) else { return Ok(()) };
        let piece = piece(&mut self.pieces, &first);
        make_room(piece, stored.len(), data_of(data, &first)?, &mut self.puts, &mut self.hashed)?;
        let round = self.round;
        let parts = parts.into_iter();
        let parts =
            parts.map(|SolidPart { frame, runs, hashes }| (Put { round, frame }, runs, hashes));
        piece.add_shared(parts, stored);
        Ok(())
    }

    /// Writes what is gathered.
    pub(crate) fn flush(&mut self, data: &[DataFile]) -> Result<(), crate::IoFailure> {
        for (data, pieces) in data.iter().zip(&mut self.pieces) {
            for piece in pieces {
                data.append(piece, &mut self.puts, &mut self.hashed)?;
            }
        }
        Ok(())
    }
}

/// One of several frames that share their stored bytes, the runs of pages that it has records for,
/// and the hashes of the pages that it holds.
#[derive(Debug)]
pub(crate) struct SolidPart {
    pub(crate) frame: Frame,
    pub(crate) runs: Vec<PageRange>,
    pub(crate) hashes: Box<[PageHash]>,
}

/// Pages of one tier in a chunk.
#[derive(Clone, Copy, Debug)]
struct Place {
    tier: Tier,
    chunk: PageIndex,
    pages: PageMask,
}

/// A sealed frame of the pages of `place`, of which it holds `held`.
fn frame_of(
    target: &Target<'_>,
    place: Place,
    held: PageMask,
    sealed: &Sealed<'_>,
    depth: u8,
) -> io::Result<Frame> {
    let hull = hull(place.pages, place.chunk);
    Ok(Frame {
        held,
        tier: place.tier,
        file: target.division.map_or(0, |_| divide::file_of(place.tier)),
        delta_depth: if sealed.treatment == Treatment::Delta { depth } else { 0 },
        stored_bytes: u32::try_from(sealed.bytes.len()).map_err(io::Error::other)?,
        hash: sealed.hash,
        stored_crc32c: sealed.stored_crc32c,
        ..Frame::without_bytes(target.memory, hull, sealed.treatment)
    })
}

/// What was colder is stored again where a resume reads on its way: what is critical now, wherever
/// in the chain it lies among what is not, and what was cold. Reading it would mean to decode a whole
/// frame for each such page.
fn promoted(
    target: &Target<'_>,
    parent: &Checkpoint,
    place: Place,
    known: &ChunkHashes,
) -> PageMask {
    match (target.division, place.tier) {
        (None, _) | (_, Tier::Cold) => PageMask::default(),
        (_, Tier::Critical) => {
            let stored = known.present.and(place.pages).without(known.critical);
            let is_zero = |place: &usize| known.hashes[*place].is_zero();
            stored.places().filter(is_zero).fold(stored, |left, zero| left.without(one(zero)))
        }
        (_, Tier::Warm) => parent.cold_pages(target.memory, place.chunk).and(place.pages),
    }
}

/// Page `place` of a chunk alone.
fn one(place: usize) -> PageMask {
    let mut mask = PageMask::default();
    mask.insert(place);
    mask
}

/// At least as small as the fastest level that nobody waits for: cold pages are encoded outside
/// of the pause and hardly ever decoded.
fn small(want: Want) -> Want {
    match want {
        Want::Zstd(level) => Want::Zstd(level.max(COLD_LEVEL_MIN)),
        other => other,
    }
}

const COLD_LEVEL_MIN: i32 = 1;

/// The first and the last page of `mask` and all between.
fn hull(mask: PageMask, chunk: PageIndex) -> PageRange {
    let mut runs = divide::runs(mask, chunk);
    let first = runs.next().unwrap_or_default();
    PageRange { start: first.start, end: runs.last().map_or(first.end, |last| last.end) }
}

/// Where a frame's bytes are gathered.
fn piece<'a>(pieces: &'a mut Vec<[Piece; 2]>, frame: &Frame) -> &'a mut Piece {
    let file = usize::from(frame.file);
    while pieces.len() <= file {
        pieces.push([Piece::new(), Piece::new()]);
    }
    &mut pieces[file][usize::from(frame.treatment == Treatment::Raw)]
}

/// The file of a frame.
fn data_of<'a>(data: &'a [DataFile], frame: &Frame) -> io::Result<&'a DataFile> {
    data.get(usize::from(frame.file)).ok_or_else(|| io::Error::other("there is no such data file"))
}

/// Writes a piece that has no room for `bytes` more.
fn make_room(
    piece: &mut Piece,
    bytes: usize,
    data: &DataFile,
    puts: &mut Vec<Put>,
    hashed: &mut Vec<Hashed>,
) -> io::Result<()> {
    if !piece.is_full_for(bytes) {
        return Ok(());
    }
    let written = data.append(piece, puts, hashed);
    written.map_err(|e| io::Error::new(e.cause.kind(), e.to_string()))
}

/// Which pages of `all` the parent does not have as they are; `hashes` are theirs.
fn changed_pages(hashes: &[PageHash], known: &ChunkHashes, all: PageMask) -> PageMask {
    let mut changed = PageMask::default();
    for (place, hash) in all.places().zip(hashes) {
        if !known.present.has(place) || known.hashes[place] != *hash {
            changed.insert(place);
        }
    }
    changed
}

/// How many deltas stand behind the deepest of `bases`; `None` when there are no bases, or
/// nothing but zeros, which are no help.
fn base_depth(known: &ChunkHashes, bases: PageMask) -> Option<u8> {
    bases.places().find(|place| !known.hashes[*place].is_zero())?;
    bases.places().map(|place| known.delta_depths[place]).max()
}

/// A frame that holds nothing but zeros, as frames that may be: a zero frame has no other pages.
pub(crate) fn zeros_and_others(frame: &Frame) -> Vec<Frame> {
    let chunk = frame.chunk();
    let own = frame.own();
    let mut parts: Vec<Frame> = Vec::new();
    for place in PageMask::of(frame.pages, chunk).places() {
        let page = chunk_of(chunk).start.offset(u64::try_from(place).unwrap_or(0));
        let treatment = if own.has(place) { Treatment::Zero } else { Treatment::Parent };
        let first = match parts.last() {
            Some(last) if last.treatment == treatment => parts.pop().map(|p| p.pages.start),
            _ => None,
        };
        let pages = PageRange { start: first.unwrap_or(page), end: page.offset(1) };
        parts.push(Frame::without_bytes(frame.memory, pages, treatment));
    }
    parts
}
