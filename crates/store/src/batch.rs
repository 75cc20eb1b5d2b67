//! Reading many frames with few, large reads.

use std::os::unix::fs::FileExt;

use image::Frame;
use mem::PageSourceError;
use plan::Treatment;

use crate::Checkpoint;
use crate::read::{Reader, damaged};

/// Bytes between two frames that are read along rather than read around.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Frames that follow each other in load order and are read together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The frames, ascending by place in the files; those without stored bytes come first.
    pub frames: Vec<Frame>,
    /// Stored bytes of the frames.
    pub stored_bytes: u64,
    /// Bytes of pages it gives.
    pub page_bytes: u64,
}

/// Buffers and decoders for reading batches; one for each thread.
#[derive(Debug, Default)]
pub struct BatchReader {
    stored: Vec<u8>,
}

impl Checkpoint {
    /// The frames stored in this checkpoint, without its parents, in load order, cut into batches
    /// of up to `stored_bytes_max` stored bytes or four times as many bytes of pages, and at least
    /// one frame. Within a batch frames are read in the order in which they lie in the files, with
    /// reads as large as they allow, so several threads can each take a batch.
    pub fn batches_in_load_order(&self, stored_bytes_max: u64) -> Vec<Batch> {
        let page_bytes_max = stored_bytes_max.saturating_mul(4);
        let mut batches: Vec<Batch> = Vec::new();
        let mut before = None;
        for frame in self.frames_in_load_order() {
            // Stored bytes that frames share are read once.
            let is_shared = frame.stored_bytes > 0 && before == Some(place(&frame));
            before = Some(place(&frame));
            let stored_bytes = if is_shared { 0 } else { u64::from(frame.stored_bytes) };
            let page_bytes = frame.pages.bytes() - frame.referenced_bytes();
            match batches.last_mut() {
                Some(batch)
                    if batch.stored_bytes + stored_bytes <= stored_bytes_max
                        && batch.page_bytes + page_bytes <= page_bytes_max =>
                {
                    batch.frames.push(frame);
                    batch.stored_bytes += stored_bytes;
                    batch.page_bytes += page_bytes;
                }
                _ => batches.push(Batch { frames: vec![frame], stored_bytes, page_bytes }),
            }
        }
        for batch in &mut batches {
            batch.frames.sort_by_key(place);
        }
        batches
    }

    /// Reads `batch` and hands the verified pages that each frame holds to `each`, in the
    /// order of the batch: [`Frame::held`] says which.
    ///
    /// # Errors
    /// When it cannot be read, a frame fails its checks, or `each` fails.
    pub fn read_batch<E: From<PageSourceError>>(
        &self,
        batch: &Batch,
        reader: &mut BatchReader,
        mut each: impl FnMut(&Frame, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.readers.with(|decoder| {
            for run in batch.frames.chunk_by(lie_together) {
                self.read_run(run, reader)?;
                let start = run.first().map_or(0, |frame| frame.offset_bytes);
                for frame in run {
                    let begins = usize::try_from(frame.offset_bytes - start).unwrap_or(usize::MAX);
                    let length = usize::try_from(frame.stored_bytes).unwrap_or(usize::MAX);
                    let stored = reader
                        .stored
                        .get(begins..begins.saturating_add(length))
                        .ok_or_else(|| damaged(frame, "it lies behind its run".to_owned()))?;
                    each(frame, self.open_in_place(decoder, frame, stored)?)?;
                }
            }
            Ok(())
        })
    }

    /// The verified pages of `frame`, in `decoder` or in `stored` itself.
    fn open_in_place<'a>(
        &self,
        decoder: &'a mut Reader,
        frame: &Frame,
        stored: &'a [u8],
    ) -> Result<&'a [u8], PageSourceError> {
        if frame.treatment == Treatment::Raw {
            let checked = decoder.opener.check_raw(frame, stored);
            checked.map_err(|e| damaged(frame, e.to_string()))?;
            return Ok(stored);
        }
        self.open_stored(frame, stored, decoder).map(|(pages, _)| pages)
    }

    /// Reads the bytes from the first to the last frame of `run` with one read.
    fn read_run(&self, run: &[Frame], reader: &mut BatchReader) -> Result<(), PageSourceError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let end = last.offset_bytes + u64::from(last.stored_bytes);
        let length = usize::try_from(end.saturating_sub(first.offset_bytes)).unwrap_or(usize::MAX);
        reader.stored.resize(length, 0);
        if length == 0 {
            return Ok(());
        }
        let (memory, pages) = (first.memory, first.pages);
        self.file_of(first)?
            .read_exact_at(&mut reader.stored, first.offset_bytes)
            .map_err(|cause| PageSourceError::Io { memory, pages, cause })
    }
}

/// What frames are sorted by: frames without stored bytes lie nowhere and come first.
fn place(frame: &Frame) -> (bool, u16, u64) {
    (frame.stored_bytes > 0, frame.file, frame.offset_bytes)
}

/// Whether one read takes both: same file, and nothing much between them.
fn lie_together(before: &Frame, after: &Frame) -> bool {
    let end = before.offset_bytes + u64::from(before.stored_bytes);
    (before.stored_bytes > 0) == (after.stored_bytes > 0)
        && before.file == after.file
        && (before.offset_bytes == after.offset_bytes
            || after.offset_bytes.checked_sub(end).is_some_and(|gap| gap <= GAP_BYTES_MAX))
}
