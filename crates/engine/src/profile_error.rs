//! How `profile` fails.

use profile::ProfileError;
use store::StoreError;

use crate::classes::{store_class, target_class};
use crate::failure::{ExitClass, VerbError};
use crate::heat_map::HeatMapError;
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
    /// Nothing could be collected.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// What was seen could not be kept.
    #[error(transparent)]
    Keep(#[from] HeatMapError),
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
            Self::Profile(ProfileError::Proc(cause)) if !cause.is_denied() => ExitClass::RolledBack,
            Self::Profile(_) => ExitClass::NotPermitted,
            Self::Keep(error) => error.class(),
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
