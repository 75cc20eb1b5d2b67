//! Pages that files outside of the store have: finding them while a checkpoint is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec::{TwinBudget, TwinFiles, TwinIndex, TwinSearch};
use image::{PageMask, TwinFile, TwinPlace};
use mem::{FileIdentity, PAGE_SIZE, PageIndex};

use crate::error::WriteError;
use crate::twin_read::{identity_of, path_of};
use crate::{IoFailure, divide};

/// Files that a program's memory may have bytes of.
#[derive(Debug)]
pub struct Twins {
    files: Arc<Vec<OneFile>>,
    index: TwinIndex,
}

#[derive(Debug)]
struct OneFile {
    file: File,
    identity: FileIdentity,
    /// Bytes of pages that were found in it.
    found_bytes: AtomicU64,
}

/// Bytes of a file that are read at once.
const READ_BYTES: usize = 1 << 20;

impl Twins {
    /// No files yet, of which at most `bytes_max` bytes will be known.
    ///
    /// # Errors
    /// When there are no random numbers to be had.
    pub fn new(bytes_max: u64) -> io::Result<Self> {
        let mut key = [0; 8];
        getrandom::fill(&mut key).map_err(|e| io::Error::other(e.to_string()))?;
        let blocks = u32::try_from(bytes_max / PAGE_SIZE).unwrap_or(u32::MAX);
        let index = TwinIndex::new(u64::from_le_bytes(key), blocks);
        Ok(Self { files: Arc::default(), index })
    }

    /// Adds `file`, which is open for reading and is what the absolute path `path` of the host
    /// leads to. All of it is read, unless `stop` says to leave the rest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn add(&mut self, file: File, path: &Path, stop: &dyn Fn() -> bool) -> io::Result<()> {
        let identity = identity_of(&file, path)?;
        let Some(files) = Arc::get_mut(&mut self.files) else {
            return Err(io::Error::other("the search has begun"));
        };
        let number = u32::try_from(files.len()).map_err(io::Error::other)?;
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while offset < identity.size_bytes && !stop() {
            let left = usize::try_from(identity.size_bytes - offset).unwrap_or(usize::MAX);
            let piece = &mut buffer[..left.min(READ_BYTES)];
            file.read_exact_at(piece, offset)?;
            if !self.index.add(number, offset, piece) {
                break;
            }
            offset += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        files.push(OneFile { file, identity, found_bytes: AtomicU64::new(0) });
        Ok(())
    }

    /// What lanes search with.
    pub(crate) fn into_finder(self) -> TwinFinder {
        let nothing = TwinBudget { rolled_bytes: 0, compared_bytes: 0 };
        let search = TwinSearch::new(self.index, nothing);
        TwinFinder { files: self.files, search, misses: 0 }
    }
}

/// Finds twins of frames; each lane has its own.
#[derive(Clone, Debug)]
pub(crate) struct TwinFinder {
    files: Arc<Vec<OneFile>>,
    search: TwinSearch,
    /// Frames since the last that had a twin.
    misses: u32,
}

/// At each beginning of a frame it is looked whether a run goes through it: whatever its
/// alignment, a block of the file begins within these bytes.
const ROLLED_BYTES: u64 = PAGE_SIZE + 1;
/// After so many frames without a twin only every [`SPARSE`]th is looked at.
const MISSES_MAX: u32 = 64;
const SPARSE: u64 = 8;

impl TwinFinder {
    /// Where the pages `held` of `chunk`, with these `bytes`, are in a file, if they are there
    /// one after the other.
    pub(crate) fn find(
        &mut self,
        chunk: PageIndex,
        held: PageMask,
        bytes: &[u8],
    ) -> Option<TwinPlace> {
        let mut runs = divide::runs(held, chunk);
        let (run, None) = (runs.next()?, runs.next()) else { return None };
        let offset = run.start.0 * PAGE_SIZE;
        if !self.search.is_in_step(offset)
            && self.misses > MISSES_MAX
            && !(chunk.0 / codec::FRAME_PAGES_MAX).is_multiple_of(SPARSE)
        {
            return None;
        }
        self.search.allow(TwinBudget { rolled_bytes: ROLLED_BYTES, compared_bytes: u64::MAX });
        let found = self.search.search(offset, bytes, &mut Reader(&self.files));
        let whole = found.first().filter(|run| {
            run.memory_offset == offset
                && usize::try_from(run.length_bytes).is_ok_and(|length| length == bytes.len())
        });
        let Some(whole) = whole else {
            self.misses = if found.is_empty() { self.misses.saturating_add(1) } else { 0 };
            return None;
        };
        self.misses = 0;
        let file = self.files.get(usize::try_from(whole.file).ok()?)?;
        file.found_bytes.fetch_add(whole.length_bytes, Ordering::Relaxed);
        Some(TwinPlace { file: whole.file, offset_bytes: whole.file_offset })
    }

    /// The files in which something was found, for the manifest, each looked at once more: what
    /// is no longer as it was when it was opened cannot be relied on.
    pub(crate) fn used(&self) -> Result<Vec<TwinFile>, WriteError> {
        let mut used = Vec::new();
        for (number, file) in (0..).zip(self.files.iter()) {
            if file.found_bytes.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let path = path_of(&file.identity);
            let now = |what: &File| identity_of(what, path).map_err(IoFailure::on("stat", path));
            let named = File::open(path).map_err(IoFailure::on("open", path))?;
            if now(&file.file)? != file.identity || now(&named)? != file.identity {
                return Err(WriteError::TwinChanged { path: path.to_owned() });
            }
            used.push(TwinFile { number, identity: file.identity.clone() });
        }
        Ok(used)
    }

    /// The files in which something was found, and how many bytes.
    pub(crate) fn found(&self) -> Vec<(PathBuf, u64)> {
        let bytes = |file: &OneFile| file.found_bytes.load(Ordering::Relaxed);
        let used = self.files.iter().filter(|file| bytes(file) > 0);
        used.map(|file| (path_of(&file.identity).to_owned(), bytes(file))).collect()
    }
}

struct Reader<'a>(&'a [OneFile]);

impl TwinFiles for Reader<'_> {
    fn read_at(&mut self, file: u32, offset: u64, buffer: &mut [u8]) -> bool {
        let file = usize::try_from(file).ok().and_then(|number| self.0.get(number));
        file.is_some_and(|file| file.file.read_exact_at(buffer, offset).is_ok())
    }
}
