//! The directory store.
//!
//! ```text
//! STORE/layout                  "rekindle store 1\n"
//! STORE/lines/INSTANCE/key      32 random bytes, the key of all hashes in this line
//! STORE/lines/INSTANCE/lock     locked by whoever writes a checkpoint of the instance
//! STORE/lines/INSTANCE/heat     what is known of its accesses; heat.lock is locked by its writers
//! STORE/costs.json              what profiling costs on this host
//! STORE/checkpoints/ID/         published; locked (shared) by whoever uses it
//!     manifest index hashes pages   see docs/FORMAT.md
//! STORE/tmp/NAME/               being written or removed; locked by whoever writes it
//! ```
//! Directories are 0700, files 0600. Locks are flock(2): they end with their holder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::CheckpointId;
use process::InstanceId;
use rustix::fs::FlockOperation;

use crate::checkpoint::PlanUse;
use crate::dir::Dir;
use crate::error::{IoFailure, ReadError, StoreError, WriteError};
use crate::prune::holders;
use crate::{Checkpoint, CheckpointWriter, LineLock, WriteOptions, line};

pub(crate) const LAYOUT: &str = "layout";
pub(crate) const LAYOUT_TEXT: &str = "rekindle store 1\n";
pub(crate) const LINES: &str = "lines";
pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const TEMPORARY: &str = "tmp";

/// A directory of checkpoints, 0700 and ours. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) dirs: Arc<Dirs>,
}

/// The directories of a store, open.
#[derive(Debug)]
pub(crate) struct Dirs {
    pub(crate) root: Dir,
    pub(crate) lines: Dir,
    pub(crate) checkpoints: Dir,
    pub(crate) temporary: Dir,
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

impl Store {
    /// Makes checkpoint `id` survive a crash of the machine, when its writer left that to later.
    ///
    /// # Errors
    /// When there is none, or it cannot be synced.
    pub fn sync(&self, id: CheckpointId) -> Result<(), IoFailure> {
        let dir = self.dirs.checkpoints.child(&id.to_string())?;
        for name in dir.names()? {
            let file = dir.open(&name)?;
            file.sync_all().map_err(IoFailure::on("sync", dir.join(&name)))?;
        }
        dir.sync()?;
        self.dirs.checkpoints.sync()?;
        self.dirs.temporary.sync()
    }

    /// Opens the store at `path`.
    ///
    /// # Errors
    /// When there is none, it is not ours, or others can read it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let missing = |e: IoFailure| match e.is_missing() {
            true => StoreError::Missing(path.to_owned()),
            false => e.into(),
        };
        let root = Dir::at(path).map_err(missing)?;
        root.check_private()?;
        let layout = match root.open(LAYOUT) {
            Ok(file) => std::io::read_to_string(std::io::Read::take(file, 256))
                .map_err(IoFailure::on("read", root.join(LAYOUT)))?,
            Err(e) if e.is_missing() && root.names()?.is_empty() => {
                return Err(StoreError::Missing(path.to_owned()));
            }
            Err(e) if e.is_missing() => return Err(StoreError::NotAStore(path.to_owned())),
            Err(e) => return Err(e.into()),
        };
        if layout != LAYOUT_TEXT {
            let layout = layout.trim_end().to_owned();
            let known = LAYOUT_TEXT.trim_ascii_end();
            return Err(StoreError::Newer { path: path.to_owned(), layout, known });
        }
        let dirs = Dirs {
            lines: root.child(LINES)?,
            checkpoints: root.child(CHECKPOINTS)?,
            temporary: root.child(TEMPORARY)?,
            root,
        };
        for dir in [&dirs.lines, &dirs.checkpoints, &dirs.temporary] {
            dir.check_private()?;
        }
        Ok(Self { dirs: Arc::new(dirs) })
    }

    /// Opens the store at `path`, making it when there is nothing or an empty directory.
    /// Missing parent directories are made too.
    ///
    /// # Errors
    /// As [`Store::open`], or when it cannot be made.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        match Self::open(path) {
            Err(StoreError::Missing(_)) => {}
            // Another process is making it, or died while doing so.
            Err(StoreError::NotAStore(_)) if is_half_made(path)? => {}
            other => return other,
        }
        make_directory(path).map_err(IoFailure::on("create directory", path))?;
        let root = Dir::at(path)?;
        root.check_private()?;
        for name in [LINES, CHECKPOINTS, TEMPORARY] {
            root.child_or_make(name)?;
        }
        // The layout comes last: it says that the rest is there. Two makers write the same.
        let file = root.open_or_create(LAYOUT)?;
        let fail = |action| IoFailure::on(action, root.join(LAYOUT));
        std::os::unix::fs::FileExt::write_all_at(&file, LAYOUT_TEXT.as_bytes(), 0)
            .map_err(fail("write"))?;
        file.sync_all().map_err(fail("sync"))?;
        root.sync()?;
        Self::open(path)
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        self.dirs.root.path()
    }

    /// Opens checkpoint `id`, verifies its manifest and index, and pins it: while the result
    /// lives, `prune` and `remove` leave it alone.
    ///
    /// # Errors
    /// When it is not there, damaged, or of a newer format.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint, ReadError> {
        Checkpoint::open(self, (id, PlanUse::Now), None)
    }

    /// The same for somebody who begins with the pages: the plan is decoded when it is asked for
    /// first, and one that makes no sense, which others are told of, is as good as none. When
    /// `parent`, or one that stands behind it, is open already it is not opened again, but shared; what
    /// `id` does not build on is of no use.
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub fn pages_on(
        &self,
        id: CheckpointId,
        parent: Option<&Arc<Checkpoint>>,
    ) -> Result<Checkpoint, ReadError> {
        Checkpoint::open(self, (id, PlanUse::Later), parent)
    }

    /// Checks that `bytes` more fit into the store's file system.
    ///
    /// # Errors
    /// When they do not, with how much is missing.
    pub fn space_for(&self, bytes: u64) -> Result<(), WriteError> {
        let free_bytes = self.dirs.root.free_bytes()?;
        if bytes > free_bytes {
            let store = self.root().to_owned();
            return Err(WriteError::Space { store, needed_bytes: bytes, free_bytes });
        }
        Ok(())
    }

    /// A directory `name` under `tmp` for checkpoint `id`, with a shared lock that says that its
    /// writer lives. What a dead one left there is removed.
    pub(crate) fn begin_directory(&self, id: CheckpointId, name: &str) -> Result<Dir, WriteError> {
        let temporary = &self.dirs.temporary;
        // Whoever cleans up holds this exclusively, so that he cannot find the directory before
        // its lock is taken.
        let _guard = temporary.guard(FlockOperation::LockShared)?;
        if let Ok(rest) = temporary.child(name) {
            // Of a writer who died: one who lives has it locked.
            if !rest.lock(FlockOperation::NonBlockingLockExclusive)? {
                return Err(WriteError::InUse { id, holder: holders(&rest) });
            }
            temporary.remove_child(name)?;
        }
        let dir = temporary.make(name)?;
        dir.lock(FlockOperation::LockShared)?;
        Ok(dir)
    }

    /// Takes the right to write checkpoints of `instance`.
    ///
    /// # Errors
    /// When somebody has it (the message names the holder), or the store cannot be written.
    pub fn lock_line(&self, instance: &InstanceId) -> Result<LineLock, WriteError> {
        line::lock(&self.dirs.lines, instance, None)
    }

    /// Begins a checkpoint of the line behind `lock`, invisible until it is finished. With a
    /// parent, an earlier checkpoint of the same line in this store, pages that are the same
    /// there are not stored again and others as the difference, where that is shorter. A parent
    /// that has [`crate::CHAIN_DEPTH_MAX`] checkpoints behind it is not built on: the checkpoint
    /// will hold all its pages itself, see [`CheckpointWriter::parent`].
    ///
    /// # Errors
    /// When the store is full or cannot be written, or the parent is of another line.
    pub fn begin(
        &self,
        lock: LineLock,
        options: WriteOptions,
        parent: Option<Checkpoint>,
    ) -> Result<CheckpointWriter, WriteError> {
        CheckpointWriter::begin(self, lock, options, parent)
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

/// Whether `path` holds nothing but parts of a store that is being made.
fn is_half_made(path: &Path) -> Result<bool, StoreError> {
    let names = Dir::at(path)?.names()?;
    Ok(names.iter().all(|name| [LAYOUT, LINES, CHECKPOINTS, TEMPORARY].contains(&name.as_str())))
}

/// Makes `path` as 0700 and missing parents as the umask says.
fn make_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let parent: Option<PathBuf> = path.parent().map(Path::to_owned);
    if let Some(parent) = parent.filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
