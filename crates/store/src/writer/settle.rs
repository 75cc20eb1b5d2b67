//! What was put, gathered from the threads that put it and brought into order.

use std::borrow::Cow;

use image::{INDEX_RECORD_BYTES, PageHash, Put};

use super::{CheckpointWriter, lock};
use crate::data::Hashed;
use crate::error::{IoFailure, WriteError};
use crate::layout;

/// What was put and written.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// As [`image::latest`] wants them.
    pub(super) puts: Vec<Put>,
    /// The hashes of the pages, by place in the file.
    pub(super) hashed: Vec<Hashed>,
    /// Room for their file, which the machine has given already.
    pub(super) room: Vec<u8>,
}

/// How much is expected to be put afterwards.
const REST: usize = 4096;

impl CheckpointWriter {
    /// Writes what was put so far and brings it into order, so that [`Self::finish`] has to do that
    /// with the rest only. Call it before somebody begins to wait, and while no thread puts.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn settle(&self) -> Result<(), WriteError> {
        let mut all = lock(&self.settled);
        self.gather(&mut all)?;
        // The rest is to find room.
        all.puts.reserve(REST);
        all.hashed.reserve(REST);
        self.make_room(&mut all)?;
        Ok(())
    }

    /// Has the files of hashes and of the index take up about as much as they will: a file that grows
    /// costs several times what it does to write over one that is there.
    fn make_room(&self, all: &mut Settled) -> Result<(), IoFailure> {
        let hashes = all.hashed.iter().map(|hashed| hashed.hashes.len()).sum::<usize>();
        all.room = vec![0; (hashes + REST) * PageHash::BYTES];
        let index = (all.puts.len() + REST) * INDEX_RECORD_BYTES;
        self.write_over(layout::HASHES, &all.room)?;
        let zeros = all.room.get(..index).map_or_else(|| Cow::from(vec![0; index]), Cow::from);
        self.write_over(layout::INDEX, &zeros)?;
        Ok(())
    }

    /// All that was put, in order.
    ///
    /// # Errors
    /// When the rest cannot be written, or an earlier `put` failed.
    pub(super) fn flush(&self) -> Result<Settled, WriteError> {
        if let Some(failure) = lock(&self.failed).take() {
            return Err(WriteError::EarlierPut(failure));
        }
        let mut all = std::mem::take(&mut *lock(&self.settled));
        self.gather(&mut all)?;
        Ok(all)
    }

    fn gather(&self, all: &mut Settled) -> Result<(), IoFailure> {
        let mut lanes = lock(&self.lanes);
        for lane in lanes.iter_mut() {
            lane.flush(&self.data)?;
        }
        all.puts.reserve(lanes.iter().map(|lane| lane.puts.len()).sum());
        all.hashed.reserve(lanes.iter().map(|lane| lane.hashed.len()).sum());
        for lane in lanes.iter_mut() {
            all.puts.append(&mut lane.puts);
            all.hashed.append(&mut lane.hashed);
        }
        Put::sort_and_join(&mut all.puts);
        all.hashed.sort_by_key(|hashed| hashed.place);
        Ok(())
    }
}
