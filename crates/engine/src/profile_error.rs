//! How `profile` fails.

use std::path::PathBuf;

use profile::ProfileError;
use store::{StoreError, WriteError};

use crate::classes::{store_class, target_class, write_class};
use crate::failure::{ExitClass, VerbError};
use crate::phase::Stopped;
use crate::registry::RegistryError;
use crate::report::Outcome;
use crate::target_name::TargetError;

/// Why no profile was taken or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileVerbError {
    /// There is nothing to work on.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Another verb is at work on the instance.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The line's heat cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Nothing could be collected.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The copy could not be written.
    #[error("write {path}: {cause}")]
    Output {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Given up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl VerbError for ProfileVerbError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Target(error) => target_class(error),
            Self::Registry(_) => ExitClass::Blocked,
            Self::Store(error) => store_class(error),
            Self::Write(error) => write_class(error),
            Self::Profile(ProfileError::Proc(cause)) if !cause.is_denied() => ExitClass::RolledBack,
            Self::Profile(_) => ExitClass::NotPermitted,
            Self::Output { .. } => ExitClass::RolledBack,
            Self::Stopped(Stopped::TimedOut { .. }) => ExitClass::TimedOut,
            Self::Stopped(_) => ExitClass::RolledBack,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Target(_) | Self::Registry(_) => Outcome::Refused,
            _ => Outcome::RolledBack,
        }
    }
}
