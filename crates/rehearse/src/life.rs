//! The clone's life: it ends when this value is dropped.

use std::time::{Duration, Instant};

use sys::ptrace::{PtraceError, StoppedThread};
use sys::task::{Pid, PidFd};

use crate::RehearseError;

/// How long a process that was killed may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A process of ours that must never run on without us. Keep it in front of its threads in every
/// struct: fields are dropped in order, and a dropped thread would be let go.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) pid: Pid,
    pidfd: PidFd,
}

impl Life {
    /// Of the process whose first thread is `thread`. When this fails the process is killed.
    pub(crate) fn of(thread: &StoppedThread) -> Result<Self, RehearseError> {
        let tid = thread.tid();
        let opened = Pid::new(tid.raw())
            .ok_or_else(|| std::io::Error::from_raw_os_error(libc::ESRCH))
            .and_then(|pid| Ok(Self { pid, pidfd: PidFd::open(pid)? }));
        opened.map_err(|cause| {
            // It is traced by us and not waited for, so that its number is still its own.
            if let Some(pid) = Pid::new(tid.raw()) {
                let _ = sys::task::send_signal_to_thread(pid, tid, libc::SIGKILL);
            }
            RehearseError::Io { what: "hold the clone", cause }
        })
    }

    /// Ends it and waits for the end of its only thread.
    pub(crate) fn end(self, thread: &mut StoppedThread) -> Result<(), RehearseError> {
        self.kill()?;
        Self::wait(std::iter::once(thread))
    }

    /// Has it end.
    pub(crate) fn kill(&self) -> Result<(), RehearseError> {
        self.pidfd.send_signal(libc::SIGKILL).map_err(RehearseError::io("end the clone"))
    }

    /// Waits until threads of a process that was killed have ended. The first one is not over
    /// before the others are, and so has to be the last.
    pub(crate) fn wait<'t>(
        threads: impl Iterator<Item = &'t mut StoppedThread>,
    ) -> Result<(), RehearseError> {
        let deadline = Instant::now() + END_LIMIT;
        for thread in threads {
            loop {
                match thread.wait(deadline) {
                    // A stop that was on its way.
                    Ok(_) => {}
                    Err(PtraceError::Ended { .. } | PtraceError::Gone { .. }) => break,
                    Err(cause) => return Err(cause.into()),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.pidfd.send_signal(libc::SIGKILL);
    }
}
