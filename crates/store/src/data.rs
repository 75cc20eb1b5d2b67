//! The data file of a checkpoint that is being written: several threads append pieces to it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use image::Frame;

use crate::error::IoFailure;
use crate::layout::ALIGNMENT_BYTES;

/// Bytes that are gathered before they are written.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// The data file; pieces are written side by side by whoever has one.
#[derive(Debug)]
pub(crate) struct DataFile {
    file: File,
    path: PathBuf,
    end: AtomicU64,
}

/// Frames of one thread that are not yet written. Raw frames and encoded ones are gathered
/// apart: raw ones are whole pages, so in a piece of their own every one of them is aligned
/// without padding.
#[derive(Debug)]
pub(crate) struct Piece {
    buffer: Vec<u8>,
    /// Their offsets count from the start of the piece.
    frames: Vec<Frame>,
}

impl DataFile {
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, end: AtomicU64::new(0) }
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
    /// with their places in the file, to `frames`.
    pub(crate) fn append(
        &self,
        piece: &mut Piece,
        frames: &mut Vec<Frame>,
    ) -> Result<(), IoFailure> {
        if piece.buffer.is_empty() {
            return Ok(());
        }
        let alignment = usize::try_from(ALIGNMENT_BYTES).unwrap_or(usize::MAX);
        piece.buffer.resize(piece.buffer.len().next_multiple_of(alignment), 0);
        let length = u64::try_from(piece.buffer.len()).unwrap_or(u64::MAX);
        let start = self.end.fetch_add(length, Ordering::Relaxed);
        self.file.write_all_at(&piece.buffer, start).map_err(IoFailure::on("write", &self.path))?;
        frames.extend(piece.frames.drain(..).map(|mut frame| {
            frame.offset_bytes += start;
            frame
        }));
        piece.buffer.clear();
        Ok(())
    }

    /// Gives back what was reserved and not used, and makes the file survive a crash. Returns
    /// its length.
    pub(crate) fn finish(&self) -> Result<u64, IoFailure> {
        let end = self.end.load(Ordering::Relaxed);
        self.file.set_len(end).map_err(IoFailure::on("truncate", &self.path))?;
        self.file.sync_all().map_err(IoFailure::on("sync", &self.path))?;
        Ok(end)
    }
}

impl Piece {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::with_capacity(PIECE_BYTES), frames: Vec::new() }
    }

    /// Whether `bytes` more make it longer than it should be.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        self.buffer.len() + bytes > PIECE_BYTES
    }

    /// Adds a frame; its offset is set here.
    pub(crate) fn add(&mut self, mut frame: Frame, bytes: &[u8]) {
        frame.offset_bytes = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.buffer.extend_from_slice(bytes);
        self.frames.push(frame);
    }
}
