//! The data file of a checkpoint that is being written: several threads append pieces to it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image::{Frame, PageHash, Put};
use mem::PageRange;

use crate::error::IoFailure;
use crate::layout::ALIGNMENT_BYTES;

/// Bytes that are gathered before they are written.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Bytes after which what was written is synced: nothing much is left for the end, memory full of
/// what is not written yet stays within bounds, and the speed of the disk is known. Why not
/// `O_DIRECT`: docs/decisions/0005-buffered-and-synced-early.md.
const SYNC_BYTES: u64 = 64 << 20;

/// The data file; pieces are written side by side by whoever has one.
#[derive(Debug)]
pub(crate) struct DataFile {
    file: File,
    path: PathBuf,
    end: AtomicU64,
    /// Bytes written, and how many of them somebody has synced or is syncing.
    written: AtomicU64,
    synced: AtomicU64,
}

/// Frames of one thread that are not yet written. Raw frames and encoded ones are gathered
/// apart: raw ones are whole pages, so in a piece of their own every one of them is aligned
/// without padding.
#[derive(Debug)]
pub(crate) struct Piece {
    buffer: Vec<u8>,
    /// Their offsets count from the start of the piece.
    puts: Vec<Gathered>,
}

/// A frame on its way to a file.
#[derive(Debug)]
struct Gathered {
    put: Put,
    /// The pages of its chunk that it stands for, with a record for each run; those that it does not
    /// hold are the parent's.
    runs: Vec<PageRange>,
    hashes: Box<[PageHash]>,
}

/// The hashes of the pages that a written frame holds.
#[derive(Debug)]
pub(crate) struct Hashed {
    /// Which file, where in it its stored bytes begin, and which part of them it is: no two are at
    /// the same place.
    pub(crate) place: (u16, u64, u8),
    pub(crate) hashes: Box<[PageHash]>,
}

impl DataFile {
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        let [end, written, synced] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { file, path, end, written, synced }
    }

    /// Reserves `bytes` on the disk without making the file longer.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), IoFailure> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            // Not every file system can; then space was only counted.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(e) => Err(IoFailure::on("reserve space for", &self.path)(e)),
        }
    }

    /// Writes `piece` behind everything else, padded to the alignment, and moves its frames,
    /// with their places in the file, to `puts` and `hashed`.
    pub(crate) fn append(
        &self,
        piece: &mut Piece,
        puts: &mut Vec<Put>,
        hashed: &mut Vec<Hashed>,
    ) -> Result<(), IoFailure> {
        if piece.buffer.is_empty() {
            return Ok(());
        }
        let alignment = usize::try_from(ALIGNMENT_BYTES).unwrap_or(usize::MAX);
        piece.buffer.resize(piece.buffer.len().next_multiple_of(alignment), 0);
        let length = u64::try_from(piece.buffer.len()).unwrap_or(u64::MAX);
        let start = self.end.fetch_add(length, Ordering::Relaxed);
        self.file.write_all_at(&piece.buffer, start).map_err(IoFailure::on("write", &self.path))?;
        for Gathered { mut put, runs, hashes } in piece.puts.drain(..) {
            put.frame.offset_bytes += start;
            let Put { round, frame } = put;
            hashed.push(Hashed { place: (frame.file, frame.offset_bytes, frame.slot), hashes });
            puts.extend(runs.into_iter().map(|run| Put { round, frame: frame.part(run) }));
        }
        piece.buffer.clear();
        self.written.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Syncs when enough was written since that was done last: the caller's thread waits, the
    /// others go on. Tells how many bytes and how long it took.
    pub(crate) fn sync_early(&self) -> Result<Option<(u64, Duration)>, IoFailure> {
        let written = self.written.load(Ordering::Relaxed);
        let synced = self.synced.load(Ordering::Relaxed);
        if written.saturating_sub(synced) < SYNC_BYTES {
            return Ok(None);
        }
        let order = Ordering::Relaxed;
        if self.synced.compare_exchange(synced, written, order, order).is_err() {
            // Another thread does.
            return Ok(None);
        }
        let begun = Instant::now();
        self.file.sync_data().map_err(IoFailure::on("sync", &self.path))?;
        Ok(Some((written - synced, begun.elapsed())))
    }

    /// Makes the stored bytes of `frames`, which nobody will read, zeros that take no space, so
    /// that whatever no frame has is zero.
    pub(crate) fn erase(&self, frames: &[Frame]) -> Result<(), IoFailure> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let mut places: Vec<(u64, u64)> = frames
            .iter()
            .map(|f| (f.offset_bytes, f.offset_bytes + u64::from(f.stored_bytes)))
            .filter(|(start, end)| start < end)
            .collect();
        places.sort_unstable();
        let action = "erase part of";
        for run in places.chunk_by(|before, after| before.1 == after.0) {
            let (Some((start, _)), Some((_, end))) = (run.first(), run.last()) else { continue };
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&self.file, flags, *start, end - start) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    let zeros = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
                    let written = self.file.write_all_at(&zeros, *start);
                    written.map_err(IoFailure::on(action, &self.path))?;
                }
                Err(e) => return Err(IoFailure::on(action, &self.path)(e)),
            }
        }
        Ok(())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Its length, as far as pieces were appended.
    pub(crate) fn length_bytes(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Says that it was written from outside up to here.
    pub(crate) fn ends_at(&self, length_bytes: u64) {
        self.end.store(length_bytes, Ordering::Relaxed);
    }

    /// Gives back what was reserved and not used, and with `sync` makes the file survive a crash.
    /// Returns its length.
    pub(crate) fn finish(&self, sync: bool) -> Result<u64, IoFailure> {
        let end = self.end.load(Ordering::Relaxed);
        self.file.set_len(end).map_err(IoFailure::on("truncate", &self.path))?;
        if sync {
            self.file.sync_all().map_err(IoFailure::on("sync", &self.path))?;
        }
        Ok(end)
    }
}

impl Piece {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::with_capacity(PIECE_BYTES), puts: Vec::new() }
    }

    /// Whether `bytes` more make it longer than it should be.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        self.buffer.len() + bytes > PIECE_BYTES
    }

    /// Adds a frame that stands for `runs` of pages of its chunk; its offset is set here, and it is
    /// cut into these.
    pub(crate) fn add(
        &mut self,
        put: Put,
        runs: Vec<PageRange>,
        bytes: &[u8],
        hashes: &[PageHash],
    ) {
        self.add_shared([(put, runs, hashes.into())], bytes);
    }

    /// The same for frames that share their stored bytes.
    pub(crate) fn add_shared(
        &mut self,
        parts: impl IntoIterator<Item = (Put, Vec<PageRange>, Box<[PageHash]>)>,
        bytes: &[u8],
    ) {
        let offset_bytes = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.buffer.extend_from_slice(bytes);
        self.puts.extend(parts.into_iter().map(|(put, runs, hashes)| {
            let frame = Frame { offset_bytes, ..put.frame };
            Gathered { put: Put { frame, ..put }, runs, hashes }
        }));
    }
}
