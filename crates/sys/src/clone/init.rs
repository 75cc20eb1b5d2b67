//! A pid namespace of its own, with a tiny init.
//!
//! The init is a fork of this process and not a re-execution: it needs no program on disk, and a
//! process with threads may make it, because its code is plain system calls. It gives back all
//! memory but its own stack, closes every descriptor it does not need, reaps orphans, passes
//! signals on, and ends when its main child and every orphan has ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;

use super::init_child::{self, InitArgs};
use super::stack::{ChildStack, GiveBack};
use crate::task::{Pid, PidFd};

/// How long an init may take to end once it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` of a new time namespace are ahead of ours, in
/// nanoseconds (time_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffsets {
    /// For `CLOCK_MONOTONIC`.
    pub monotonic_ns: i128,
    /// For `CLOCK_BOOTTIME`.
    pub boottime_ns: i128,
}

/// How the namespace and its main child shall be.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitSettings {
    /// The pid of the main child inside.
    pub main_pid: i32,
    /// A session of its own (setsid(2)) for the init and what it makes.
    pub new_session: bool,
    /// A time namespace with these offsets.
    pub clocks: Option<ClockOffsets>,
}

/// A pid and mount namespace with an init that has one sleeping child. Dropping it ends
/// everything in it.
#[derive(Debug)]
pub struct Init {
    process: InitProcess,
    main_pid: Pid,
    main_pidfd: PidFd,
    control: File,
    status: File,
}

/// Why a pid namespace could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {cause}")]
pub struct InitError {
    /// What the init or we were doing.
    pub step: &'static str,
    /// What the kernel said.
    pub cause: io::Error,
}

/// The init as a process; ends with this value unless let go.
#[derive(Debug)]
struct InitProcess {
    pid: Pid,
    pidfd: PidFd,
    let_go: bool,
}

impl Init {
    /// Makes the namespaces, mounts `/proc` anew in them and makes the main child. The mounts
    /// are slaves of ours: what is mounted inside is not seen outside.
    ///
    /// # Errors
    /// With the step that failed; nothing is left then.
    pub fn spawn(settings: InitSettings) -> Result<Self, InitError> {
        let (control_read, control_write) = pipe(PipeFlags::CLOEXEC)?;
        let (status_read, status_write) = pipe(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&status_write, rustix::fs::OFlags::NONBLOCK)
            .map_err(|e| at("make a pipe", e.into()))?;
        let text = settings.clocks.map(ClockOffsets::to_text).unwrap_or_default();
        let mut offsets = [0; 128];
        for (slot, byte) in offsets.iter_mut().zip(&text) {
            *slot = *byte;
        }
        let process = spawn_process(|give_back| InitArgs {
            control_read: control_read.as_raw_fd(),
            control_write: control_write.as_raw_fd(),
            status_write: status_write.as_raw_fd(),
            main_pid: settings.main_pid,
            new_session: i32::from(settings.new_session),
            new_clocks: i32::from(settings.clocks.is_some()),
            offsets,
            offsets_bytes: text.len() as u64,
            give_back,
        })?;
        drop((control_read, status_write));
        let mut status = File::from(status_read);
        let mut control = File::from(control_write);
        let (main_pid, main_pidfd) = await_main(&mut status, &process.pidfd)?;
        control.write_all(b"k").map_err(|e| at("answer the init", e))?;
        Ok(Self { process, main_pid, main_pidfd, control, status })
    }

    /// The init's pid outside.
    pub const fn pid(&self) -> Pid {
        self.process.pid
    }

    /// The main child's pid outside.
    pub const fn main_pid(&self) -> Pid {
        self.main_pid
    }

    /// The main child.
    pub const fn main_pidfd(&self) -> &PidFd {
        &self.main_pidfd
    }

    /// The init.
    pub(super) const fn pidfd(&self) -> &PidFd {
        &self.process.pidfd
    }

    /// Where it is told what to do.
    pub(super) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// From now on the init does not die with us, but when nobody holds its control pipe any
    /// more: an [`Arbiter`](super::Arbiter) does, too.
    ///
    /// # Errors
    /// When the init is gone; everything in it is ended then.
    pub fn outlive_us(&mut self) -> Result<(), InitError> {
        let step = "have the init outlive us";
        self.control.write_all(b"o").map_err(|e| at(step, e))?;
        self.status.read_exact(&mut [0; 4]).map_err(|e| at(step, e))
    }

    /// From now on the init lives on without us, reaps and passes signals on. What comes back
    /// tells wait statuses of the main child, four bytes each (native order, as wait(2) gives
    /// them), its stops and continuations included; the last one is its end.
    ///
    /// # Errors
    /// When the init is gone; everything in it is ended then.
    pub fn let_go(mut self) -> Result<(Pid, File), InitError> {
        let step = "let the init go";
        self.control.write_all(b"g").map_err(|e| at(step, e))?;
        let mut answer = [0; 4];
        self.status.read_exact(&mut answer).map_err(|e| at(step, e))?;
        self.process.let_go = true;
        Ok((self.process.pid, self.status))
    }
}

impl Drop for InitProcess {
    fn drop(&mut self) {
        if self.let_go {
            return;
        }
        // Fails only when it has ended already. Its children die with it; one that is traced has
        // to be waited for by its tracer before the init can end, so this wait has a limit.
        let _ = self.pidfd.send_signal(libc::SIGKILL);
        if self.pidfd.wait_ended(Instant::now() + END_TIMEOUT).unwrap_or(false) {
            super::reap(self.pid);
        }
    }
}

impl ClockOffsets {
    /// The text for `/proc/PID/timens_offsets`.
    fn to_text(self) -> Vec<u8> {
        let line = |clock: &str, ns: i128| {
            let (s, ns) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
            format!("{clock} {s} {ns}\n")
        };
        let mut text = line("monotonic", self.monotonic_ns);
        text.push_str(&line("boottime", self.boottime_ns));
        text.into_bytes()
    }
}

fn at(step: &'static str, cause: io::Error) -> InitError {
    InitError { step, cause }
}

fn pipe(flags: PipeFlags) -> Result<(OwnedFd, OwnedFd), InitError> {
    rustix::pipe::pipe_with(flags).map_err(|e| at("make a pipe", e.into()))
}

fn spawn_process(args: impl FnOnce(GiveBack) -> InitArgs) -> Result<InitProcess, InitError> {
    let step = "make a pid namespace (needs CAP_SYS_ADMIN)";
    let stack = ChildStack::with(args).map_err(|e| at("allocate a stack", e))?;
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    // SAFETY: no CLONE_VM; its arguments are an InitArgs, and `main` makes only system calls.
    let started = unsafe { stack.start(flags, init_child::main) };
    let (pid, pidfd) = started.map_err(|e| at(step, e))?;
    Ok(InitProcess { pid, pidfd, let_go: false })
}

/// Waits for the init's report on its main child and takes a pidfd of that child.
fn await_main(status: &mut File, init: &PidFd) -> Result<(Pid, PidFd), InitError> {
    let mut words = [0; 8];
    status
        .read_exact(&mut words)
        .map_err(|_| at("hear from the init", io::Error::other("it has ended")))?;
    let [a, b, c, d, e, f, g, h] = words;
    let failed = i32::from_ne_bytes([a, b, c, d]);
    let value = i32::from_ne_bytes([e, f, g, h]);
    if failed != init_child::OK {
        let step = usize::try_from(failed).ok().and_then(|n| init_child::STEPS.get(n));
        return Err(at(step.unwrap_or(&"start the init"), io::Error::from_raw_os_error(value)));
    }
    let step = "find the main process of a new pid namespace";
    let main = PidFd::from(init.descriptor(value).map_err(|e| at(step, e))?);
    let pid = super::pid_of(&main).map_err(|e| at(step, e))?;
    Ok((pid, main))
}
