//! Reading everything to check everything.

use std::os::unix::fs::FileExt;

use image::{Frame, Opener};
use mem::PageSourceError;
use plan::Treatment;

use crate::error::{IoFailure, ReadError};
use crate::read::damaged;
use crate::{BatchReader, Checkpoint};

/// Stored bytes that are read in one go.
const BATCH_BYTES: u64 = 4 << 20;

/// What a full verification read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Checkpoints checked: this one and all behind it.
    pub checkpoints: u64,
    /// Frames checked, those of the parents included.
    pub frames: u64,
    /// Bytes of pages in the checkpoint.
    pub page_bytes: u64,
    /// Bytes of all files of the checkpoint and its parents.
    pub stored_bytes: u64,
    /// Frames of which only the stored bytes could be checked, because files outside of the store
    /// that they need are not there.
    pub frames_unread: u64,
}

/// What is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Everything is.
    Nothing,
    /// What files outside of the store have: they are not there, or not as they were.
    Twins,
}

/// Whether a frame holds, or is the difference to, what may be in a file outside of the store.
fn may_need_twin(frame: &Frame) -> bool {
    matches!(frame.treatment, Treatment::Twin | Treatment::Delta)
}

impl Checkpoint {
    /// Reads everything and checks everything, the parents first: manifests and indexes were
    /// checked when the checkpoint was opened; here every frame is decoded and compared with its
    /// hashes, the hashes with what the manifest says of the content, and the bytes between
    /// frames must be the zeros that were written.
    ///
    /// # Errors
    /// Naming the file and the place of the first damage.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        self.verify_each(Trust::Nothing, &|_| Ok(()))
    }

    /// The same; `each` hears of the stored bytes that come next, and is asked whether to go on.
    pub(crate) fn verify_each<E: From<ReadError>>(
        &self,
        trust: Trust,
        each: &dyn Fn(u64) -> Result<(), E>,
    ) -> Result<Verified, E> {
        let chain: Vec<&Self> = self.chain().collect();
        let mut verified = Verified { page_bytes: self.page_bytes(), ..Verified::default() };
        for checkpoint in chain.into_iter().rev() {
            let named = |cause| match checkpoint.id() {
                id if id == self.id() => cause,
                parent => ReadError::Parent { id: self.id(), parent, cause: Box::new(cause) },
            };
            let mut asked = Ok(());
            let mut go_on = |bytes| {
                asked = each(bytes);
                asked.is_ok()
            };
            let checked = checkpoint.verify_alone(&mut verified, trust, &mut go_on);
            asked?;
            checked.map_err(named)?;
        }
        Ok(verified)
    }

    /// Checks the bytes that are read for no page, here and in the parents: nobody else notices
    /// when one is altered, which says that somebody wrote to the checkpoint. Holes are skipped,
    /// so that this takes next to no time.
    ///
    /// # Errors
    /// Naming the file and the place.
    pub fn check_padding(&self) -> Result<(), ReadError> {
        self.chain().try_for_each(Self::verify_own_padding)
    }

    /// Checks what this checkpoint stores itself, as long as `go_on` says so.
    fn verify_alone(
        &self,
        verified: &mut Verified,
        trust: Trust,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ReadError> {
        verified.checkpoints += 1;
        verified.stored_bytes += self.stored_bytes();
        let mut reader = BatchReader::default();
        for mut batch in self.batches_in_load_order(BATCH_BYTES) {
            if !go_on(batch.stored_bytes) {
                return Ok(());
            }
            if trust == Trust::Twins {
                let path = |frame: &Frame| self.data_path(frame.file.into());
                for frame in batch.frames.extract_if(.., |frame| may_need_twin(frame)) {
                    self.check_stored(&frame)
                        .map_err(|cause| ReadError::Frame { path: path(&frame), cause })?;
                    verified.frames_unread += 1;
                }
            }
            self.read_batch(&batch, &mut reader, |_, _| {
                verified.frames += 1;
                Ok(())
            })
            .map_err(|cause: PageSourceError| {
                let file = batch.frames.last().map_or(0, |frame| frame.file);
                ReadError::Frame { path: self.data_path(file.into()), cause }
            })?;
        }
        self.verify_own_padding()?;
        self.verify_loss()?;
        // Each frame's page hashes are compared with the frame's hash, as its pages were.
        let path = self.dir.join(&self.manifest.files.hashes.name);
        let computed = self.computed_content().map_err(|cause| ReadError::Frame { path, cause })?;
        if computed != self.content() || self.counted() != self.claimed() {
            return Err(ReadError::Content(self.id()));
        }
        Ok(())
    }

    fn check_stored(&self, frame: &Frame) -> Result<(), PageSourceError> {
        let mut stored = Vec::new();
        self.read_stored(frame, &mut stored)?;
        Opener::check_stored(frame, &stored).map_err(|e| damaged(frame, e.to_string()))
    }

    /// Bytes of pages, and of those that are the parent's, by the index and by the manifest.
    fn counted(&self) -> (u64, u64) {
        self.index.frames().fold((0, 0), |(pages, referenced), frame| {
            (pages + frame.pages.bytes(), referenced + frame.referenced_bytes())
        })
    }

    fn claimed(&self) -> (u64, u64) {
        (self.manifest.page_bytes, self.manifest.referenced_bytes)
    }

    fn verify_own_padding(&self) -> Result<(), ReadError> {
        (0..self.data.len()).try_for_each(|number| self.verify_padding(number))
    }

    /// What no frame of a file has is zero: the filling behind a piece, and what was put and
    /// lost its place to a later round.
    fn verify_padding(&self, number: usize) -> Result<(), ReadError> {
        let here = |frame: &Frame| usize::from(frame.file) == number && frame.stored_bytes > 0;
        let mut places: Vec<(u64, u64)> = self
            .index
            .frames()
            .filter(here)
            .map(|frame| (frame.offset_bytes, frame.offset_bytes + u64::from(frame.stored_bytes)))
            .collect();
        places.sort_unstable();
        let end = self.manifest.files.data[number].length_bytes;
        let mut next = 0;
        for (start, stop) in places.into_iter().chain([(end, end)]) {
            if start > next {
                self.check_zeros(number, next, start)?;
            }
            next = next.max(stop);
        }
        Ok(())
    }

    fn check_zeros(&self, number: usize, start: u64, end: u64) -> Result<(), ReadError> {
        let path = self.data_path(number);
        let altered = ReadError::Padding { path: path.clone(), offset_bytes: start };
        let mut at = start;
        while at < end {
            at = self.data_from(number, at).min(end);
            let mut zeros = [0; 4096];
            let length = usize::try_from(end - at).map_or(zeros.len(), |n| n.min(zeros.len()));
            self.data[number]
                .read_exact_at(&mut zeros[..length], at)
                .map_err(IoFailure::on("read", &path))?;
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(altered);
            }
            at += u64::try_from(length).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// Where the next bytes that are stored begin: a hole reads as zeros. `at` itself where the
    /// file system cannot tell.
    fn data_from(&self, number: usize, at: u64) -> u64 {
        use rustix::fs::{SeekFrom, seek};
        match seek(&self.data[number], SeekFrom::Data(at)) {
            Ok(place) => place.max(at),
            // Nothing but a hole up to the file's end.
            Err(rustix::io::Errno::NXIO) => u64::MAX,
            Err(_) => at,
        }
    }

    fn data_path(&self, number: usize) -> std::path::PathBuf {
        let name = self.manifest.files.data.get(number).map_or("", |file| &file.name);
        self.dir.join(name)
    }
}
