//! Reading a checkpoint.
#![allow(clippy::todo, unused_variables)]

use image::{CheckpointId, Frame, Summary};
use mem::{MemoryId, PageRange, PageSet, PageSource, PageSourceError};
use plan::Plan;
use process::Instance;

use crate::ReadError;

/// A published checkpoint, its manifest and index verified, pinned while this lives. Reads may
/// come from several threads at once.
#[derive(Debug)]
pub struct Checkpoint {
    id: CheckpointId,
    instance: Instance,
    plan: Plan,
    summary: Summary,
}

/// Frames that lie side by side in one file and are read in one go.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The frames, ascending by offset.
    pub frames: Vec<Frame>,
    /// Bytes that reading it takes from the store.
    pub stored_bytes: u64,
    /// Bytes of pages it gives.
    pub page_bytes: u64,
}

/// Buffers and decoders for reading batches; one for each thread.
#[derive(Debug, Default)]
pub struct BatchReader {
    _stored: Vec<u8>,
}

/// What a full verification read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Frames checked.
    pub frames: u64,
    /// Bytes of pages checked.
    pub page_bytes: u64,
    /// Bytes read.
    pub stored_bytes: u64,
}

impl Checkpoint {
    /// Its id.
    pub fn id(&self) -> CheckpointId {
        self.id
    }

    /// The instance's state.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The plan it was made by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How it came about.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Bytes it takes in the store, index and metadata included.
    pub fn stored_bytes(&self) -> u64 {
        todo!()
    }

    /// The memories that have pages here, ascending.
    pub fn memories(&self) -> Vec<MemoryId> {
        todo!()
    }

    /// The frames in load order.
    pub fn frames_in_load_order(&self) -> Vec<Frame> {
        todo!()
    }

    /// The frames in load order, grouped into batches of neighbouring frames of up to
    /// `stored_bytes_max` stored bytes, so that several threads can stream them with large reads.
    pub fn batches_in_load_order(&self, stored_bytes_max: u64) -> Vec<Batch> {
        todo!()
    }

    /// Reads `batch` and hands each frame's verified pages to `each`, in the order of the batch.
    ///
    /// # Errors
    /// When it cannot be read, a frame fails its checks, or `each` fails.
    pub fn read_batch<E: From<PageSourceError>>(
        &self,
        batch: &Batch,
        reader: &mut BatchReader,
        each: impl FnMut(&Frame, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        todo!()
    }

    /// Reads everything and checks everything.
    ///
    /// # Errors
    /// Naming the file and the place of the first damage.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        todo!()
    }
}

impl PageSource for Checkpoint {
    fn pages(&self, memory: MemoryId) -> Result<PageSet, PageSourceError> {
        todo!()
    }

    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        todo!()
    }
}
