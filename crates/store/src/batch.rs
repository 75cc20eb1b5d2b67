//! Reading many frames with few, large reads.

use std::os::unix::fs::FileExt;

use image::{Frame, Opener};
use mem::{PageRange, PageSourceError};
use plan::Treatment;

use crate::Checkpoint;
use crate::checkpoint::{bytes_of, damaged};

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
    pages: Vec<u8>,
}

impl Checkpoint {
    /// The frames in load order, cut into batches of up to `stored_bytes_max` stored bytes or
    /// four times as many bytes of pages, and at least one frame. Within a batch frames are read
    /// in the order in which they lie in the files, with reads as large as they allow, so
    /// several threads can each take a batch.
    pub fn batches_in_load_order(&self, stored_bytes_max: u64) -> Vec<Batch> {
        let page_bytes_max = stored_bytes_max.saturating_mul(4);
        let mut batches: Vec<Batch> = Vec::new();
        for frame in self.frames_in_load_order() {
            let stored_bytes = u64::from(frame.stored_bytes);
            let page_bytes = frame.pages.bytes();
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

    /// Reads `batch` and hands each frame's verified pages to `each`, in the order of the batch.
    ///
    /// # Errors
    /// When it cannot be read, a frame fails its checks, or `each` fails.
    pub fn read_batch<E: From<PageSourceError>>(
        &self,
        batch: &Batch,
        reader: &mut BatchReader,
        mut each: impl FnMut(&Frame, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.with_opener(|opener| {
            for run in batch.frames.chunk_by(lie_together) {
                self.read_run(run, reader)?;
                let start = run.first().map_or(0, |frame| frame.offset_bytes);
                for frame in run {
                    let BatchReader { stored, pages } = reader;
                    let begins = usize::try_from(frame.offset_bytes - start).unwrap_or(usize::MAX);
                    let length = usize::try_from(frame.stored_bytes).unwrap_or(usize::MAX);
                    let stored = stored
                        .get(begins..begins.saturating_add(length))
                        .ok_or_else(|| damaged(frame, "it lies behind its run".to_owned()))?;
                    each(frame, open(opener, frame, stored, pages)?)?;
                }
            }
            Ok(())
        })
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

/// The verified bytes of the frame's pages, in `pages` or in `stored` itself.
fn open<'a>(
    opener: &mut Opener,
    frame: &Frame,
    stored: &'a [u8],
    pages: &'a mut Vec<u8>,
) -> Result<&'a [u8], PageSourceError> {
    let fail = |e: image::OpenError| damaged(frame, e.to_string());
    if frame.treatment == Treatment::Raw {
        opener.check_raw(frame, stored).map_err(fail)?;
        return Ok(own_part(frame, stored));
    }
    pages.resize(bytes_of(frame.held), 0);
    opener.open(frame, stored, pages).map_err(fail)?;
    Ok(own_part(frame, pages))
}

/// The bytes of the frame's own pages among those it holds.
fn own_part<'a>(frame: &Frame, held: &'a [u8]) -> &'a [u8] {
    let before = bytes_of(PageRange { start: frame.held.start, end: frame.pages.start });
    held.get(before..before + bytes_of(frame.pages)).unwrap_or_default()
}

/// What frames are sorted by: frames without stored bytes lie nowhere and come first.
fn place(frame: &Frame) -> (bool, image::FrameSource, u16, u64) {
    (frame.stored_bytes > 0, frame.source, frame.file, frame.offset_bytes)
}

/// Whether one read takes both: same file, and nothing much between them.
fn lie_together(before: &Frame, after: &Frame) -> bool {
    let end = before.offset_bytes + u64::from(before.stored_bytes);
    (before.stored_bytes > 0) == (after.stored_bytes > 0)
        && (before.source, before.file) == (after.source, after.file)
        && (before.offset_bytes == after.offset_bytes
            || after.offset_bytes.checked_sub(end).is_some_and(|gap| gap <= GAP_BYTES_MAX))
}
