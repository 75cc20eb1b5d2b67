//! What programs that we start inherit from us.

use std::io;

/// Marks every descriptor from `first` on close-on-exec, so that programs started from here do
/// not inherit what our own caller left open (close_range(2), Linux >= 5.11).
///
/// # Errors
/// When the kernel refuses.
pub fn keep_descriptors_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing; it only sets flags.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
