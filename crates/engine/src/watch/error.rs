//! How `watch` fails.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use profile::ProfileError;
use store::StoreError;

use crate::CheckpointError;
use crate::classes::{store_class, target_class};
use crate::failure::{ExitClass, VerbError};
use crate::registry::RegistryError;
use crate::report::{BlockerReport, Outcome};
use crate::target_name::TargetError;

/// Why a watch did not begin, or came to a bad end. The instance runs in any case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// There is nothing to watch.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Another watch is at work, or locks cannot be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The program cannot be looked at.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Other verbs could not ask for the program.
    #[error("listen in {}: {cause}; other verbs could not have the program", path.display())]
    Listen {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The metrics cannot be served.
    #[error("serve metrics at {address}: {cause}; choose another address with --metrics")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// A loss cannot be allowed where it was named.
    #[error(transparent)]
    Lossy(Box<CheckpointError>),
    /// The last checkpoint, which was asked for, was not taken.
    #[error("take the last checkpoint: {0}")]
    Last(#[from] CheckpointError),
}

impl VerbError for WatchError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Target(error) => target_class(error),
            Self::Registry(_) => ExitClass::Blocked,
            Self::Store(error) => store_class(error),
            Self::Profile(ProfileError::Proc(cause)) if !cause.is_denied() => ExitClass::RolledBack,
            Self::Profile(_) => ExitClass::NotPermitted,
            Self::Listen { .. } | Self::Metrics { .. } => ExitClass::Usage,
            Self::Lossy(error) => error.class(),
            Self::Last(error) => error.class(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Last(error) => error.outcome(),
            _ => Outcome::Refused,
        }
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::Lossy(error) => error.blockers(),
            Self::Last(error) => error.blockers(),
            _ => Vec::new(),
        }
    }
}
