//! Stopping every thread of a process.

use std::io;
use std::time::{Duration, Instant};

use sys::priority::Urgent;
use sys::proc::ProcError;
use sys::ptrace::{Options, PtraceError, Stop, StoppedThread, Traced};
use sys::task::Tid;

use crate::Process;

/// How a process is frozen.
#[derive(Clone, Copy, Debug)]
pub struct FreezeOptions {
    /// When to give up. A thread in uninterruptible sleep does not stop before it wakes.
    pub deadline: Instant,
    /// Let injected system calls pass the process's seccomp filters while it is frozen. Needs
    /// `CAP_SYS_ADMIN`; a process without filters does not need it.
    pub suspend_seccomp: bool,
}

/// Why a process could not be frozen. It runs on as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// It ended while it was being stopped.
    #[error("freeze process {pid}: it has ended")]
    Ended {
        /// The process.
        pid: i32,
    },
    /// It starts threads faster than they can be stopped.
    #[error("freeze process {pid}: it kept starting threads for {waited:?}; try again")]
    KeepsStartingThreads {
        /// The process.
        pid: i32,
        /// How long it was tried.
        waited: Duration,
    },
    /// A thread could not be stopped.
    #[error("freeze process {pid}: {cause}")]
    Thread {
        /// The process.
        pid: i32,
        /// Which thread and why.
        cause: PtraceError,
    },
    /// Its threads could not be listed.
    #[error("freeze process {pid}: {cause}")]
    Proc {
        /// The process.
        pid: i32,
        /// What failed.
        cause: ProcError,
    },
}

impl FreezeError {
    /// Whether trying again later can help: a thread in uninterruptible sleep, or one that
    /// starts threads all the time.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::KeepsStartingThreads { .. }
                | Self::Thread { cause: PtraceError::Timeout { .. }, .. }
        )
    }
}

/// A process whose threads are all stopped, for as long as this value lives.
///
/// Dropping it lets every thread run on; a process that was stopped by a signal before stays
/// stopped by it. When our process dies the kernel does the same. ptrace binds it to the OS
/// thread that made it; its memory may be read from any thread through [`crate::Memory`].
#[derive(Debug)]
pub struct Frozen<'p> {
    process: &'p Process,
    /// The first thread first, the others by number.
    threads: Vec<StoppedThread>,
    since: Instant,
    /// The program waits for the thread that froze it.
    urgent: Option<Urgent>,
}

impl Process {
    /// Stops every thread. The call returns when all of them are stopped; on any error none is.
    ///
    /// A thread in uninterruptible sleep that outlasts the deadline by more than a second stays
    /// traced by the calling OS thread, and stops when it wakes, until that OS thread ends or
    /// freezes the process again: end one or the other soon.
    ///
    /// # Errors
    /// When a thread does not stop in time or may not be traced, or the process ends.
    pub fn freeze(&self, options: FreezeOptions) -> Result<Frozen<'_>, FreezeError> {
        let urgent = Urgent::begin();
        let since = Instant::now();
        let mut threads = Vec::new();
        // A thread that is not stopped yet may start another, so the list is read until it
        // holds nothing new. Once all known ones are stopped it cannot grow.
        loop {
            let arrived = self.seize_new(&threads, options)?;
            if arrived.is_empty() {
                break;
            }
            if Instant::now() >= options.deadline {
                let waited = since.elapsed();
                return Err(FreezeError::KeepsStartingThreads { pid: self.pid().raw(), waited });
            }
            for traced in arrived {
                threads.extend(self.stop(traced, options.deadline)?);
            }
        }
        threads.sort_unstable_by_key(|thread| thread.tid());
        let leader = threads.iter().position(|t| t.tid() == self.pid().main_thread());
        let Some(leader) = leader else {
            return Err(FreezeError::Ended { pid: self.pid().raw() });
        };
        threads[..=leader].rotate_right(1);
        tracing::debug!(pid = self.pid().raw(), threads = threads.len(), "frozen");
        Ok(Frozen { process: self, threads, since, urgent: Some(urgent) })
    }

    /// Seizes and interrupts the threads that are not in `known`.
    fn seize_new(
        &self,
        known: &[StoppedThread],
        options: FreezeOptions,
    ) -> Result<Vec<Traced>, FreezeError> {
        let pid = self.pid().raw();
        let ended = |cause: ProcError| match cause {
            ProcError::Gone { .. } => FreezeError::Ended { pid },
            cause => FreezeError::Proc { pid, cause },
        };
        let ptrace_options =
            Options { suspend_seccomp: options.suspend_seccomp, ..Options::default() };
        let mut arrived = Vec::new();
        for tid in self.dir().tids().map_err(ended)? {
            let Some(tid) = Tid::new(tid) else { continue };
            if known.iter().any(|thread| thread.tid() == tid) {
                continue;
            }
            let traced = match Traced::seize(tid, ptrace_options) {
                Ok(traced) => traced,
                // It ended between the listing and now, or is just ending: the next listing
                // will not have it.
                Err(PtraceError::Gone { .. }) => continue,
                Err(PtraceError::Denied { .. }) if self.is_ending(tid) => continue,
                // One that did not stop in time when this OS thread tried before.
                Err(PtraceError::Denied { .. }) if self.is_ours(tid) => {
                    Traced::adopt(tid, ptrace_options)
                }
                Err(cause) => return Err(FreezeError::Thread { pid, cause }),
            };
            match traced.interrupt() {
                Ok(()) => arrived.push(traced),
                Err(PtraceError::Gone { .. }) => {}
                Err(cause) => return Err(FreezeError::Thread { pid, cause }),
            }
        }
        Ok(arrived)
    }

    /// Whether thread `tid` has ended or is about to: such a thread cannot be seized.
    fn is_ending(&self, tid: Tid) -> bool {
        use sys::proc::{RunState, parse_stat};
        let stat = self
            .dir()
            .open_task(tid.raw())
            .and_then(|dir| dir.parse("stat", &mut Vec::new(), parse_stat));
        match stat {
            Ok(stat) => {
                stat.is_exiting() || matches!(stat.state, RunState::Zombie | RunState::Dead)
            }
            Err(cause) => cause.is_gone(),
        }
    }

    /// Whether the calling OS thread traces thread `tid`.
    fn is_ours(&self, tid: Tid) -> bool {
        let status = self
            .dir()
            .open_task(tid.raw())
            .and_then(|dir| dir.parse("status", &mut Vec::new(), sys::proc::parse_status));
        status.is_ok_and(|status| status.tracer_pid == Tid::current().raw())
    }

    fn stop(
        &self,
        traced: Traced,
        deadline: Instant,
    ) -> Result<Option<StoppedThread>, FreezeError> {
        let pid = self.pid().raw();
        match traced.into_stopped(deadline) {
            Ok(thread) => Ok(Some(thread)),
            Err(PtraceError::Gone { .. } | PtraceError::Ended { .. }) => Ok(None),
            Err(cause) => Err(FreezeError::Thread { pid, cause }),
        }
    }
}

impl<'p> Frozen<'p> {
    /// The process.
    pub fn process(&self) -> &'p Process {
        self.process
    }

    /// The stopped threads, the process's first thread first.
    pub fn threads(&self) -> &[StoppedThread] {
        &self.threads
    }

    /// The stopped threads, to have system calls made in them by `inject`.
    pub fn threads_mut(&mut self) -> &mut [StoppedThread] {
        &mut self.threads
    }

    /// The process's first thread.
    pub fn leader_mut(&mut self) -> &mut StoppedThread {
        // `freeze` never builds a value without threads.
        &mut self.threads[0]
    }

    /// Whether the process was stopped by a job-control signal before the freeze.
    pub fn was_stopped(&self) -> bool {
        self.threads.iter().any(|thread| matches!(thread.stop(), Stop::Group(_)))
    }

    /// Gives the calling thread, which froze it, its own priority back: a process that it makes
    /// would have that of somebody who is waited for.
    pub fn make_calm(&mut self) {
        self.urgent = None;
    }

    /// When the first thread was asked to stop.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Ends the process for good (`SIGKILL`) and waits until it has ended, at most to
    /// `deadline`. It never runs again.
    ///
    /// # Errors
    /// When the signal cannot be sent or the process does not end in time.
    pub fn end(mut self, deadline: Instant) -> io::Result<()> {
        self.process.pidfd().send_signal(libc::SIGKILL)?;
        // We are told of every end first, and the parent only when we have listened: of the
        // first thread last, because it is not over before the others are.
        for thread in self.threads.iter_mut().rev() {
            loop {
                match thread.wait(deadline) {
                    // A stop that was on its way when the signal came.
                    Ok(_) => {}
                    Err(PtraceError::Ended { .. } | PtraceError::Gone { .. }) => break,
                    Err(PtraceError::Timeout { .. }) => {
                        let why = "it was killed and has not ended yet; a thread may be in \
                                   uninterruptible sleep";
                        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                    }
                    Err(cause) => return Err(io::Error::other(cause)),
                }
            }
        }
        Ok(())
    }

    /// Lets every thread run on and says how long the freeze lasted. The same happens on drop.
    pub fn thaw(self) -> Duration {
        let since = self.since;
        drop(self);
        since.elapsed()
    }
}
