//! The process that carries a decision out when we are killed: which of two processes lives.
//!
//! Both stand still, held by us, and both would be let go by our death. So before the decision each
//! gets a `SIGSTOP` that waits: whoever is let go stops at once and runs nothing. The decision is
//! one byte in a pipe. If we die before it is written, the arbiter lets the old one go on and ends
//! the new one; if we die after it, the arbiter ends the old one and lets the new one go on. While we
//! live we do all that ourselves.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::pipe::PipeFlags;

use super::init::Init;
use super::parked::{BlockedSignals, pid_from};
use super::raw::{self, CloneArgs};
use crate::file::{F_SETOWN_EX, RawOwner};
use crate::task::{Pid, PidFd};

/// A byte that says: from now on a `SIGSTOP` may wait in the old one.
const BRAKE: u8 = b'b';
/// The decision: the new one lives.
const COMMIT: u8 = b'c';
/// Everything is done, or undone: end.
const QUIT: u8 = b'q';

/// The process that carries the decision out. Dropping it without [`dismiss`](Self::dismiss) is
/// for it as if we had died.
#[derive(Debug)]
pub struct Arbiter {
    pid: Pid,
    control: Option<File>,
    status: File,
}

impl Arbiter {
    /// Makes it, for `old` and the main process of `new`. Each of the three is known by a
    /// descriptor, so that no number can come to mean somebody else. `owners`: who gets signals about
    /// which files when the new one lives, as [`crate::file::signal_owner`] gives them.
    ///
    /// # Errors
    /// When no process or pipe can be made.
    pub fn spawn(old: &PidFd, new: &Init, owners: &[(OwnedFd, (i32, i32))]) -> io::Result<Self> {
        let (control_read, control_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (status_read, status_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let owners: Vec<Owner> = owners
            .iter()
            .map(|(file, (kind, pid))| Owner {
                file: file.as_raw_fd(),
                owner: RawOwner { kind: *kind, pid: *pid },
            })
            .collect();
        let mut kept: Vec<i32> = owners.iter().map(|owner| owner.file).collect();
        kept.extend([
            control_read.as_raw_fd(),
            status_write.as_raw_fd(),
            old.as_fd().as_raw_fd(),
            new.main_pidfd().as_fd().as_raw_fd(),
            new.pidfd().as_fd().as_raw_fd(),
            new.control().as_raw_fd(),
        ]);
        let args = Args {
            kept: kept.as_mut_slice(),
            owners: owners.as_slice(),
            control: control_read.as_raw_fd(),
            status: status_write.as_raw_fd(),
            old: old.as_fd().as_raw_fd(),
            new: new.main_pidfd().as_fd().as_raw_fd(),
            init: new.pidfd().as_fd().as_raw_fd(),
            init_control: new.control().as_raw_fd(),
        };
        let clone = CloneArgs {
            exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
            ..CloneArgs::default()
        };
        let blocked = BlockedSignals::all()?;
        // SAFETY: no CLONE_VM; `arbitrate` makes only system calls, and reads `args` and what that
        // leads to in the child's own copy of this memory.
        let child = unsafe { raw::clone3(&clone, arbitrate, (&raw const args).cast()) };
        drop(blocked);
        let pid = pid_from(child)?;
        drop((control_read, status_write));
        let control = Some(File::from(control_write));
        let mut arbiter = Self { pid, control, status: File::from(status_read) };
        arbiter.hear()?;
        Ok(arbiter)
    }

    /// Its pid.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// From now on a `SIGSTOP` may wait in the old process: should we die undecided, it has to be
    /// taken back.
    ///
    /// # Errors
    /// When it has been killed.
    pub fn brake(&mut self) -> io::Result<()> {
        self.say(BRAKE)
    }

    /// **The decision**: one byte. When this fails it was not made. Otherwise the new process
    /// lives, whatever becomes of us; as long as nothing does, it is for us to end the old one.
    ///
    /// # Errors
    /// When it was not made, because the arbiter has been killed.
    pub fn commit(&mut self) -> io::Result<()> {
        self.say(COMMIT)
    }

    /// There is nothing left to do for it.
    pub fn dismiss(mut self) {
        // It has been killed if this fails.
        let _ = self.say(QUIT);
        self.control = None;
        super::reap(self.pid);
    }

    fn say(&mut self, byte: u8) -> io::Result<()> {
        let gone = || io::Error::from_raw_os_error(libc::EPIPE);
        self.control.as_mut().ok_or_else(gone)?.write_all(&[byte])
    }

    fn hear(&mut self) -> io::Result<()> {
        self.status.read_exact(&mut [0; 4])
    }
}

impl Drop for Arbiter {
    fn drop(&mut self) {
        // It hears the end of the pipe and does what is to be done; then it ends. What it waits for
        // may need the threads that we hold, so it is not waited for.
        self.control = None;
    }
}

/// A file, and who gets signals about it.
struct Owner {
    file: i32,
    owner: RawOwner,
}

#[repr(C)]
struct Args {
    /// Descriptors that it needs.
    kept: *mut [i32],
    owners: *const [Owner],
    control: i32,
    status: i32,
    old: i32,
    new: i32,
    init: i32,
    init_control: i32,
}

/// # Safety
/// Only as the main function of a child made by [`raw::clone3`], with an [`Args`].
unsafe extern "C" fn arbitrate(arg: *const u8) -> ! {
    // SAFETY: the caller passed an Args that lies in this child's copy of the stack; the child has
    // one thread and makes only system calls.
    unsafe {
        let args = &*arg.cast::<Args>();
        let name = c"rekindle-commit".as_ptr().addr() as u64;
        let set_name = u64::from(libc::PR_SET_NAME.unsigned_abs());
        raw::call(libc::SYS_prctl, [set_name, name, 0, 0, 0, 0]);
        raw::close_all_but(&mut *args.kept);
        raw::write_word(args.status, 0);
        match raw::read_byte(args.control) {
            Some(BRAKE) => {}
            None => abort(args),
            Some(_) => raw::exit(0),
        }
        match raw::read_byte(args.control) {
            Some(COMMIT) => {}
            None => {
                send(args.old, libc::SIGCONT);
                abort(args)
            }
            Some(_) => raw::exit(0),
        }
        if raw::read_byte(args.control).is_none() {
            send(args.old, libc::SIGKILL);
            await_end(args.old);
            for owner in &*args.owners {
                let at = (&raw const owner.owner).addr() as u64;
                let (file, set) = (owner.file.unsigned_abs(), F_SETOWN_EX.unsigned_abs());
                let call = [u64::from(file), u64::from(set), at, 0, 0, 0];
                raw::call(libc::SYS_fcntl, call);
            }
            // The init first, so that there is somebody to reap what the new one leaves.
            raw::write_byte(args.init_control, b'g');
            send(args.new, libc::SIGCONT);
        }
        raw::exit(0)
    }
}

/// Ends the new process, with everything in its namespace.
///
/// # Safety
/// Only in the arbiter.
unsafe fn abort(args: &Args) -> ! {
    // SAFETY: as promised by the caller.
    unsafe {
        send(args.init, libc::SIGKILL);
        raw::exit(0)
    }
}

/// # Safety
/// Only in the arbiter.
unsafe fn send(pidfd: i32, signal: i32) {
    let (pidfd, signal) = (u64::from(pidfd.unsigned_abs()), u64::from(signal.unsigned_abs()));
    // SAFETY: integers only; a null siginfo means "as kill(2) does". Fails when the process has
    // ended.
    unsafe { raw::call(libc::SYS_pidfd_send_signal, [pidfd, signal, 0, 0, 0, 0]) };
}

/// Waits until the process has ended.
///
/// # Safety
/// Only in the arbiter.
unsafe fn await_end(pidfd: i32) {
    loop {
        let mut slot = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
        let at = (&raw mut slot).addr() as u64;
        // SAFETY: one initialised pollfd that lives across the call, with the count 1.
        let ready = unsafe { raw::call(libc::SYS_poll, [at, 1, u64::MAX, 0, 0, 0]) };
        if ready > 0 {
            return;
        }
    }
}
