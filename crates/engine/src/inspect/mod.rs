//! `inspect`: what a checkpoint holds, or what a running program is made of. Nothing is stopped and
//! nothing changed: of a program it shows what the look of `check` and `plan` sees.

mod heat;
mod rows;
mod running;
mod stored;

use serde::Serialize;
use store::{ReadError, ResolveError, Store, StoreError};

use crate::checkpoint::CheckpointError;
use crate::classes::{read_class, resolve_class, store_class, target_class};
use crate::failure::{ExitClass, VerbError};
use crate::plan_verb::PlanVerbError;
use crate::registry::Registry;
use crate::report::{BlockerReport, Outcome};
use crate::settings::Settings;
use crate::target_name::{self, TargetError};

pub use heat::{FaultLogRow, HeatReport, HeatTierRow, LineHeatRow};
pub(crate) use rows::words;
pub use rows::{ExtentRow, FdRow, MapRow, ThreadRow};
pub use running::{RunningReport, RunningThreadRow};
pub use stored::{InspectReport, StoredTierRow};

/// A part to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of that name in the report")]
pub enum Part {
    Maps,
    Fds,
    Threads,
    Pages,
    Heat,
}

/// What `inspect` shows.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Inspected {
    /// Of a checkpoint.
    Checkpoint(Box<InspectReport>),
    /// Of a running program.
    Running(Box<RunningReport>),
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
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
    /// The program cannot be looked at.
    #[error(transparent)]
    Look(#[from] CheckpointError),
    /// Its pages cannot be looked at.
    #[error(transparent)]
    Pages(#[from] PlanVerbError),
    /// What is inside may not be seen.
    #[error("look into process {pid}: it is not permitted")]
    NotPermitted {
        /// The process.
        pid: i32,
        /// Why.
        rows: Vec<BlockerReport>,
    },
}

impl VerbError for InspectError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Target(error) => target_class(error),
            Self::Look(error) => error.class(),
            Self::Pages(error) => error.class(),
            Self::NotPermitted { .. } => ExitClass::NotPermitted,
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::NotPermitted { rows, .. } => rows.clone(),
            Self::Look(error) => error.blockers(),
            _ => Vec::new(),
        }
    }
}

/// Shows what `subject` names: a pid or an instance id is a running program, anything else a
/// checkpoint. Digits that are no process may be the beginning of a checkpoint's id.
///
/// # Errors
/// When it names nothing, or that cannot be read.
pub fn inspect(
    settings: &Settings,
    registry: &Registry,
    subject: &str,
    part: Option<Part>,
) -> Result<Inspected, InspectError> {
    if !names_a_program(subject) {
        return of_checkpoint(settings, subject, part);
    }
    match target_name::find(subject, registry) {
        Ok(found) => {
            let report = running::report(settings, registry, &found, part)?;
            Ok(Inspected::Running(Box::new(report)))
        }
        // Whoever meant a process is told about processes.
        Err(error) => of_checkpoint(settings, subject, part).map_err(|_| error.into()),
    }
}

/// As everywhere: 12 hex digits are an instance, fewer decimal ones a pid.
fn names_a_program(subject: &str) -> bool {
    let is_pid = subject.len() < process::InstanceId::DIGITS && subject.parse::<u32>().is_ok();
    is_pid || subject.parse::<process::InstanceId>().is_ok()
}

fn of_checkpoint(
    settings: &Settings,
    reference: &str,
    part: Option<Part>,
) -> Result<Inspected, InspectError> {
    let found = Store::find(&settings.store, reference)?;
    let checkpoint = found.open()?;
    Ok(Inspected::Checkpoint(Box::new(stored::report(&found, &checkpoint, part))))
}
