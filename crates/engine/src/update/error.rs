//! How `update` fails.

use std::io;

use ::resume::HandOverError;
use process::Blocker;

use crate::CheckpointError;
use crate::ResumeVerbError;
use crate::failure::{ExitClass, VerbError};
use crate::phase::Stopped;
use crate::registry::RegistryError;
use crate::report::{BlockerReport, Outcome};
use crate::target_name::TargetError;

/// Why a program was not updated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// There is nothing to work on.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Another verb is at work on the instance.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its state could not be taken.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The new process could not be built, or does not answer.
    #[error(transparent)]
    Build(#[from] ResumeVerbError),
    /// Both processes are to be in memory at the same time.
    #[error(
        "keep two processes in memory: {needed_mb} MB are needed and {there_mb} MB are there \
         ({of}); free some, or resume from a checkpoint instead"
    )]
    Headroom {
        /// What is needed.
        needed_mb: u64,
        /// What there is.
        there_mb: u64,
        /// Where.
        of: String,
    },
    /// It cannot be given what was asked for. Nothing was touched.
    #[error("{what}: {cause}")]
    Surroundings {
        /// What was tried, on a child of ours.
        what: String,
        /// Why not.
        cause: io::Error,
    },
    /// Something came up when the program stood still already.
    #[error("update the program: {object}: {lift}", object = .0.object, lift = .0.lift)]
    Late(Blocker),
    /// Both processes should be the same and are not.
    #[error("build the same process: page {page:#x} differs; please report it")]
    Differs {
        /// Address of the page.
        page: u64,
    },
    /// The shared memory of the program, or a page of one of the processes, cannot be read.
    #[error("{step}: {cause}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The program could not be handed over.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
    /// The program ended while it stood still.
    #[error(
        "update process {pid}: somebody killed it while it stood still; its checkpoint {id} has \
         all of it: `rekindle resume {id}`"
    )]
    Killed {
        /// The process.
        pid: i32,
        /// The checkpoint.
        id: String,
    },
    /// Given up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It went on in the new process, but does not answer.
    #[error(
        "see the program answer: `{probe}` kept failing for {after_ms} ms ({last}); {told}{kept}",
        told = .rewound.told(*.pid),
        kept = kept(.id.as_deref())
    )]
    Probe {
        /// The command.
        probe: String,
        /// How long it was tried.
        after_ms: u128,
        /// How it failed last.
        last: String,
        /// What it ran as in the new process.
        pid: i32,
        /// The checkpoint; none when nothing went to a store.
        id: Option<String>,
        /// Whether it was taken back.
        rewound: Rewound,
    },
    /// It did not answer, has ended, by itself or to be taken back, and could not be resumed.
    #[error(
        "take the program back to the moment of the update: {why}; its checkpoint has all of it: \
         `rekindle resume {id}`"
    )]
    NotRewound {
        /// Why not.
        why: String,
        /// The checkpoint.
        id: String,
    },
}

/// What has become of a program that does not answer after an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewound {
    /// It runs in the new process.
    NotAsked,
    /// It has ended in the new process.
    Ended,
    /// It runs from the checkpoint again, as this pid.
    Done(i32),
    /// It runs in the new process, because something has moved since.
    Impossible(String),
}

fn kept(id: Option<&str>) -> String {
    let told = |id| format!(", and its checkpoint {id} of a moment before is kept");
    id.map_or_else(String::new, told)
}

impl UpdateError {
    /// A probe that failed, with what has become of the program since; any other error as it is.
    pub(super) fn rewound(mut self, now: Rewound) -> Self {
        if let Self::Probe { rewound, .. } = &mut self {
            *rewound = now;
        }
        self
    }
}

impl Rewound {
    fn told(&self, pid: i32) -> String {
        let runs = format!("runs as pid {pid} now");
        match self {
            Self::NotAsked => format!("it {runs}"),
            Self::Ended => format!("it went on as pid {pid} and has ended since"),
            Self::Done(pid) => format!(
                "it was taken back to the moment of the update, without its connections, and runs \
                 as pid {pid} now"
            ),
            Self::Impossible(why) => {
                format!("it cannot be taken back to the moment of the update ({why}), and {runs}")
            }
        }
    }
}

impl VerbError for UpdateError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Target(error) => crate::classes::target_class(error),
            Self::Registry(_) | Self::Late(_) => ExitClass::Blocked,
            Self::Checkpoint(error) => error.class(),
            Self::Build(error) => error.class(),
            Self::Surroundings { cause, .. } => match cause.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
                    ExitClass::NotPermitted
                }
                _ => ExitClass::Incompatible,
            },
            Self::Headroom { .. } => ExitClass::Incompatible,
            Self::Killed { .. }
            | Self::NotRewound { .. }
            | Self::Probe { rewound: Rewound::Ended, .. }
            | Self::HandOver(HandOverError::Lost { .. }) => ExitClass::Lost,
            Self::Stopped(Stopped::TimedOut { .. }) => ExitClass::TimedOut,
            Self::Differs { .. } | Self::Io { .. } | Self::HandOver(_) | Self::Stopped(_) => {
                ExitClass::RolledBack
            }
            Self::Probe { .. } => ExitClass::Partial,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Target(_)
            | Self::Registry(_)
            | Self::Surroundings { .. }
            | Self::Headroom { .. } => Outcome::Refused,
            Self::Checkpoint(error) => match error.outcome() {
                Outcome::Running => Outcome::RolledBack,
                other => other,
            },
            Self::Killed { .. }
            | Self::NotRewound { .. }
            | Self::Probe { rewound: Rewound::Ended, .. }
            | Self::HandOver(HandOverError::Lost { .. }) => Outcome::Lost,
            Self::Probe { rewound: Rewound::Done(_), .. } => Outcome::Resumed,
            Self::Probe { .. } => Outcome::Updated,
            _ => Outcome::RolledBack,
        }
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::Checkpoint(error) => error.blockers(),
            Self::Late(blocker) => vec![BlockerReport::from(blocker)],
            _ => Vec::new(),
        }
    }
}
