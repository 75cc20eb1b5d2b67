//! The priority of our own threads.

use std::io;

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
