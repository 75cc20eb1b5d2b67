//! The extent index: which frame holds a page, found by binary search in fixed records that can
//! be mapped as they are.

use mem::{MemoryId, PageIndex, PageRange, PageSet};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::FRAMES_MAX;
use crate::record::{RECORD_BYTES, Record, memory_rank};
use crate::{CheckpointId, Files, FormatError, Frame, LayoutError, LineKey};

const MAGIC: [u8; 8] = *b"\x89RKIX\r\n\x1a";
const VERSION: u32 = 1;
const INDEX_HEADER_BYTES: usize = 64;
const WHAT: &str = "the index";

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawIndexHeader {
    magic: [u8; 8],
    version: U32,
    header_bytes: U32,
    record_bytes: U32,
    reserved_1: U32,
    frame_count: U64,
    id: U64,
    reserved_2: [u8; 20],
    crc32c: U32,
}

const _: () = assert!(size_of::<RawIndexHeader>() == INDEX_HEADER_BYTES);

/// The extent index, verified record by record, over bytes that may be read or mapped.
#[derive(Clone, Debug)]
pub struct Index<B = Vec<u8>> {
    bytes: B,
    id: CheckpointId,
    /// The number of page hashes before each [`STRIDE`]th record, and behind the last.
    hashes_before: Vec<u64>,
}

/// A frame and where its page hashes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The frame.
    pub frame: Frame,
    /// How many page hashes stand before its own in the file of page hashes.
    pub hashes_before: u64,
}

/// Records between two that the number of hashes before is kept for.
const STRIDE: usize = 16;

/// The index of `frames`, which are sorted by memory and page and do not overlap, as bytes.
///
/// # Errors
/// When they are not sorted, overlap, or one of them is not a frame.
pub fn encode_index(id: CheckpointId, frames: &[Frame]) -> Result<Vec<u8>, LayoutError> {
    Index::encode(id, frames).map(|index| index.bytes)
}

impl Index {
    /// The index of `frames`, see [`encode_index`]: as good as one that was decoded from its bytes
    /// as long as the frames lie inside the data files.
    ///
    /// # Errors
    /// As there.
    pub fn encode(id: CheckpointId, frames: &[Frame]) -> Result<Self, LayoutError> {
        let invalid = |detail: String| LayoutError::Invalid { what: WHAT, detail };
        let frame_count = u64::try_from(frames.len()).unwrap_or(u64::MAX);
        if frame_count > FRAMES_MAX {
            return Err(invalid(format!("has {frame_count} frames, at most {FRAMES_MAX}")));
        }
        let mut header = RawIndexHeader {
            magic: MAGIC,
            version: VERSION.into(),
            header_bytes: 64.into(),
            record_bytes: 64.into(),
            reserved_1: 0.into(),
            frame_count: frame_count.into(),
            id: id.0.into(),
            reserved_2: [0; 20],
            crc32c: 0.into(),
        };
        header.crc32c = crc32c::crc32c(&header.as_bytes()[..INDEX_HEADER_BYTES - 4]).into();
        let mut bytes = Vec::with_capacity(INDEX_HEADER_BYTES + frames.len() * RECORD_BYTES);
        bytes.extend_from_slice(header.as_bytes());
        let mut before: Option<&Frame> = None;
        let (mut hashes, mut hashes_before) = (0, Vec::with_capacity(frames.len() / STRIDE + 2));
        for (i, frame) in frames.iter().enumerate() {
            if before.is_some_and(|before| !follows(before, frame)) {
                return Err(LayoutError::Twice { memory: frame.memory, pages: frame.pages });
            }
            let record = Record::new(frame).map_err(|e| LayoutError::invalid(WHAT, &e))?;
            bytes.extend_from_slice(record.as_bytes());
            if i % STRIDE == 0 {
                hashes_before.push(hashes);
            }
            hashes += frame.hash_count();
            before = Some(frame);
        }
        hashes_before.push(hashes);
        Ok(Self { bytes, id, hashes_before })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether `frame` may stand behind `before`.
fn follows(before: &Frame, frame: &Frame) -> bool {
    before.memory < frame.memory
        || (before.memory == frame.memory && before.pages.end <= frame.pages.start)
}

impl<B: AsRef<[u8]>> Index<B> {
    /// Checks the index in `bytes`, which is the whole file, against what the manifest says of
    /// it: length, keyed hash, id, and that every frame lies inside the files that hold it.
    ///
    /// # Errors
    /// When it is cut short, altered in any byte, or of a newer program.
    pub fn decode(
        bytes: B,
        id: CheckpointId,
        files: &Files,
        key: &LineKey,
    ) -> Result<Self, FormatError> {
        let mut index = Self { bytes, id, hashes_before: Vec::new() };
        index.check_header()?;
        let found = u64::try_from(index.bytes.as_ref().len()).unwrap_or(u64::MAX);
        if found != files.index.length_bytes {
            let expected = files.index.length_bytes;
            return Err(FormatError::Length { what: WHAT, expected, found });
        }
        // Whole, each record is what was written, its checksum too; else they tell which one is not.
        let is_whole = key.hash(index.bytes.as_ref()) == files.index.hash;
        let mut before = None;
        let mut hashes = 0;
        let mut hashes_before = Vec::new();
        for (i, record) in index.records().iter().enumerate() {
            let frame = if is_whole { record.frame_of_whole() } else { record.frame() };
            let frame = frame.map_err(|e| {
                let detail = format!("record {i}: {e}");
                FormatError::Invalid { what: WHAT, detail }
            })?;
            check_place(&frame, files)?;
            if before.as_ref().is_some_and(|before| !follows(before, &frame)) {
                let detail = format!("record {i} is out of order");
                return Err(FormatError::Invalid { what: WHAT, detail });
            }
            if i % STRIDE == 0 {
                hashes_before.push(hashes);
            }
            hashes += frame.hash_count();
            before = Some(frame);
        }
        hashes_before.push(hashes);
        index.hashes_before = hashes_before;
        if !is_whole {
            return Err(FormatError::Checksum { what: WHAT.to_owned() });
        }
        Ok(index)
    }

    fn check_header(&self) -> Result<(), FormatError> {
        let bytes = self.bytes.as_ref();
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if !bytes.starts_with(&MAGIC) && bytes.len() >= MAGIC.len() {
            return Err(FormatError::Magic { what: WHAT });
        }
        let Ok((header, _)) = RawIndexHeader::ref_from_prefix(bytes) else {
            return Err(FormatError::Length { what: WHAT, expected: 64, found });
        };
        let version = header.version.get();
        if version > VERSION {
            return Err(FormatError::NewerVersion { what: WHAT, version, known: VERSION });
        }
        if header.crc32c.get() != crc32c::crc32c(&bytes[..INDEX_HEADER_BYTES - 4]) {
            return Err(FormatError::Checksum { what: "the index's header".to_owned() });
        }
        let count = header.frame_count.get();
        if count > FRAMES_MAX {
            let what = "the number of frames";
            return Err(FormatError::Limit { what, found: count, max: FRAMES_MAX });
        }
        let expected = 64 + count * 64;
        if found != expected {
            return Err(FormatError::Length { what: WHAT, expected, found });
        }
        let ours = header.version.get() == VERSION
            && header.header_bytes.get() == 64
            && header.record_bytes.get() == 64
            && header.id.get() == self.id.0;
        if !ours {
            let detail = "belongs to another checkpoint".to_owned();
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
        Ok(())
    }

    fn records(&self) -> &[Record] {
        let body = self.bytes.as_ref().get(INDEX_HEADER_BYTES..).unwrap_or_default();
        <[Record]>::ref_from_bytes(body).unwrap_or_default()
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.records().is_empty()
    }

    /// The frames, ascending by memory and page.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        // Every record was checked when the index was decoded.
        self.records().iter().filter_map(|record| record.checked_before().ok())
    }

    /// The frame that holds `page` of `memory`, by binary search.
    pub fn find(&self, memory: MemoryId, page: PageIndex) -> Option<Frame> {
        self.overlapping(memory, PageRange { start: page, end: page.offset(1) }).next()
    }

    /// How many page hashes the checkpoint keeps.
    pub fn hash_count(&self) -> u64 {
        self.hashes_before.last().copied().unwrap_or(0)
    }

    /// The number of the first record that may hold a page of `pages` or one behind them.
    fn first_at(&self, memory: MemoryId, pages: PageRange) -> usize {
        self.records().partition_point(|record| {
            let place = record.place();
            place.0 < memory_rank(memory)
                || (place.0 == memory_rank(memory) && record.end() <= pages.start.0)
        })
    }

    /// The frames that hold any page of `pages` of `memory`, ascending.
    pub fn overlapping(&self, memory: MemoryId, pages: PageRange) -> impl Iterator<Item = Frame> {
        self.records()[self.first_at(memory, pages)..]
            .iter()
            .filter_map(|record| record.checked_before().ok())
            .take_while(move |frame| frame.memory == memory && frame.pages.start < pages.end)
    }

    /// The same with the places of their page hashes.
    pub fn entries(&self, memory: MemoryId, pages: PageRange) -> impl Iterator<Item = IndexEntry> {
        let first = self.first_at(memory, pages);
        let known = self.hashes_before.get(first / STRIDE).copied().unwrap_or(0);
        let between = &self.records()[first - first % STRIDE..first];
        let count = |record: &Record| record.checked_before().map_or(0, |frame| frame.hash_count());
        let mut next = known + between.iter().map(count).sum::<u64>();
        self.overlapping(memory, pages).map(move |frame| {
            let hashes_before = next;
            next += frame.hash_count();
            IndexEntry { frame, hashes_before }
        })
    }

    /// The memories that have frames, ascending.
    pub fn memories(&self) -> Vec<MemoryId> {
        let mut memories: Vec<MemoryId> = Vec::new();
        for frame in self.frames() {
            if memories.last() != Some(&frame.memory) {
                memories.push(frame.memory);
            }
        }
        memories
    }

    /// The pages of `memory` that have frames.
    pub fn pages(&self, memory: MemoryId) -> PageSet {
        let everything = PageRange::new(0, u64::MAX);
        self.overlapping(memory, everything).map(|frame| frame.pages).collect()
    }
}

/// Whether a frame lies inside the file that it names, and its parent's pages in a parent.
fn check_place(frame: &Frame, files: &Files) -> Result<(), FormatError> {
    let invalid = |what: &str| {
        let detail = format!("{} of {} lies {what}", frame.pages, frame.memory);
        Err(FormatError::Invalid { what: WHAT, detail })
    };
    if frame.needs_parent() && files.parent.is_none() {
        return invalid("in a parent, and there is none");
    }
    if frame.stored_bytes == 0 {
        return Ok(());
    }
    let end = frame.offset_bytes.checked_add(frame.stored_bytes.into());
    let file = files.data.get(usize::from(frame.file));
    match (end, file) {
        (Some(end), Some(file)) if end <= file.length_bytes => Ok(()),
        _ => invalid("outside of the data files"),
    }
}
