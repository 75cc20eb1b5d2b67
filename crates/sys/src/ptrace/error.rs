//! How tracing fails.

use std::io;
use std::time::Duration;

use crate::ptrace::Stop;
use crate::task::Tid;

/// Why a thread could not be traced, waited for, read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PtraceError {
    /// The thread does not exist (any more), or is not stopped where it has to be.
    #[error("{action} thread {tid}: it has ended, or runs where it has to be stopped")]
    Gone {
        /// What was being done.
        action: &'static str,
        /// The thread.
        tid: Tid,
    },
    /// The kernel does not let us trace it.
    #[error(
        "{action} thread {tid}: not permitted; it is traced by another process, or belongs to \
         somebody else (run as its owner or with CAP_SYS_PTRACE; see kernel.yama.ptrace_scope)"
    )]
    Denied {
        /// What was being done.
        action: &'static str,
        /// The thread.
        tid: Tid,
    },
    /// No stop was reported in time. The thread may be in uninterruptible sleep.
    #[error("stop thread {tid} within {waited:?}: it may be in uninterruptible sleep; try again")]
    Timeout {
        /// The thread.
        tid: Tid,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The thread ended while it was waited for.
    #[error("wait for thread {tid}: it ended ({how:?})")]
    Ended {
        /// The thread.
        tid: Tid,
        /// Its end: [`Stop::Exited`] or [`Stop::Killed`].
        how: Stop,
    },
    /// Any other failure of a request.
    #[error("{action} thread {tid}: {source}")]
    Call {
        /// What was being done.
        action: &'static str,
        /// The thread.
        tid: Tid,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl PtraceError {
    /// Whether the thread has none of the registers that were asked for, or the kernel knows none.
    pub(super) fn is_without_registers(&self) -> bool {
        let Self::Call { source, .. } = self else { return false };
        matches!(source.raw_os_error(), Some(libc::ENXIO | libc::ENODEV | libc::EINVAL))
    }

    pub(super) fn last(action: &'static str, tid: Tid) -> Self {
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::ESRCH) => Self::Gone { action, tid },
            Some(libc::EPERM) => Self::Denied { action, tid },
            _ => Self::Call { action, tid, source },
        }
    }
}
