//! A checkpoint that came with a stream and is not published: a directory under `tmp`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use image::{CheckpointId, LineKey, Manifest};

use crate::checkpoint::PlanUse;
use crate::dir::Dir;
use crate::error::{IoFailure, ReadError, WriteError};
use crate::{Checkpoint, Store, layout};

/// What holes are made of.
const HOLE_BYTES: usize = 4096;

/// A checkpoint that is not published; dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    store: Store,
    pub(crate) id: CheckpointId,
    pub(crate) manifest: Manifest,
    name: String,
    dir: Dir,
    is_published: bool,
}

impl Staged {
    /// Begins one with its manifest.
    pub(crate) fn begin(
        store: &Store,
        manifest: Manifest,
        bytes: &[u8],
    ) -> Result<Self, WriteError> {
        let id = manifest.id;
        let name = format!("{id}-import");
        let dir = store.begin_directory(id, &name)?;
        let staged = Self { store: store.clone(), id, manifest, name, dir, is_published: false };
        let mut file = staged.create(layout::MANIFEST)?;
        file.append(bytes)?;
        file.finish()?;
        Ok(staged)
    }

    /// Begins a file of it.
    pub(crate) fn create(&self, name: &str) -> Result<StagedFile, IoFailure> {
        let (file, path) = (self.dir.create(name)?, self.dir.join(name));
        Ok(StagedFile { file, path, length_bytes: 0 })
    }

    /// Makes the names of its files survive a crash.
    pub(crate) fn sync(&self) -> Result<(), IoFailure> {
        self.dir.sync()
    }

    /// Opens it, without those behind it.
    pub(crate) fn open(&self, key: &LineKey) -> Result<Checkpoint, ReadError> {
        Checkpoint::open_in(self.dir.child(".")?, self.id, |_| Ok(key.clone()), PlanUse::Now)
    }

    /// Makes it visible, in one step that survives a crash when this returns Ok.
    pub(crate) fn publish(&mut self) -> Result<(), IoFailure> {
        let dirs = &self.store.dirs;
        dirs.temporary.rename(&self.name, &dirs.checkpoints, &self.id.to_string())?;
        self.is_published = true;
        dirs.checkpoints.sync()
    }

    /// Takes it out of sight again, to be removed.
    pub(crate) fn withdraw(&mut self) -> Result<(), IoFailure> {
        if self.is_published {
            let dirs = &self.store.dirs;
            dirs.checkpoints.rename(&self.id.to_string(), &dirs.temporary, &self.name)?;
            self.is_published = false;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        if let Err(error) = self.store.dirs.temporary.remove_child(&self.name) {
            tracing::warn!(
                "what came of a checkpoint is left behind until the next prune: {error}"
            );
        }
    }
}

/// A file of it that is being written.
#[derive(Debug)]
pub(crate) struct StagedFile {
    file: File,
    path: std::path::PathBuf,
    length_bytes: u64,
}

impl StagedFile {
    /// Puts `bytes` behind what there is. Zeros become holes, as most of them were.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), IoFailure> {
        let is_hole = |piece: &&[u8]| piece.iter().all(|byte| *byte == 0);
        let mut rest = bytes;
        while !rest.is_empty() {
            let hole = rest.chunks(HOLE_BYTES).take_while(is_hole).map(<[u8]>::len).sum();
            rest = &rest[hole..];
            let data = rest.chunks(HOLE_BYTES).take_while(|piece| !is_hole(piece));
            let (data, behind) = rest.split_at(data.map(<[u8]>::len).sum());
            self.length_bytes += length(hole);
            let written = self.file.write_all_at(data, self.length_bytes);
            written.map_err(IoFailure::on("write", &self.path))?;
            self.length_bytes += length(data.len());
            rest = behind;
        }
        Ok(())
    }

    /// Ends it; it survives a crash.
    pub(crate) fn finish(self) -> Result<(), IoFailure> {
        let Self { file, path, length_bytes } = self;
        file.set_len(length_bytes).map_err(IoFailure::on("write", &path))?;
        file.sync_all().map_err(IoFailure::on("sync", &path))
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
