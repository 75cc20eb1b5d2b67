//! Ctrl-C and its kin as a flag that long work looks at.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}

/// Makes `SIGINT`, `SIGTERM` and `SIGHUP` raise a flag instead of ending this process, so that a
/// verb undoes what it began (sigaction(2); the handler is async-signal-safe). Calls that block
/// return `EINTR`.
///
/// # Errors
/// When the kernel refuses, which it does for no valid signal.
pub fn catch_interrupts() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: an all-zero `sigaction` is a valid value: no flags, empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler only stores into an atomic; the old action is not asked for.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The same, and forgets it: what is begun afterwards is given up for the next signal only.
pub fn take_interrupt() -> Option<i32> {
    match RECEIVED.swap(0, Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// The signal that arrived since [`catch_interrupts`], if one did.
pub fn interrupted_by() -> Option<i32> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}
