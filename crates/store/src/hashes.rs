//! The hashes of a checkpoint's pages, as the file has them and resolved through its parents.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use codec::FRAME_PAGES_MAX;
use image::{
    CheckpointId, Frame, FrameHash, HASHES_HEADER_BYTES, IndexEntry, LineKey, PageHash, PageMask,
    check_hashes_header,
};
use mem::{MemoryId, PageIndex, PageRange, PageSourceError};
use plan::{Tier, Treatment};

use crate::Checkpoint;
use crate::error::{IoFailure, ReadError};
use crate::known::KnownHashes;
use crate::read::damaged;

/// A file of hashes up to this length (those of 2 GB of pages or more) is read whole when it is
/// first needed; of longer ones only what is asked for.
const WHOLE_BYTES_MAX: u64 = 32 << 20;

/// The file with the hashes of the pages that a checkpoint stores.
#[derive(Debug)]
pub(crate) struct HashFile {
    file: File,
    path: PathBuf,
    key: LineKey,
    length_bytes: u64,
    whole: OnceLock<Vec<u8>>,
}

/// What is known of the pages of one chunk of 16 aligned pages; page n is bit and item n.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChunkHashes {
    /// The pages that the checkpoint has.
    pub(crate) present: PageMask,
    /// Their hashes.
    pub(crate) hashes: [PageHash; 16],
    /// How many deltas have to be decoded to have them.
    pub(crate) delta_depths: [u8; 16],
    /// Those that lie among critical ones, wherever in the chain.
    pub(crate) critical: PageMask,
}

/// The chunk of 16 aligned pages that begins at or before `page`.
pub(crate) fn chunk_of(page: PageIndex) -> PageRange {
    let start = page.0 - page.0 % FRAME_PAGES_MAX;
    PageRange::new(start, start + FRAME_PAGES_MAX)
}

/// Page `place` of the chunk beginning at `chunk`.
pub(crate) fn page_at(chunk: PageIndex, place: usize) -> PageIndex {
    chunk.offset(u64::try_from(place).unwrap_or(u64::MAX))
}

impl HashFile {
    /// Checks the file's header and length.
    pub(crate) fn open(
        file: File,
        path: PathBuf,
        id: CheckpointId,
        hash_count: u64,
        key: &LineKey,
    ) -> Result<Self, ReadError> {
        let length_bytes = file.metadata().map_err(IoFailure::on("stat", &path))?.len();
        let mut header = vec![0; usize::try_from(HASHES_HEADER_BYTES).unwrap_or(usize::MAX)];
        let read = file.read_exact_at(&mut header, 0);
        if length_bytes >= HASHES_HEADER_BYTES {
            read.map_err(IoFailure::on("read", &path))?;
        } else {
            header.clear();
        }
        check_hashes_header(&header, length_bytes, id, hash_count)
            .map_err(|cause| ReadError::Format { path: path.clone(), cause })?;
        Ok(Self { file, path, key: key.clone(), length_bytes, whole: OnceLock::new() })
    }

    /// The hashes of a frame, which the frame's own hash checks.
    pub(crate) fn of(&self, entry: &IndexEntry) -> Result<Vec<PageHash>, PageSourceError> {
        let IndexEntry { frame, hashes_before } = entry;
        let count = usize::try_from(frame.hash_count()).unwrap_or(usize::MAX);
        let start = HASHES_HEADER_BYTES + hashes_before * 16;
        let mut bytes = vec![0; count * PageHash::BYTES];
        let io = |cause| {
            let cause = IoFailure { action: "read", path: self.path.clone(), cause };
            let (memory, pages) = (frame.memory, frame.pages);
            PageSourceError::Io { memory, pages, cause: std::io::Error::other(cause.to_string()) }
        };
        match self.whole().map_err(io)? {
            Some(whole) => {
                let part = usize::try_from(start).ok().and_then(|start| whole.get(start..));
                let part = part.and_then(|part| part.get(..bytes.len()));
                let part =
                    part.ok_or_else(|| damaged(frame, "it has no page hashes".to_owned()))?;
                bytes.copy_from_slice(part);
            }
            None => self.file.read_exact_at(&mut bytes, start).map_err(io)?,
        }
        let (hashes, _) = bytes.as_chunks();
        let hashes: Vec<PageHash> = hashes.iter().map(|hash| PageHash(*hash)).collect();
        if frame.hash_count() > 0 && FrameHash::of(&self.key, &hashes) != frame.hash {
            let path = self.path.display();
            return Err(damaged(frame, format!("its page hashes in {path} were altered")));
        }
        Ok(hashes)
    }

    fn whole(&self) -> std::io::Result<Option<&Vec<u8>>> {
        if self.length_bytes > WHOLE_BYTES_MAX {
            return Ok(None);
        }
        if let Some(whole) = self.whole.get() {
            return Ok(Some(whole));
        }
        let mut bytes = vec![0; usize::try_from(self.length_bytes).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(self.whole.get_or_init(|| bytes)))
    }
}

impl Checkpoint {
    /// The hashes of the pages in `wanted` of the chunk beginning at `chunk`, from whichever
    /// checkpoint of the chain stores them. Pages that there are not stay absent. Does not walk the
    /// chain after [`Self::know_hashes`].
    pub(crate) fn chunk_hashes(
        &self,
        memory: MemoryId,
        chunk: PageIndex,
        wanted: PageMask,
    ) -> Result<ChunkHashes, PageSourceError> {
        if let Some(known) = self.known.get() {
            return Ok(known.chunk(memory, chunk, wanted));
        }
        let mut found = ChunkHashes::default();
        let mut at = Some((self, wanted));
        while let Some((checkpoint, wanted)) = at {
            let below = checkpoint.add_hashes(memory, chunk, wanted, &mut found)?;
            at = checkpoint.parent().filter(|_| !below.is_empty()).map(|parent| (parent, below));
        }
        Ok(found)
    }

    /// Looks the hashes of all its pages up. When some cannot be read, whoever asks for these will
    /// meet that.
    pub(crate) fn know_hashes(&self) {
        if let Ok(Some(known)) = KnownHashes::of(self) {
            // Another thread may have been faster; it found the same.
            let _ = self.known.set(known);
        }
    }

    /// Adds what this checkpoint stores itself; returns which pages are its parent's.
    fn add_hashes(
        &self,
        memory: MemoryId,
        chunk: PageIndex,
        wanted: PageMask,
        found: &mut ChunkHashes,
    ) -> Result<PageMask, PageSourceError> {
        let mut below = PageMask::default();
        for entry in self.index.entries(memory, chunk_of(chunk)) {
            let frame = &entry.frame;
            let here = PageMask::of(frame.pages, chunk).and(wanted);
            let own = frame.own().and(here);
            below = below.or(here.without(own));
            if own.is_empty() {
                continue;
            }
            found.present = found.present.or(own);
            if self.is_among_critical(frame) {
                found.critical = found.critical.or(own);
            }
            if frame.treatment == Treatment::Zero {
                continue;
            }
            for (place, hash) in frame.held.places().zip(self.hashes.of(&entry)?) {
                if own.has(place) {
                    found.hashes[place] = hash;
                    found.delta_depths[place] = frame.delta_depth;
                }
            }
        }
        Ok(below)
    }

    /// Whether what `frame` stores is read together with other critical pages.
    pub(crate) fn is_among_critical(&self, frame: &Frame) -> bool {
        self.critical_file == Some(frame.file)
    }

    /// The pages of the chunk beginning at `chunk` that are stored as cold ones, wherever in the chain.
    pub(crate) fn cold_pages(&self, memory: MemoryId, chunk: PageIndex) -> PageMask {
        let mut cold = PageMask::default();
        let mut left = PageMask::ALL;
        for one in self.chain() {
            let mut below = PageMask::default();
            for frame in one.index.overlapping(memory, chunk_of(chunk)) {
                let here = PageMask::of(frame.pages, chunk).and(left);
                let own = frame.own().and(here);
                if frame.tier == Tier::Cold && frame.treatment != Treatment::Zero {
                    cold = cold.or(own);
                }
                below = below.or(here.without(own));
            }
            left = below;
            if left.is_empty() {
                break;
            }
        }
        cold
    }
}
