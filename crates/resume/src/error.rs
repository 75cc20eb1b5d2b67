//! What does not fit, and what went wrong.

use std::fmt;
use std::io;

use mem::PageSourceError;

use crate::Phase;

/// What kind of thing about this host does not fit an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MismatchKind {
    /// The kernel lacks something.
    Kernel,
    /// The CPU lacks something the instance uses.
    Cpu,
    /// The vdso has other bytes.
    Vdso,
    /// A file is gone or changed.
    File,
    /// Another boot, or clocks that would run backwards.
    Clock,
    /// The original, or another run of this state, is alive.
    AlreadyRunning,
    /// The pid is taken and may not be given up.
    Pid,
    /// An address a socket needs is taken.
    Address,
    /// A descriptor whose other end is outside has no stand-in.
    External,
    /// The cgroup is gone.
    Cgroup,
    /// A namespace is gone.
    Namespace,
    /// We lack a privilege.
    Permission,
    /// There is not enough memory.
    Memory,
    /// The instance holds something this version cannot rebuild.
    State,
}

impl MismatchKind {
    /// The stable name used in JSON and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Cpu => "cpu",
            Self::Vdso => "vdso",
            Self::File => "file",
            Self::Clock => "clock",
            Self::AlreadyRunning => "already-running",
            Self::Pid => "pid",
            Self::Address => "address",
            Self::External => "external",
            Self::Cgroup => "cgroup",
            Self::Namespace => "namespace",
            Self::Permission => "permission",
            Self::Memory => "memory",
            Self::State => "state",
        }
    }
}

/// One reason why an instance cannot be resumed on this host as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What kind of thing.
    pub kind: MismatchKind,
    /// The object: a path, a descriptor, a flag.
    pub object: String,
    /// What the instance needs and what is here.
    pub cause: String,
    /// What would lift it: a flag, a command.
    pub lift: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.cause)?;
        if self.lift.is_empty() { Ok(()) } else { write!(f, "; {}", self.lift) }
    }
}

/// Why a resume was given up. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The host does not fit; nothing was started.
    #[error("resume here: {} things do not fit, first {}", .0.len(), first(.0))]
    Mismatches(Vec<Mismatch>),
    /// A pid or thread id was taken between the check and the making.
    #[error("make process or thread {pid}: the id is taken; choose a pid namespace of its own")]
    PidTaken {
        /// The id.
        pid: i32,
    },
    /// A step failed.
    #[error("{step} ({} phase): {cause}", .phase.name())]
    Step {
        /// In which phase.
        phase: Phase,
        /// The step and its object, as "open /var/log/x for descriptor 3".
        step: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Pages could not be had.
    #[error("load memory: {0}")]
    Pages(#[from] PageSourceError),
    /// The built process differs from the instance.
    #[error("build an equal process: {}", .0.join("; "))]
    Differs(Vec<String>),
    /// The observer asked to give up.
    #[error("go on: {0}")]
    Cancelled(String),
}

fn first(mismatches: &[Mismatch]) -> String {
    mismatches.first().map(Mismatch::to_string).unwrap_or_default()
}
