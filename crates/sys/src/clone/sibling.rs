//! A child with memory of its own and our descriptor table.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::proc::{ProcDir, ProcError, parse_stat};
use crate::task::{Pid, PidFd};

/// Which side of [`fork_sharing_files`] we are on.
#[derive(Debug)]
pub enum Forked {
    /// The caller, with its child.
    Parent(Pid, PidFd),
    /// The child.
    Child,
}

/// Makes a child as fork(2) does, but with **one descriptor table** for both (`CLONE_FILES`): what
/// one opens or closes the other has opened or closed, and what one leaves open when it is killed
/// stays open. Undone by execve(2) in either. The child gets `SIGKILL`ed by nobody: it outlives us.
///
/// # Errors
/// When we have more than one thread (the child's copy of libc's locks would be in no known
/// state), or the kernel refuses. Threads that were joined do not count, although they may be listed a
/// moment longer.
pub fn fork_sharing_files() -> io::Result<Forked> {
    const PR_GET_TID_ADDRESS: libc::c_int = 40;
    if has_others()? {
        return Err(io::Error::other("this process has several threads"));
    }
    let mut tid_address: u64 = 0;
    // SAFETY: this prctl writes one address to a live u64 (Linux >= 3.5).
    if unsafe { libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid_address) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::CLONE_FILES
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::CLONE_PIDFD
        | libc::SIGCHLD;
    let mut pidfd: i32 = -1;
    // SAFETY: what libc's fork does: no CLONE_VM, so the child has a copy of everything; the
    // thread's id in libc's descriptor is set by the kernel, through the address libc has given
    // it. There is no other thread, so no lock of libc or of ours is held by anybody else.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone,
            u64::from(flags.unsigned_abs()),
            0_u64,
            &raw mut pidfd,
            tid_address,
            0_u64,
        )
    };
    match child {
        0 => Ok(Forked::Child),
        1.. => {
            let pid = i32::try_from(child).ok().and_then(Pid::new);
            let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
            // SAFETY: the kernel has just put this new descriptor there; nobody else owns it.
            Ok(Forked::Parent(pid, PidFd::from(unsafe { OwnedFd::from_raw_fd(pidfd) })))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a second thread of ours does anything but end in the kernel. Whoever joins a thread is woken in
/// the middle of that, before it goes from the list (in the kernel's do_exit, `PF_EXITING` is set
/// before the memory is let go of, which wakes, and that comes before `release_task`).
fn has_others() -> io::Result<bool> {
    let dir = ProcDir::ourselves().map_err(io::Error::other)?;
    let mut running = 0;
    for tid in dir.tids().map_err(io::Error::other)? {
        let task = dir.open_task(tid);
        match task.and_then(|task| task.parse("stat", &mut Vec::new(), parse_stat)) {
            Ok(stat) if stat.is_exiting() => {}
            Err(ProcError::Gone { .. }) => {}
            Ok(_) => running += 1,
            Err(cause) => return Err(io::Error::other(cause)),
        }
    }
    Ok(running != 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that was joined is no thread any more.
    #[test]
    fn threads_that_have_ended_do_not_count() {
        // Of our test threads none is in a child.
        // SAFETY: the child runs code of ours with libc's own fork(3), which leaves its locks usable.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let once = || -> io::Result<()> {
                let thread = std::thread::Builder::new().spawn(|| {})?;
                thread.join().map_err(|_| io::Error::other("it panicked"))?;
                match fork_sharing_files()? {
                    Forked::Child => crate::inherit::exit_now(0),
                    Forked::Parent(pid, _) => {
                        crate::clone::reap(pid);
                        Ok(())
                    }
                }
            };
            let failed = (0..300).filter(|_| once().is_err()).count();
            crate::inherit::exit_now(u8::try_from(failed.min(100)).unwrap_or(100));
        }
        let mut status = 0;
        // SAFETY: waits for our own child into a live integer.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "{} of 300 were refused (100: or more)", status >> 8);
    }
}
