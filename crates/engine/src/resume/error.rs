//! Why a resume did not happen.

use std::io;

use ::resume::{Mismatch, MismatchKind, ResumeError};
use store::{ReadError, ResolveError, StoreError};

use super::checks::mismatch_row;
use crate::classes::{read_class, resolve_class, store_class};
use crate::failure::{ExitClass, VerbError};
use crate::phase::Stopped;
use crate::registry::RegistryError;
use crate::report::{BlockerReport, Outcome};

/// Why a resume did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeVerbError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Somebody else is at work on the instance.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The host does not fit, or the process could not be built.
    #[error(transparent)]
    Build(#[from] ResumeError),
    /// A copy was to be loaded after its start.
    #[error(
        "resume a copy with {load} loading: the agent that loads belongs to the instance, which is \
         the original's; load it before it runs (--eager)"
    )]
    LateCopy {
        /// How it was to be loaded.
        load: &'static str,
    },
    /// No agent could be started.
    #[error("start the agent that serves the program's memory: {0}; --eager needs none")]
    Agent(io::Error),
    /// Given up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The program runs but does not answer.
    #[error(
        "see the program answer: `{probe}` kept failing for {after_ms} ms ({last}); it runs as \
         pid {pid}"
    )]
    Probe {
        /// The command.
        probe: String,
        /// How long it was tried.
        after_ms: u128,
        /// How it failed last.
        last: String,
        /// The running program.
        pid: i32,
    },
}

impl VerbError for ResumeVerbError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Registry(_) => ExitClass::Blocked,
            Self::LateCopy { .. } => ExitClass::Usage,
            Self::Build(ResumeError::Mismatches(list)) => mismatch_class(list),
            Self::Build(ResumeError::Pages(_) | ResumeError::Differs(_)) => ExitClass::Damaged,
            Self::Build(ResumeError::Cancelled(_)) | Self::Stopped(Stopped::TimedOut { .. }) => {
                ExitClass::TimedOut
            }
            Self::Build(_) | Self::Stopped(_) | Self::Agent(_) => ExitClass::RolledBack,
            Self::Probe { .. } => ExitClass::Partial,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Build(ResumeError::Mismatches(_))
            | Self::Store(_)
            | Self::Resolve(_)
            | Self::Read(_)
            | Self::LateCopy { .. }
            | Self::Registry(_) => Outcome::Refused,
            Self::Build(_) | Self::Stopped(_) | Self::Agent(_) => Outcome::RolledBack,
            Self::Probe { .. } => Outcome::Resumed,
        }
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::Build(ResumeError::Mismatches(list)) => list.iter().map(mismatch_row).collect(),
            _ => Vec::new(),
        }
    }
}

fn mismatch_class(list: &[Mismatch]) -> ExitClass {
    let all = |kind| list.iter().all(|m| m.kind == kind);
    if list.iter().any(|m| m.kind == MismatchKind::AlreadyRunning) {
        ExitClass::Blocked
    } else if all(MismatchKind::Permission) {
        ExitClass::NotPermitted
    } else {
        ExitClass::Incompatible
    }
}
