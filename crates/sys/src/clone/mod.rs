//! New processes for rebuilding an instance in: clone3(2) with chosen pids.
//!
//! [`park`] makes a child that does nothing but sleep, to be taken over by a tracer.
//! [`Init::spawn`] makes a pid namespace of its own with a tiny init and such a child in it.
//! [`Bystander`] makes a powerless process of another user, to see what a program may do to it. The
//! code that runs in the children is made of plain system calls, since the caller may have any
//! number of threads. Needs Linux >= 5.5 (`set_tid`) and `CAP_CHECKPOINT_RESTORE` or
//! `CAP_SYS_ADMIN`.

mod arbiter;
mod bystander;
mod init;
mod init_child;
mod parked;
mod raw;
mod reserved;
mod sibling;
mod stack;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

pub use arbiter::Arbiter;
pub use bystander::Bystander;
pub use init::{ClockOffsets, Init, InitError, InitSettings};
pub use parked::{Parked, park};
pub use reserved::Reserved;
pub use sibling::{Forked, fork_sharing_files};

use crate::task::{Pid, PidFd};

/// The flags of clone(2) for another thread of the same process.
pub const THREAD_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64;

/// The number in our pid namespace of the process that `pidfd` names (`Pid:` of its fdinfo).
///
/// # Errors
/// `ESRCH` when it has ended, or is not in our pid namespace or below.
pub fn pid_of(pidfd: &PidFd) -> io::Result<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    let field = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let number = field.and_then(|value| value.trim().parse().ok());
    number.and_then(Pid::new).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Waits for the end of `pid`, a child or traced thread of ours, and takes its wait status away
/// (wait4(2) with `__WALL`); stops on the way are passed over. `None` when it is neither.
pub fn reap(pid: Pid) -> Option<i32> {
    loop {
        let mut status = 0;
        // SAFETY: the status goes to a live i32; no rusage is asked for.
        let got = unsafe { libc::waitpid(pid.raw(), &raw mut status, libc::__WALL) };
        if got == pid.raw() {
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                return Some(status);
            }
            continue;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}
