//! What a wait reports.

/// A change of a tracee's state as reported by `waitpid(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// About to receive this signal (signal-delivery-stop): the tracer decides whether it does.
    Signal(i32),
    /// Stopped because the tracer asked ([`interrupt`](crate::ptrace::Traced::interrupt)), at the
    /// start of a new traced child, or when a group stop ended (`PTRACE_EVENT_STOP`, `SIGTRAP`).
    Interrupt,
    /// The whole process is stopped by this signal (group-stop; `PTRACE_EVENT_STOP`).
    Group(i32),
    /// Entry into or return from a system call (with [`Resume::Syscall`](crate::ptrace::Resume)).
    Syscall,
    /// An event asked for by an option.
    Event(Event),
    /// The thread ended with this exit code (0-255).
    Exited(i32),
    /// The process was ended by this signal.
    Killed(i32),
}

/// Events of `PTRACE_SETOPTIONS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A child came from `fork` (or a clone that signals with `SIGCHLD`).
    Fork,
    /// A child came from `vfork`.
    Vfork,
    /// A child or thread came from another `clone`.
    Clone,
    /// Another program was executed.
    Exec,
    /// The child of a `vfork` released its parent.
    VforkDone,
    /// The thread is about to end.
    Exit,
    /// An event this version does not know, by number.
    Other(i32),
}

impl Stop {
    /// Whether the thread is over and there is nothing left to trace.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Exited(_) | Self::Killed(_))
    }

    pub(super) fn from_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            return Self::Exited(libc::WEXITSTATUS(status));
        }
        if libc::WIFSIGNALED(status) {
            return Self::Killed(libc::WTERMSIG(status));
        }
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => Self::Syscall,
            0 => Self::Signal(signal),
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Self::Interrupt,
            libc::PTRACE_EVENT_STOP => Self::Group(signal),
            libc::PTRACE_EVENT_FORK => Self::Event(Event::Fork),
            libc::PTRACE_EVENT_VFORK => Self::Event(Event::Vfork),
            libc::PTRACE_EVENT_CLONE => Self::Event(Event::Clone),
            libc::PTRACE_EVENT_EXEC => Self::Event(Event::Exec),
            libc::PTRACE_EVENT_VFORK_DONE => Self::Event(Event::VforkDone),
            libc::PTRACE_EVENT_EXIT => Self::Event(Event::Exit),
            other => Self::Event(Event::Other(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Stop};

    #[test]
    fn statuses_are_told_apart() {
        let stopped = |event: i32, signal: i32| (event << 16) | (signal << 8) | 0x7f;
        let cases = [
            (0x0300, Stop::Exited(3)),
            (9, Stop::Killed(9)),
            (stopped(0, libc::SIGTRAP | 0x80), Stop::Syscall),
            (stopped(0, libc::SIGUSR1), Stop::Signal(libc::SIGUSR1)),
            (stopped(128, libc::SIGTRAP), Stop::Interrupt),
            (stopped(128, libc::SIGSTOP), Stop::Group(libc::SIGSTOP)),
            (stopped(3, libc::SIGTRAP), Stop::Event(Event::Clone)),
            (stopped(99, libc::SIGTRAP), Stop::Event(Event::Other(99))),
        ];
        for (status, expected) in cases {
            assert_eq!(Stop::from_status(status), expected, "status {status:#x}");
        }
    }
}
