//! Why a profile could not be taken.

use std::io;

use sys::proc::ProcError;

use crate::report::Missing;

/// Why a profile could not be taken. The program is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The program's files under `/proc` cannot be read.
    #[error("profile: {0}")]
    Proc(#[from] ProcError),
    /// Its memory cannot be read.
    #[error("profile process {pid}: {cause}; run as root or with CAP_SYS_PTRACE")]
    Memory {
        /// The process.
        pid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Nothing can be seen at all.
    #[error("profile process {pid}: no collector may be used: {}", list(.missing))]
    Nothing {
        /// The process.
        pid: i32,
        /// Every collector with the reason.
        missing: Vec<Missing>,
    },
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
