//! Why there was no rehearsal.

use std::io;

use inject::InjectError;
use sys::proc::ProcError;
use sys::ptrace::PtraceError;
use sys::userfault::UserfaultError;

/// Why an instance could not be rehearsed. It is as it was; what there was of a clone is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RehearseError {
    /// It is of a kind that is not rehearsed.
    #[error("rehearse the program: {0}")]
    Unfit(String),
    /// A call could not be made in it or its clone.
    #[error("rehearse the program: {0}")]
    Inject(#[from] InjectError),
    /// The clone could not be led.
    #[error("rehearse the program: {0}")]
    Ptrace(#[from] PtraceError),
    /// The clone's memory could not be watched.
    #[error("rehearse the program: {0}")]
    Userfault(#[from] UserfaultError),
    /// Something under `/proc`.
    #[error("rehearse the program: {0}")]
    Proc(#[from] ProcError),
    /// Another call failed.
    #[error("rehearse the program: {what}: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl RehearseError {
    pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| Self::Io { what, cause }
    }

    /// A call of the clone that returned this failed; `Ok` when it did not.
    pub(crate) fn check(what: &'static str, returned: i64) -> Result<u64, Self> {
        match u64::try_from(returned) {
            Ok(value) => Ok(value),
            Err(_) => {
                let code = i32::try_from(-returned).unwrap_or(i32::MAX);
                Err(Self::Io { what, cause: io::Error::from_raw_os_error(code) })
            }
        }
    }
}
