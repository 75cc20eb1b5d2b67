//! Why there is no plan.

use partition::InventoryError;
use plan::PlanFileError;
use store::{ReadError, ResolveError, StoreError};
use sys::pagemap::PagemapError;
use sys::proc::ProcError;

use crate::CheckpointError;
use crate::classes::{read_class, resolve_class, store_class};
use crate::failure::{ExitClass, VerbError};
use crate::heat_map::HeatMapError;
use crate::report::{BlockerReport, Outcome};
use crate::target_name::TargetError;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanVerbError {
    /// No such policy.
    #[error("plan with `{name}`: the policies are {}", partition::POLICY_NAMES.join(", "))]
    NoSuchPolicy {
        /// What was asked for.
        name: String,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no such process.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The process may not be looked into, or is gone.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// Its page tables cannot be read.
    #[error(transparent)]
    Pagemap(#[from] PagemapError),
    /// Its heat cannot be read, or the plan cannot be written.
    #[error(transparent)]
    Heat(#[from] HeatMapError),
    /// There is nothing in it.
    #[error("plan from {}: it knows no page of any program; profile one while it works", .0.display())]
    Empty(std::path::PathBuf),
    /// The memory cannot be divided.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// What allows a loss was made for other memory.
    #[error(
        "take a loss from plan file {path}: it allows one in memory of instance {of}, and this is \
         {this}, which may have anything at these addresses; make the plan of this one",
        path = path.display()
    )]
    OtherInstance {
        /// The file.
        path: std::path::PathBuf,
        /// The instance that it is about.
        of: String,
        /// The one it was used for.
        this: String,
    },
    /// A loss cannot be allowed where it was named.
    #[error(transparent)]
    Lossy(Box<CheckpointError>),
    /// What was given is no plan.
    #[error("use the plan in {}: {cause}", path.display())]
    BadPlan {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        cause: PlanFileError,
    },
    /// The plan does not fit into a file.
    #[error(transparent)]
    PlanFile(#[from] PlanFileError),
}

impl VerbError for PlanVerbError {
    fn class(&self) -> ExitClass {
        match self {
            Self::NoSuchPolicy { .. } | Self::Target(_) | Self::Empty(_) => ExitClass::Usage,
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Proc(_) | Self::Pagemap(_) => ExitClass::NotPermitted,
            Self::Heat(error) => error.class(),
            Self::Inventory(_) => ExitClass::Damaged,
            Self::BadPlan { cause: PlanFileError::Schema(_), .. } => ExitClass::Incompatible,
            Self::BadPlan { .. } | Self::OtherInstance { .. } => ExitClass::Usage,
            Self::PlanFile(_) => ExitClass::Unexpected,
            Self::Lossy(error) => error.class(),
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::Lossy(error) => error.blockers(),
            _ => Vec::new(),
        }
    }
}
