//! Errors, one enum for each operation.

use std::io;
use std::path::{Path, PathBuf};

use image::{CheckpointId, FormatError, LayoutError};
use mem::PageSourceError;

/// Something the kernel refused, on what, and what can be done about it.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {cause}{}", path.display(), next_step(cause))]
pub struct IoFailure {
    /// What was tried, as a verb: "write", "create".
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    pub cause: io::Error,
}

impl IoFailure {
    /// For `map_err`: what `action` on `path` met.
    pub(crate) fn on<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |cause| Self { action, path: path.as_ref().to_owned(), cause: cause.into() }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }
}

fn next_step(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull => "; free some space, or name another store with --store",
        io::ErrorKind::QuotaExceeded => {
            "; free some of your quota, or name another store with --store"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; name a store on a writable file system with --store"
        }
        io::ErrorKind::PermissionDenied => "; name a store of your own with --store",
        io::ErrorKind::CrossesDevices => {
            "; the store must lie on one file system, without mounts inside"
        }
        _ => "",
    }
}

/// Why a store could not be opened, made or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The kernel refused.
    #[error("{action} {}: {cause}{}", path.display(), next_step(cause))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// There is no store.
    #[error(
        "open store {}: there is none; make a checkpoint first, or name a store with --store",
        .0.display()
    )]
    Missing(PathBuf),
    /// There is something else.
    #[error(
        "open store {}: the directory holds other files; name an empty or new directory with \
         --store",
        .0.display()
    )]
    NotAStore(PathBuf),
    /// A later version made it.
    #[error(
        "open store {}: its layout is {layout:?}, this program knows {known:?}; use a newer one",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// What it says of itself.
        layout: String,
        /// What we would say.
        known: &'static str,
    },
    /// It belongs to somebody else.
    #[error(
        "open store {}: it belongs to user {owner}, this is user {user}; checkpoints hold \
         secrets and are only kept in one's own store: name one with --store",
        path.display()
    )]
    Owner {
        /// What belongs to them.
        path: PathBuf,
        /// Their user id.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// Others can look inside.
    #[error(
        "open store {path}: its mode {mode:04o} lets others in and checkpoints hold secrets; \
         run: chmod go= {path}",
        path = path.display()
    )]
    Open {
        /// What is open to them.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl From<IoFailure> for StoreError {
    fn from(IoFailure { action, path, cause }: IoFailure) -> Self {
        Self::Io { action, path, cause }
    }
}

/// Why a reference leads to no checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not a reference.
    #[error(
        "find checkpoint {0:?}: a reference is an id, the beginning of one, latest, latest~N, \
         latest:INSTANCE, or a path with a slash"
    )]
    NotAReference(String),
    /// Nothing fits.
    #[error("find checkpoint {reference:?} in {}: {detail}", store.display())]
    NotFound {
        /// What was looked for.
        reference: String,
        /// Where.
        store: PathBuf,
        /// What there is instead.
        detail: String,
    },
    /// Several fit.
    #[error("find checkpoint {reference:?}: several fit: {}; name one of them", candidates.join(", "))]
    Ambiguous {
        /// What was looked for.
        reference: String,
        /// What fits.
        candidates: Vec<String>,
    },
    /// The newest cannot be read.
    #[error(
        "find checkpoint {reference:?}: {id}, which may be the one, cannot be read ({detail}); \
         name another one by its id, or remove {id}"
    )]
    NewestDamaged {
        /// What was looked for.
        reference: String,
        /// The damaged one.
        id: CheckpointId,
        /// What is wrong with it.
        detail: String,
        /// That is only that it is of a newer format.
        is_newer: bool,
    },
}

/// Why a checkpoint could not be opened or verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// It is not there.
    #[error("open checkpoint {id}: {} does not hold it; see: rekindle list", store.display())]
    Missing {
        /// Which one.
        id: CheckpointId,
        /// Where.
        store: PathBuf,
    },
    /// A parent cannot be opened.
    #[error(
        "open checkpoint {id}: its parent {parent}, which holds pages of it, cannot be used \
         ({cause}); bring the parent back, or use another checkpoint"
    )]
    Parent {
        /// Which one.
        id: CheckpointId,
        /// The parent, or a parent's parent.
        parent: CheckpointId,
        /// What is wrong with that.
        cause: Box<Self>,
    },
    /// A parent is there but holds something else.
    #[error(
        "open checkpoint {id}: its parent {parent} does not hold the pages that it was made \
         from; use another checkpoint"
    )]
    ParentDiffers {
        /// Which one.
        id: CheckpointId,
        /// The parent, or a parent's parent.
        parent: CheckpointId,
    },
    /// The hashes do not add up to the content that the manifest tells of.
    #[error(
        "verify checkpoint {0}: its pages are not those that its manifest tells of; the \
         checkpoint is damaged, use another one"
    )]
    Content(CheckpointId),
    /// The loss manifest is not that of what is stored.
    #[error(
        "verify checkpoint {id}: its loss manifest does not tell of what is stored with a loss: \
         {detail}; do not trust its figures"
    )]
    Loss {
        /// Which one.
        id: CheckpointId,
        /// What does not agree.
        detail: String,
    },
    /// The line's key is gone.
    #[error(
        "open checkpoint {id}: the key of its line is not at {}; without it nothing in the \
         checkpoint can be verified: put the key back or choose another checkpoint",
        path.display()
    )]
    KeyMissing {
        /// Which one.
        id: CheckpointId,
        /// Where the key should be.
        path: PathBuf,
    },
    /// A file is not what was written.
    #[error("read {}: {cause}{}", path.display(), format_next_step(cause))]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        cause: FormatError,
    },
    /// A file is not as long as the manifest says.
    #[error(
        "read {}: it has {found} bytes instead of {expected}; the checkpoint is damaged, use \
         another one",
        path.display()
    )]
    Length {
        /// Which file.
        path: PathBuf,
        /// What the manifest says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A frame's bytes are not those that were written.
    #[error("verify {}: {cause}", path.display())]
    Frame {
        /// Which file.
        path: PathBuf,
        /// Which pages, and what is wrong.
        cause: PageSourceError,
    },
    /// Bytes between frames that nobody wrote.
    #[error(
        "verify {}: the padding at byte {offset_bytes} was altered; the pages are intact, but \
         somebody wrote to the checkpoint: use another one",
        path.display()
    )]
    Padding {
        /// Which file.
        path: PathBuf,
        /// Where the padding begins.
        offset_bytes: u64,
    },
}

fn format_next_step(cause: &FormatError) -> &'static str {
    match cause {
        FormatError::NewerVersion { .. }
        | FormatError::UnknownFlags { .. }
        | FormatError::UnknownSection { .. } => "",
        FormatError::Key => "; put the key of this line back, or use another checkpoint",
        _ => "; the checkpoint is damaged, use another one",
    }
}

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The store itself is wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not enough space.
    #[error(
        "reserve {needed_bytes} bytes in {}: {free_bytes} are free; free some space, run rekindle \
         prune, or name another store with --store",
        store.display()
    )]
    Space {
        /// The store.
        store: PathBuf,
        /// What is needed.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// Somebody else writes.
    #[error(
        "lock the line of instance {instance}: {holder} is writing a checkpoint of it; wait for \
         it to end"
    )]
    Locked {
        /// Whose line.
        instance: String,
        /// Who has the lock.
        holder: String,
    },
    /// The instance has no id to keep a line under.
    #[error("lock the line of an instance: it has no id")]
    NoInstance,
    /// The line's key is not one.
    #[error(
        "read line key {}: it has {found} bytes instead of 32; put the key back, or move the \
         line's directory away to begin a new line",
        path.display()
    )]
    Key {
        /// Which file.
        path: PathBuf,
        /// Its length.
        found: usize,
    },
    /// The parent belongs to another instance.
    #[error(
        "begin a checkpoint of instance {instance}: {parent} is one of another instance and \
         cannot be its parent; use --parent none"
    )]
    ForeignParent {
        /// Whose line it is.
        instance: String,
        /// The checkpoint that was named.
        parent: CheckpointId,
    },
    /// The parent, or a checkpoint that is to be made whole, cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A checkpoint that is to be made whole is used.
    #[error("consolidate checkpoint {id}: {holder} uses it; end that first")]
    InUse {
        /// Which one.
        id: CheckpointId,
        /// Who, as far as the kernel tells.
        holder: String,
    },
    /// What was written is not what was read.
    #[error(
        "consolidate checkpoint {0}: the new form does not hold the same; nothing was changed, \
         this is a bug"
    )]
    NotTheSame(CheckpointId),
    /// A file outside of the store, which has pages of the program, was changed meanwhile.
    #[error(
        "finish checkpoint: {} was changed while the checkpoint was made, which was to read pages \
         from it; try again, or keep it out with --twins off",
        path.display()
    )]
    TwinChanged {
        /// Which file.
        path: PathBuf,
    },
    /// No random numbers.
    #[error("draw random numbers: {0}")]
    Random(getrandom::Error),
    /// An earlier `put` failed, so pages are missing.
    #[error("finish checkpoint: an earlier page could not be written: {0}")]
    EarlierPut(String),
    /// More ranges than the loss manifest has room for.
    #[error(
        "allow a loss in {count} ranges: a checkpoint tells of {} at most, with those of its \
         parent; name fewer, or use --parent none",
        image::LOSS_ENTRIES_MAX
    )]
    Losses {
        /// How many were named.
        count: usize,
    },
    /// What was put and what was planned do not fit, or a value cannot be written down.
    #[error("finish checkpoint: {0}")]
    Layout(#[from] LayoutError),
}

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The store itself is wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not there.
    #[error("remove checkpoint {id}: {} does not hold it; see: rekindle list", store.display())]
    Missing {
        /// Which one.
        id: CheckpointId,
        /// Where.
        store: PathBuf,
    },
    /// A checkpoint could not be made independent of its parents.
    #[error(transparent)]
    Consolidate(#[from] WriteError),
    /// Somebody uses it.
    #[error("remove checkpoint {id}: {holder} uses it; end that first")]
    InUse {
        /// Which one.
        id: CheckpointId,
        /// Who, as far as the kernel tells.
        holder: String,
    },
    /// Another checkpoint needs it.
    #[error("remove checkpoint {id}: checkpoint {child} refers to pages in it; remove that first")]
    IsParent {
        /// Which one.
        id: CheckpointId,
        /// Who needs it.
        child: CheckpointId,
    },
}
