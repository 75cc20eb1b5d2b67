//! The priority of our own threads.

use std::io;
use std::marker::PhantomData;

/// Gives the calling thread the nice value `nice` (setpriority(2) with a thread id acts on that
/// thread alone on Linux).
///
/// # Errors
/// When the kernel refuses, as it does for a lower value without `CAP_SYS_NICE`.
pub fn set_thread_nice(nice: i32) -> io::Result<()> {
    // SAFETY: setpriority takes integers only; who = 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the calling thread, and those that it starts, read and write when nobody else wants to
/// (ioprio_set(2), class idle), where the scheduler of the disk knows of priorities.
///
/// # Errors
/// When the kernel refuses.
pub fn set_thread_io_idle() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: ioprio_set takes integers only; who = 0 is the calling thread.
    if unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The calling thread ahead of all others of ordinary policy, as far as that is allowed: somebody
/// stands still until it is done. Dropping it gives the thread its nice value back.
#[derive(Debug)]
pub struct Urgent {
    before: Option<i32>,
    /// It speaks of the thread that made it.
    _bound_to_thread: PhantomData<*const ()>,
}

impl Urgent {
    /// From now on, when the kernel lets us (`CAP_SYS_NICE`).
    pub fn begin() -> Self {
        const HIGHEST: i32 = -20;
        // SAFETY: getpriority takes integers only; who = 0 is the calling thread. An error and
        // the nice value -1 look alike: either is given back below.
        let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let raised = set_thread_nice(HIGHEST).is_ok();
        Self { before: raised.then_some(before), _bound_to_thread: PhantomData }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // Lowering one's own priority is always allowed.
            let _ = set_thread_nice(before);
        }
    }
}
