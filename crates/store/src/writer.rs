//! Writing a checkpoint.
#![allow(clippy::todo, unused_variables)]

use codec::Want;
use image::{CheckpointId, Summary};
use mem::{MemoryId, PageRange, PageSink, PageSinkError};
use plan::Plan;
use process::Instance;

use crate::WriteError;

/// How a checkpoint is to be written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// How [`PageSink::put`] encodes; [`CheckpointWriter::put_as`] overrides it.
    pub want: Want,
    /// Bytes to reserve on the disk beforehand (fallocate(2)); 0 reserves nothing. What is not
    /// used is given back by `finish`.
    pub reserve_bytes: u64,
}

/// A checkpoint that is being written. Nothing of it is visible in the store before
/// [`CheckpointWriter::finish`]; dropping it removes what was written.
///
/// [`PageSink::put`] may be called from several threads at once: each encodes and hashes in its
/// own thread, and writes pieces of 1 MiB. Put pages in load order, so that they lie in load
/// order in the file.
#[derive(Debug)]
pub struct CheckpointWriter {
    id: CheckpointId,
}

/// A checkpoint that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: CheckpointId,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// Everything newly written for it: data, index and metadata.
    pub stored_bytes: u64,
    /// Bytes of frames in each tier, in the order critical, warm, cold: as pages.
    pub tier_page_bytes: [u64; 3],
    /// The same as stored.
    pub tier_stored_bytes: [u64; 3],
}

impl CheckpointWriter {
    /// The id it will have.
    pub fn id(&self) -> CheckpointId {
        self.id
    }

    /// Bytes of pages taken so far, for a progress bar.
    pub fn page_bytes(&self) -> u64 {
        todo!()
    }

    /// Like [`PageSink::put`], encoded as `want` says.
    ///
    /// # Errors
    /// As [`PageSink::put`].
    pub fn put_as(
        &self,
        memory: MemoryId,
        pages: PageRange,
        bytes: &[u8],
        want: Want,
    ) -> Result<(), PageSinkError> {
        todo!()
    }

    /// Writes index and metadata, syncs everything and publishes the checkpoint. When this
    /// returns Ok it survives a crash of the machine; otherwise nothing of it is visible.
    ///
    /// The plan's extents give the frames their tier and load order. Every page that was put
    /// must be in an extent, and every page of an extent whose treatment stores bytes must have
    /// been put, once; pages of `Zero` extents need not be put.
    ///
    /// # Errors
    /// When anything cannot be written or synced, an earlier `put` failed, or plan and pages do
    /// not fit together.
    pub fn finish(
        self,
        instance: &Instance,
        plan: &Plan,
        summary: &Summary,
    ) -> Result<Published, WriteError> {
        todo!()
    }

    /// Removes what was written. Dropping the writer does the same but cannot tell of errors.
    ///
    /// # Errors
    /// When something cannot be removed; `prune` will find it.
    pub fn abandon(self) -> Result<(), WriteError> {
        todo!()
    }
}

impl PageSink for CheckpointWriter {
    fn put(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        todo!()
    }
}
