//! The verbs that only look at the store: `list` and `verify`. `inspect` is a room of its own.

use serde::Serialize;
use store::{Checkpoint, ReadError, RemoveError, ResolveError, Store, StoreError, WriteError};

use crate::classes::{read_class, remove_class, resolve_class, store_class, write_class};
use crate::failure::{ExitClass, VerbError};
use crate::phase::Stopped;
use crate::registry::Registry;
use crate::report::{BlockerReport, Outcome, Untouched};
use crate::settings::Settings;

/// Why a verb on the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A checkpoint cannot be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// A checkpoint cannot be stored in less space.
    #[error(transparent)]
    Recompress(#[from] WriteError),
    /// Given up on request.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A thread of ours ended in the middle of it.
    #[error("recompress: a thread panicked; nothing was changed, this is a bug")]
    Panicked,
    /// The checkpoint is whole but does not fit this host.
    #[error("resume checkpoint {id} on this host: {} things do not fit", .rows.len())]
    DoesNotFit {
        /// Which checkpoint.
        id: String,
        /// Every reason.
        rows: Vec<BlockerReport>,
    },
}

impl VerbError for ShelfError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Remove(error) => remove_class(error),
            Self::Recompress(error) => write_class(error),
            Self::Stopped(Stopped::TimedOut { .. }) => ExitClass::TimedOut,
            Self::Stopped(_) => ExitClass::RolledBack,
            Self::Panicked => ExitClass::Unexpected,
            Self::DoesNotFit { .. } => ExitClass::Incompatible,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Recompress(_) | Self::Stopped(_) | Self::Panicked => Outcome::RolledBack,
            _ => Outcome::Refused,
        }
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::DoesNotFit { rows, .. } => rows.clone(),
            _ => Vec::new(),
        }
    }
}

/// One line of `list`.
#[derive(Clone, Debug, Serialize)]
pub struct ListRow {
    /// Its id.
    pub id: String,
    /// The instance it shows.
    pub instance: String,
    /// When it was made, nanoseconds since the epoch.
    pub created_ns: u64,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// Bytes it takes in the store.
    pub stored_bytes: u64,
    /// The checkpoint that holds pages of it; null when it holds all itself.
    pub parent: Option<String>,
    /// How many checkpoints stood behind it when it was made.
    pub depth: u16,
    /// Bytes of pages that those hold.
    pub referenced_bytes: u64,
}

/// A checkpoint whose header cannot be read.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedRow {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What `list` shows.
#[derive(Clone, Debug, Serialize)]
pub struct ListReport {
    /// `rekindle.list/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// The checkpoints, newest first.
    pub checkpoints: Vec<ListRow>,
    /// Those whose header cannot be read.
    pub damaged: Vec<DamagedRow>,
}

/// The checkpoints of the store, newest first.
///
/// # Errors
/// When the store cannot be read.
pub fn list(settings: &Settings) -> Result<ListReport, ShelfError> {
    let listing = Store::open(&settings.store)?.listing()?;
    let damaged = listing.damaged.into_iter();
    let damaged = damaged.map(|d| DamagedRow { id: d.id.to_string(), detail: d.detail }).collect();
    let checkpoints = listing
        .checkpoints
        .into_iter()
        .map(|row| ListRow {
            id: row.id.to_string(),
            instance: row.instance.to_string(),
            created_ns: row.created_ns,
            page_bytes: row.page_bytes,
            stored_bytes: row.stored_bytes,
            parent: row.parent.map(|id| id.to_string()),
            depth: row.depth,
            referenced_bytes: row.referenced_bytes,
        })
        .collect();
    Ok(ListReport {
        schema: "rekindle.list/1",
        untouched: Untouched::default(),
        checkpoints,
        damaged,
    })
}

/// What `verify` found: nothing wrong.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// `rekindle.verify/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Which checkpoint.
    pub id: String,
    /// Checkpoints checked: this one and all that stand behind it.
    pub checkpoints: u64,
    /// Frames checked, those of the checkpoints behind it included.
    pub frames: u64,
    /// Bytes of pages checked.
    pub page_bytes: u64,
    /// Bytes read.
    pub stored_bytes: u64,
    /// Whether it was also compared with this host.
    pub fits_this_host: Option<bool>,
}

/// Reads a checkpoint whole and checks every byte of it; with `options` also whether it could be
/// resumed here with them.
///
/// # Errors
/// When a byte is off, or the host does not fit.
pub fn verify(
    settings: &Settings,
    reference: &str,
    options: Option<&::resume::Options>,
    registry: &Registry,
) -> Result<VerifyReport, ShelfError> {
    let checkpoint = open(settings, reference)?;
    let verified = checkpoint.verify()?;
    if let Some(options) = options {
        let list = crate::resume::mismatches(&checkpoint, registry, options).unwrap_or_default();
        if !list.is_empty() {
            let rows = list.iter().map(crate::resume::mismatch_row).collect();
            return Err(ShelfError::DoesNotFit { id: checkpoint.id().to_string(), rows });
        }
    }
    Ok(VerifyReport {
        schema: "rekindle.verify/1",
        untouched: Untouched::default(),
        id: checkpoint.id().to_string(),
        checkpoints: verified.checkpoints,
        frames: verified.frames,
        page_bytes: verified.page_bytes,
        stored_bytes: verified.stored_bytes,
        fits_this_host: options.map(|_| true),
    })
}

fn open(settings: &Settings, reference: &str) -> Result<Checkpoint, ShelfError> {
    Ok(Store::find(&settings.store, reference)?.open()?)
}
