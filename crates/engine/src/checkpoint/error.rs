//! How `checkpoint` and `check` fail.

use std::io;
use std::path::PathBuf;

use capture::{CopyError, LookError, PrecopyError, StateError};
use process::{Blocker, StateKind};
use store::{ReadError, ResolveError, StoreError, WriteError};
use target::FreezeError;

use crate::classes::{read_class, resolve_class, store_class, target_class, write_class};
use crate::failure::{ExitClass, VerbError};
use crate::phase::Stopped;
use crate::plan_verb::PlanVerbError;
use crate::registry::RegistryError;
use crate::report::{BlockerReport, Outcome};
use crate::staging::DrainError;
use crate::target_name::TargetError;

/// Why no checkpoint was taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is nothing to work on.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The checkpoint to build on is not to be found.
    #[error("find the parent: {0}")]
    Reference(#[from] ResolveError),
    /// It cannot be read.
    #[error("build on another checkpoint: {0}, or --parent none")]
    Parent(#[from] ReadError),
    /// It is in another store.
    #[error(
        "build on checkpoint {reference}: it is not in {}; use --parent none, or the store that \
         it is in",
        store.display()
    )]
    ParentElsewhere {
        /// What was named.
        reference: String,
        /// Where the new one goes.
        store: PathBuf,
    },
    /// Another verb is at work on the instance.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The instance could not be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// Things stand in the way.
    #[error("checkpoint process {pid} as it is: {} in the way", things(.blockers.len()))]
    Blocked {
        /// The process.
        pid: i32,
        /// All of them.
        blockers: Vec<Blocker>,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its memory could not be divided.
    #[error(transparent)]
    Plan(#[from] PlanVerbError),
    /// The threads could not be stopped.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Pages are missing, and it is not to be learned which.
    #[error(
        "learn which pages of the program are not loaded yet: {0}; try again, and if all \
         processes that served them were killed, resume its checkpoint anew"
    )]
    Missing(#[from] io::Error),
    /// The pages could not be listed.
    #[error("list the pages to copy: {0}")]
    Pages(#[from] mem::PageSourceError),
    /// The pages could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Its memory could not be copied while it ran.
    #[error(transparent)]
    Precopy(#[from] PrecopyError),
    /// It writes so fast that the freeze would be too long.
    #[error(
        "keep the pause within --max-pause {max_ms} ms: the program writes its memory so fast \
         that it would stand still for about {expected_ms} ms; it runs on untouched, try again \
         at a quieter time or allow more"
    )]
    TooBusy {
        /// The longest pause that was allowed.
        max_ms: u128,
        /// The pause that would have been.
        expected_ms: u128,
    },
    /// A loss cannot be allowed where somebody named it.
    #[error("allow a loss where --lossy names it: {} in the way", things(.reasons.len()))]
    Lossy {
        /// Every reason.
        reasons: Vec<BlockerReport>,
    },
    /// The program's symbols cannot be read.
    #[error("look for a data object: {0}")]
    Symbols(profile::ProfileError),
    /// What was named is not there any more.
    #[error(
        "allow a loss in {range}: the program mapped something else there while it was copied; \
         nothing was stored, name it anew"
    )]
    LossyMoved {
        /// Which range.
        range: mem::AddrRange,
    },
    /// A file that somebody named cannot be read.
    #[error("read {}, named by --twin: {cause}", path.display())]
    Twin {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The search for files' bytes could not begin.
    #[error("look for files in memory: {0}")]
    TwinSearch(io::Error),
    /// The staged pages could not be written.
    #[error("write staged pages: {0}")]
    Drain(String),
    /// Files that the instance has open for writing could not be synced.
    #[error("sync the files that the program writes: {0}")]
    SyncFiles(io::Error),
    /// Given up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The checkpoint is published but the instance did not end.
    #[error("end the program: {cause}; its checkpoint {id} is safe")]
    NotEnded {
        /// The checkpoint.
        id: String,
        /// Why.
        cause: String,
    },
}

/// "1 thing stands" or "3 things stand".
fn things(count: usize) -> String {
    match count {
        1 => "1 thing stands".to_owned(),
        n => format!("{n} things stand"),
    }
}

impl From<DrainError> for CheckpointError {
    fn from(error: DrainError) -> Self {
        match error {
            DrainError::Stopped(stopped) => Self::Stopped(stopped),
            other => Self::Drain(other.to_string()),
        }
    }
}

impl VerbError for CheckpointError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Target(error) => target_class(error),
            Self::Reference(error) => resolve_class(error),
            Self::Parent(error) => read_class(error),
            Self::ParentElsewhere { .. } => ExitClass::Usage,
            Self::Registry(_) => ExitClass::Blocked,
            Self::Blocked { blockers: list, .. }
                if list.iter().all(|b| b.kind == StateKind::Permission) =>
            {
                ExitClass::NotPermitted
            }
            Self::Blocked { .. } | Self::State(StateError::Blocked(_)) => ExitClass::Blocked,
            Self::Store(error) => store_class(error),
            Self::Plan(error) => error.class(),
            Self::Twin { .. } | Self::Lossy { .. } => ExitClass::Usage,
            Self::Stopped(Stopped::TimedOut { .. }) => ExitClass::TimedOut,
            Self::Freeze(error) if error.is_transient() => ExitClass::TimedOut,
            Self::NotEnded { .. } => ExitClass::Partial,
            Self::Write(error) => write_class(error),
            Self::Look(_)
            | Self::Symbols(_)
            | Self::LossyMoved { .. }
            | Self::Freeze(_)
            | Self::State(_)
            | Self::Missing(_)
            | Self::Pages(_)
            | Self::Copy(_)
            | Self::Precopy(_)
            | Self::TooBusy { .. }
            | Self::TwinSearch(_)
            | Self::Drain(_)
            | Self::SyncFiles(_)
            | Self::Stopped(_) => ExitClass::RolledBack,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Target(_)
            | Self::Reference(_)
            | Self::Parent(_)
            | Self::ParentElsewhere { .. }
            | Self::Registry(_)
            | Self::Look(_)
            | Self::Blocked { .. }
            | Self::Plan(_)
            | Self::Twin { .. }
            | Self::Lossy { .. }
            | Self::Symbols(_)
            | Self::Store(_) => Outcome::Refused,
            Self::Write(
                WriteError::Locked { .. }
                | WriteError::ForeignParent { .. }
                | WriteError::Losses { .. }
                | WriteError::Store(_),
            ) => Outcome::Refused,
            Self::NotEnded { .. } => Outcome::Running,
            _ => Outcome::RolledBack,
        }
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::Blocked { blockers: list, .. } | Self::State(StateError::Blocked(list)) => {
                list.iter().map(BlockerReport::from).collect()
            }
            Self::Lossy { reasons } => reasons.clone(),
            _ => Vec::new(),
        }
    }
}
