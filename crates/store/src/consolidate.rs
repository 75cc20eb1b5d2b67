//! Making a checkpoint independent of its parents: the same pages under the same id, all stored
//! in it.
//!
//! The new form is written and synced under `tmp`, then it changes places with the old one in one
//! step. A crash leaves one or the other under the id, and a rest under `tmp` that `prune` finds.
//! Children of the checkpoint go on: they know it by what its pages hold.

use std::collections::BTreeMap;

use codec::Want;
use image::{CheckpointId, Frame};
use mem::{MemoryId, PageRange, PageSet, PageSourceError};
use plan::Treatment;
use rustix::fs::FlockOperation;

use crate::error::WriteError;
use crate::prune::holders;
use crate::recompress::RECOMPRESSED;
use crate::writer::Written;
use crate::{Checkpoint, CheckpointWriter, Store, WriteOptions};

/// Pages that were changed are encoded once more: as small as a few seconds for each GB allow,
/// since nobody waits.
const WANT: Want = Want::Zstd(3);

/// Pages that are read in one go.
const READ_PAGES: u64 = 256;

impl Store {
    /// Stores all pages of checkpoint `id` in it. Returns the bytes it has then, or `None` when
    /// it has no parent to begin with.
    ///
    /// # Errors
    /// When it or a parent cannot be read, somebody uses it, a checkpoint of its instance is
    /// being written, or the store cannot be written.
    pub fn consolidate(&self, id: CheckpointId) -> Result<Option<u64>, WriteError> {
        let old = self.checkpoint(id)?;
        if old.parent().is_none() {
            return Ok(None);
        }
        let lock = self.lock_line(&old.instance().line.instance)?;
        self.space_for(old.page_bytes())?;
        let options = WriteOptions { want: WANT, reserve_bytes: 0 };
        let mut writer = CheckpointWriter::begin_as(self, lock, options, id)?;
        writer.divide(old.plan())?;
        writer.keep_twins(&old.manifest.files.twins);
        writer.keep_loss(old.loss());
        put_all(&old, &writer)?;
        // Some of it was encoded as it is here, in a moment.
        let mut summary = old.summary().clone();
        summary.figures.remove(RECOMPRESSED);
        let written = writer.write(old.instance(), old.plan().clone(), &summary)?;
        self.exchange(&old, writer, &written, || Ok(true))?;
        Ok(Some(written.published.stored_bytes))
    }

    /// Puts another form of `old`, which is written and synced, in its place, when it holds the same,
    /// nobody uses `old`, and `may` says so once nobody can begin to.
    pub(crate) fn exchange(
        &self,
        old: &Checkpoint,
        writer: CheckpointWriter,
        written: &Written,
        may: impl FnOnce() -> Result<bool, WriteError>,
    ) -> Result<(), WriteError> {
        let id = old.id();
        if written.content != old.content() {
            return Err(WriteError::NotTheSame(id));
        }
        // Whoever reads the old form, or builds on it, has to end first: his pin is on the old
        // directory, and would not keep the new one from being removed.
        if !old.dir.lock(FlockOperation::NonBlockingLockExclusive)? {
            return Err(WriteError::InUse { id, holder: holders(&old.dir) });
        }
        // The pin was let go of for a moment: it may have been exchanged or removed.
        if !self.dirs.checkpoints.leads_to(&id.to_string(), &old.dir)? || !may()? {
            return Err(WriteError::InUse { id, holder: "another process".to_owned() });
        }
        Ok(writer.replace()?)
    }
}

/// Puts all pages of `old`: frames that hold just their own pages as they are, the rest anew.
fn put_all(old: &Checkpoint, writer: &CheckpointWriter) -> Result<(), WriteError> {
    let fail = |e: &dyn std::fmt::Display| WriteError::EarlierPut(e.to_string());
    // By place, so that pages of a chunk which are put anew are put together.
    let mut anew: BTreeMap<MemoryId, PageSet> = BTreeMap::new();
    for frame in old.index.frames() {
        // One that holds more than its own pages would be stored once for each of its parts, and so
        // would one that shares its stored bytes with other chunks.
        let is_alone = frame.own() == frame.held && frame.treatment != Treatment::Solid;
        if !frame.needs_parent() && is_alone {
            let (stored, hashes) = old.stored_frame(&frame).map_err(|e| fail(&e))?;
            writer.put_stored(frame, vec![frame.pages], &stored, &hashes).map_err(|e| fail(&e))?;
        } else {
            anew.entry(frame.memory).or_default().insert(frame.pages);
        }
    }
    let mut pages = Vec::new();
    for (memory, set) in anew {
        for part in set.runs().iter().flat_map(|run| run.aligned_chunks(READ_PAGES)) {
            old.read_whole_pages(memory, part, &mut pages).map_err(|e| fail(&e))?;
            writer.put_as(memory, part, &pages, WANT).map_err(|e| fail(&e))?;
        }
    }
    Ok(())
}

impl Checkpoint {
    /// A frame of this checkpoint as it is stored, checked, and the hashes of its pages.
    fn stored_frame(
        &self,
        frame: &Frame,
    ) -> Result<(Vec<u8>, Vec<image::PageHash>), PageSourceError> {
        if frame.treatment == Treatment::Zero {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut stored = Vec::new();
        self.read_stored(frame, &mut stored)?;
        let (_, hashes) = self
            .readers
            .with(|reader| self.open_stored(frame, &stored, reader).map(|(_, h)| ((), h)))?;
        Ok((stored, hashes))
    }

    /// Reads `pages` of `memory` into `bytes`.
    fn read_whole_pages(
        &self,
        memory: MemoryId,
        pages: PageRange,
        bytes: &mut Vec<u8>,
    ) -> Result<(), PageSourceError> {
        bytes.resize(crate::read::bytes_of(pages), 0);
        mem::PageSource::read(self, memory, pages, bytes)
    }
}
