//! A child that sleeps until a tracer takes it over.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::raw::{self, CloneArgs};
use crate::task::{Pid, PidFd};

/// A child that sleeps, with every signal blocked, until a tracer takes it over. Until then it
/// dies with the thread that made it.
#[derive(Debug)]
pub struct Parked {
    /// Its pid in the caller's pid namespace.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: PidFd,
}

/// Makes a child with a copy of this process's memory and descriptors that sleeps until it is
/// taken over or killed. `pid` is the pid it gets in the caller's pid namespace; `None` leaves
/// the choice to the kernel. `exit_signal` is what the caller gets when it ends.
///
/// # Errors
/// `EEXIST`: the pid is taken. `EPERM`: no `CAP_CHECKPOINT_RESTORE`. `EINVAL`: the pid is beyond
/// `kernel.pid_max`.
pub fn park(pid: Option<i32>, exit_signal: i32) -> io::Result<Parked> {
    let set_tid = [pid.unwrap_or_default()];
    let mut pidfd: i32 = -1;
    // SAFETY: getpid takes nothing.
    let parent = ParkArgs { parent: unsafe { libc::getpid() } };
    let args = CloneArgs {
        flags: u64::from(libc::CLONE_PIDFD.unsigned_abs()),
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(exit_signal.unsigned_abs()),
        set_tid: if pid.is_some() { (&raw const set_tid).addr() as u64 } else { 0 },
        set_tid_size: u64::from(pid.is_some()),
        ..CloneArgs::default()
    };
    let blocked = BlockedSignals::all()?;
    // SAFETY: no CLONE_VM; `set_tid` and `pidfd` live across the call; `sleep_for_ever` makes
    // only system calls, and reads `parent` in the child's own copy of this stack.
    let child = unsafe { raw::clone3(&args, sleep_for_ever, (&raw const parent).cast()) };
    drop(blocked);
    let pid = pid_from(child)?;
    // SAFETY: the kernel has just put this new descriptor there; nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Parked { pid, pidfd: PidFd::from(pidfd) })
}

#[repr(C)]
struct ParkArgs {
    parent: i32,
}

/// # Safety
/// Only as the main function of a child made by [`raw::clone3`], with a [`ParkArgs`].
unsafe extern "C" fn sleep_for_ever(arg: *const u8) -> ! {
    // SAFETY: the caller passed a ParkArgs that lies in this child's copy of the stack; the
    // calls take integers only.
    unsafe {
        let parent = (*arg.cast::<ParkArgs>()).parent;
        die_with_parent();
        let now = raw::call(libc::SYS_getppid, [0; 6]);
        if now != i64::from(parent) {
            raw::exit(1);
        }
        sleep();
    }
}

/// # Safety
/// Only in a child made by [`raw::clone3`].
pub(super) unsafe fn die_with_parent() {
    let signal = u64::from(libc::SIGKILL.unsigned_abs());
    let option = u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs());
    // SAFETY: this prctl takes integers only.
    unsafe { raw::call(libc::SYS_prctl, [option, signal, 0, 0, 0, 0]) };
}

/// # Safety
/// Only in a child made by [`raw::clone3`].
pub(super) unsafe fn sleep() -> ! {
    loop {
        // SAFETY: pause takes nothing.
        unsafe { raw::call(libc::SYS_pause, [0; 6]) };
    }
}

pub(super) fn pid_from(result: i64) -> io::Result<Pid> {
    let pid = i32::try_from(result).unwrap_or(-libc::EOVERFLOW);
    Pid::new(pid).ok_or_else(|| io::Error::from_raw_os_error(-pid))
}

/// Every signal blocked in this thread while the value lives, so that a child made meanwhile
/// runs no handler of ours.
pub(super) struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    pub(super) fn all() -> io::Result<Self> {
        // SAFETY: sigset_t is plain integers; both sets live across the call.
        unsafe {
            let mut every: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut every);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const every, &raw mut before) {
                0 => Ok(Self(before)),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask; restoring it cannot fail.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}
