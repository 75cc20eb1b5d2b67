//! The directory store.
#![allow(clippy::todo, unused_variables)]

use std::path::{Path, PathBuf};

use image::CheckpointId;
use process::InstanceId;

use crate::{
    Checkpoint, CheckpointWriter, ReadError, RemoveError, ResolveError, StoreError, WriteError,
    WriteOptions,
};

/// A directory of checkpoints, 0700 and ours. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What a reference leads to: a checkpoint, and the store it is in (another one when the
/// reference is a path).
#[derive(Clone, Debug)]
pub struct Found {
    /// The store.
    pub store: Store,
    /// The checkpoint in it.
    pub id: CheckpointId,
}

/// One line of `rekindle list`: what the header says, readable without key or codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The checkpoint.
    pub id: CheckpointId,
    /// The instance it shows.
    pub instance: InstanceId,
    /// `CLOCK_REALTIME` when it was made, nanoseconds since the epoch.
    pub created_ns: u64,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// Bytes it takes in the store, index and metadata included.
    pub stored_bytes: u64,
}

/// The exclusive right to write checkpoints of one instance; given back on drop.
#[derive(Debug)]
pub struct LineLock {
    _private: (),
}

/// What `prune` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Checkpoints removed.
    pub removed: Vec<CheckpointId>,
    /// Checkpoints that somebody uses and that were therefore kept.
    pub in_use: Vec<CheckpointId>,
    /// Unpublished leftovers removed.
    pub leftovers: Vec<PathBuf>,
    /// Bytes given back.
    pub freed_bytes: u64,
}

impl Store {
    /// Opens the store at `path`.
    ///
    /// # Errors
    /// When there is none, it is not ours, or others can read it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        todo!()
    }

    /// Opens the store at `path`, making it when there is nothing or an empty directory.
    ///
    /// # Errors
    /// As [`Store::open`], or when it cannot be made.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        todo!()
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The published checkpoints, newest first. One whose header cannot be read is left out with
    /// a warning in the log.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        todo!()
    }

    /// Finds the checkpoint that `reference` names: an id, a unique prefix of one, `latest`,
    /// `latest~N` (the Nth before it), `latest:INSTANCE` (with `~N` too), or a path.
    ///
    /// # Errors
    /// When none or several fit.
    pub fn resolve(&self, reference: &str) -> Result<Found, ResolveError> {
        todo!()
    }

    /// Opens checkpoint `id`, verifies its manifest and index, and pins it: while the result
    /// lives, `prune` and `remove` leave it alone.
    ///
    /// # Errors
    /// When it is not there, damaged, or of a newer format.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint, ReadError> {
        todo!()
    }

    /// Checks that `bytes` more fit into the store's file system.
    ///
    /// # Errors
    /// When they do not, with how much is missing.
    pub fn space_for(&self, bytes: u64) -> Result<(), WriteError> {
        todo!()
    }

    /// Takes the right to write checkpoints of `instance`.
    ///
    /// # Errors
    /// When somebody has it (the message names the holder), or the store cannot be written.
    pub fn lock_line(&self, instance: &InstanceId) -> Result<LineLock, WriteError> {
        todo!()
    }

    /// Begins a checkpoint of the line behind `lock`, invisible until it is finished.
    ///
    /// # Errors
    /// When the store is full or cannot be written.
    pub fn begin(
        &self,
        lock: LineLock,
        options: WriteOptions,
    ) -> Result<CheckpointWriter, WriteError> {
        todo!()
    }

    /// Removes checkpoint `id`.
    ///
    /// # Errors
    /// When it is not there, in use, a parent of another one, or cannot be removed.
    pub fn remove(&self, id: CheckpointId) -> Result<u64, RemoveError> {
        todo!()
    }

    /// Removes unpublished leftovers of writers that are dead and, with `keep`, all but the
    /// newest `keep` checkpoints of each instance.
    ///
    /// # Errors
    /// When something that should go cannot be removed.
    pub fn prune(&self, keep: Option<usize>) -> Result<Pruned, RemoveError> {
        todo!()
    }
}

impl Found {
    /// Opens the checkpoint, see [`Store::checkpoint`].
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub fn open(&self) -> Result<Checkpoint, ReadError> {
        self.store.checkpoint(self.id)
    }
}
