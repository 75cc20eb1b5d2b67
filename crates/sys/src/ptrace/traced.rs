//! A seized thread.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::restart::spared;
use super::{PtraceError, REGS_WORDS, Regs, Stop, StoppedThread, raw};
use crate::task::Tid;

const NT_PRSTATUS: i32 = 1;
/// How long a dropped tracee is waited for before it is left to the end of our thread.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// Polls that only yield the processor. More of them would put us behind everybody else on a busy
/// machine; a thread that wakes from a nap is preferred.
const YIELDS_MAX: u32 = 8;
/// Naps of each length before the length doubles.
const NAPS_EACH: u32 = 8;
const NAP_MIN: Duration = Duration::from_micros(5);
const NAP_MAX: Duration = Duration::from_millis(2);

/// What to be told of a tracee (`PTRACE_SETOPTIONS`); none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Seize threads it creates, and report them as [`Event::Clone`](super::Event::Clone).
    pub trace_clone: bool,
    /// Seize children it forks, and report them.
    pub trace_fork: bool,
    /// Report its end while its memory still exists.
    pub trace_exit: bool,
    /// Report a change of program.
    pub trace_exec: bool,
    /// Let its system calls pass its seccomp filters as long as we trace it. Needs
    /// `CAP_SYS_ADMIN`, and that we ourselves have no filter.
    pub suspend_seccomp: bool,
    /// Kill it when we end, however we end. Only for processes of our own making.
    pub exit_kill: bool,
}

impl Options {
    pub(super) fn bits(self) -> u64 {
        const SUSPEND_SECCOMP: i32 = 1 << 21;
        let choices = [
            (true, libc::PTRACE_O_TRACESYSGOOD),
            (self.trace_clone, libc::PTRACE_O_TRACECLONE),
            (self.trace_fork, libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK),
            (self.trace_exit, libc::PTRACE_O_TRACEEXIT),
            (self.trace_exec, libc::PTRACE_O_TRACEEXEC),
            (self.suspend_seccomp, SUSPEND_SECCOMP),
            (self.exit_kill, libc::PTRACE_O_EXITKILL),
        ];
        let bits = choices.iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, bit)| all | bit);
        u64::from(bits.unsigned_abs())
    }
}

/// How a stopped thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Run, receiving this signal (0: none).
    Continue(i32),
    /// Run to the next entry into or return from a system call, receiving this signal (0: none).
    Syscall(i32),
    /// Run to the next system call, which is **not made**: the stop stands behind it, and what it
    /// is to have returned is for the tracer to set (`PTRACE_SYSEMU`). Receives this signal (0:
    /// none).
    Emulate(i32),
    /// Stay in the group stop, and report when it ends (`PTRACE_LISTEN`).
    Listen,
}

/// A thread seized by the calling OS thread, running or on its way to a stop.
///
/// Dropping it lets the thread go: it is detached, which needs a stop, so the drop may interrupt
/// it and wait up to a second. A thread in uninterruptible sleep for longer stays traced until
/// the calling OS thread ends; it is running all the same.
#[derive(Debug)]
pub struct Traced {
    tid: Tid,
    /// False once there is nothing to detach from.
    attached: bool,
    /// Whether it is in a stop that was reported to us.
    is_stopped: bool,
    options: Options,
    /// A signal the thread is stopped on the way to receive; it gets it when let go. 0: none.
    held_signal: i32,
    /// ptrace obeys only the OS thread that seized: `*const ()` keeps this from being sent.
    _bound_to_thread: PhantomData<*const ()>,
}

impl Traced {
    /// Seizes thread `tid` without stopping it (`PTRACE_SEIZE`).
    pub fn seize(tid: Tid, options: Options) -> Result<Self, PtraceError> {
        raw::request("seize", libc::PTRACE_SEIZE, tid, 0, options.bits())?;
        Ok(Self::adopt(tid, options))
    }

    /// Takes over a thread that was seized for us: a child of a tracee under
    /// [`Options::trace_clone`] or [`Options::trace_fork`], whose number is the event's message.
    /// It has the `options` of its creator.
    pub const fn adopt(tid: Tid, options: Options) -> Self {
        Self {
            tid,
            attached: true,
            is_stopped: false,
            options,
            held_signal: 0,
            _bound_to_thread: PhantomData,
        }
    }

    /// The thread.
    pub const fn tid(&self) -> Tid {
        self.tid
    }

    /// The options in force.
    pub const fn options(&self) -> Options {
        self.options
    }

    pub(super) const fn discard_signal(&mut self) {
        self.held_signal = 0;
    }

    pub(super) fn set_options(&mut self, options: Options) -> Result<(), PtraceError> {
        raw::request("set options of", libc::PTRACE_SETOPTIONS, self.tid, 0, options.bits())?;
        self.options = options;
        Ok(())
    }

    /// Asks it to stop (`PTRACE_INTERRUPT`); the stop is reported by a wait.
    pub fn interrupt(&self) -> Result<(), PtraceError> {
        raw::request("interrupt", libc::PTRACE_INTERRUPT, self.tid, 0, 0).map(drop)
    }

    /// Waits for any change of state, at most to `deadline`. An end is `Ok` too, and the thread
    /// is then no longer traced.
    pub fn wait(&mut self, deadline: Instant) -> Result<Stop, PtraceError> {
        let started = Instant::now();
        let mut tries = 0_u32;
        let mut exact_naps = None;
        loop {
            if let Some(stop) = self.try_wait()? {
                return Ok(stop);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(PtraceError::Timeout { tid: self.tid, waited: now - started });
            }
            if tries < YIELDS_MAX {
                std::thread::yield_now();
            } else {
                exact_naps.get_or_insert_with(ExactNaps::begin);
                let doublings = ((tries - YIELDS_MAX) / NAPS_EACH).min(16);
                let nap = NAP_MIN.saturating_mul(1 << doublings).min(NAP_MAX);
                std::thread::sleep(nap.min(deadline - now));
            }
            tries = tries.saturating_add(1);
        }
    }

    /// A change of state that has already happened, if any.
    pub fn try_wait(&mut self) -> Result<Option<Stop>, PtraceError> {
        let mut status = 0;
        // SAFETY: `status` is a live int; the flags make the call return at once.
        let got =
            unsafe { libc::waitpid(self.tid.raw(), &raw mut status, libc::__WALL | libc::WNOHANG) };
        if got < 0 {
            let error = PtraceError::last("wait for", self.tid);
            let interrupted = matches!(&error, PtraceError::Call { source, .. }
                if source.kind() == std::io::ErrorKind::Interrupted);
            if interrupted {
                return Ok(None);
            }
            self.attached = false;
            return Err(error);
        }
        if got == 0 {
            return Ok(None);
        }
        let stop = Stop::from_status(status);
        if stop.is_end() {
            self.attached = false;
        }
        self.is_stopped = self.attached;
        self.held_signal = if let Stop::Signal(signal) = stop { signal } else { 0 };
        Ok(Some(stop))
    }

    /// Waits, at most to `deadline`, until the thread is stopped by [`interrupt`](Self::interrupt)
    /// or by a group stop. Signals it is about to receive on the way are handed to it, so that
    /// nothing is lost. On failure the thread is let go.
    ///
    /// Some calls (`epoll_wait`, `semtimedop`, `sigtimedwait`, sockets with timeouts: signal(7))
    /// return a plain `EINTR` when the thread stops, although no handler ran. Their `rax` is set at
    /// once to what makes the kernel restart them; only our death in the some ten microseconds
    /// before shows in the program.
    pub fn into_stopped(mut self, deadline: Instant) -> Result<StoppedThread, PtraceError> {
        loop {
            let stop = self.wait(deadline)?;
            match stop {
                Stop::Interrupt | Stop::Group(_) => {
                    self.spare()?;
                    return Ok(StoppedThread::new(self, stop));
                }
                Stop::Signal(signal) => self.resume(Resume::Continue(signal))?,
                Stop::Syscall | Stop::Event(_) => self.resume(Resume::Continue(0))?,
                Stop::Exited(_) | Stop::Killed(_) => {
                    return Err(PtraceError::Ended { tid: self.tid, how: stop });
                }
            }
        }
    }

    /// Waits for the next stop of any kind, at most to `deadline`. On failure the thread is let
    /// go.
    pub fn into_next_stop(mut self, deadline: Instant) -> Result<StoppedThread, PtraceError> {
        let stop = self.wait(deadline)?;
        if stop.is_end() {
            return Err(PtraceError::Ended { tid: self.tid, how: stop });
        }
        Ok(StoppedThread::new(self, stop))
    }

    pub(super) fn resume(&mut self, how: Resume) -> Result<(), PtraceError> {
        let (action, request, signal) = match how {
            Resume::Continue(signal) => ("continue", libc::PTRACE_CONT, signal),
            Resume::Syscall(signal) => ("continue", libc::PTRACE_SYSCALL, signal),
            Resume::Emulate(signal) => ("continue", raw::SYSEMU, signal),
            Resume::Listen => ("listen to", libc::PTRACE_LISTEN, 0),
        };
        raw::request(action, request, self.tid, 0, u64::from(signal.unsigned_abs()))?;
        self.is_stopped = false;
        self.held_signal = 0;
        Ok(())
    }

    /// Detaches; the thread has to be stopped.
    pub(super) fn detach(&mut self, signal: i32) -> Result<(), PtraceError> {
        let signal = u64::from(signal.unsigned_abs());
        raw::request("detach from", libc::PTRACE_DETACH, self.tid, 0, signal)?;
        self.attached = false;
        Ok(())
    }

    pub(super) fn regs(&self) -> Result<Regs, PtraceError> {
        let mut bytes = [0_u8; REGS_WORDS * 8];
        raw::get_regset("read registers of", self.tid, NT_PRSTATUS, &mut bytes)?;
        let mut words = [0_u64; REGS_WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Ok(Regs::from_words(words))
    }

    pub(super) fn set_regs(&self, regs: &Regs) -> Result<(), PtraceError> {
        let mut bytes = [0_u8; REGS_WORDS * 8];
        for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(regs.to_words()) {
            *bytes = word.to_ne_bytes();
        }
        raw::set_regset("set registers of", self.tid, NT_PRSTATUS, &bytes)
    }

    /// Has the call that our stop interrupted made again.
    fn spare(&self) -> Result<(), PtraceError> {
        match spared(&self.regs()?) {
            Some(regs) => self.set_regs(&regs),
            None => Ok(()),
        }
    }

    /// Lets a thread go. One that was asked to stop is stopped first if it is not yet: a call that
    /// this interrupts has to be made again here, too, and without a look nobody knows of it.
    fn release(&mut self) -> Result<(), PtraceError> {
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        while self.attached {
            if self.is_stopped {
                if self.detach(self.held_signal).is_err() {
                    self.is_stopped = false;
                }
                continue;
            }
            self.interrupt()?;
            if let Stop::Interrupt | Stop::Group(_) = self.wait(deadline)? {
                self.spare()?;
            }
        }
        Ok(())
    }
}

/// Lets the calling thread's short sleeps end when they should: the kernel may otherwise be 50 us
/// late (`PR_SET_TIMERSLACK`). Put back when dropped.
struct ExactNaps {
    slack_ns: libc::c_int,
}

impl ExactNaps {
    fn begin() -> Self {
        // SAFETY: both take and return integers only, and concern the calling thread alone.
        let slack_ns = unsafe {
            let slack_ns = libc::prctl(libc::PR_GET_TIMERSLACK);
            libc::prctl(libc::PR_SET_TIMERSLACK, 1);
            slack_ns
        };
        Self { slack_ns }
    }
}

impl Drop for ExactNaps {
    fn drop(&mut self) {
        // SAFETY: takes integers only. 0 or less (an error above) means the default.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, self.slack_ns.max(0)) };
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.attached {
            // Fails only for a thread that is gone, or that cannot stop and so runs anyway.
            let _ = self.release();
        }
    }
}
