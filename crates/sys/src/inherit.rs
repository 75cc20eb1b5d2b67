//! What programs that we start inherit from us.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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

/// Sets or clears close-on-exec of descriptor `number`.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn set_close_on_exec(number: i32, on: bool) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer; a number that is not open is refused.
    let result =
        unsafe { libc::fcntl(number, libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes descriptor `number`, which was inherited or left open by a process that shared our table
/// and is dead, and which nobody else owns.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn take_descriptor(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes nothing; a number that is not open is refused.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the caller promises that nobody owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Ends this process at once: nothing is unwound or flushed, which is right for a child made by
/// [`fork_sharing_files`](crate::clone::fork_sharing_files).
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit takes an integer.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Opens `from` under `number` as well, closed on exec. Something open there would be lost, so it
/// is refused.
///
/// # Errors
/// `EEXIST` when the number is in use.
pub fn place_descriptor(from: impl AsFd, number: i32) -> io::Result<()> {
    // SAFETY: F_GETFD takes nothing; a number that is not open is refused.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    // SAFETY: dup3 takes integers; nothing is open under the number, so nobody's is closed.
    let result = unsafe { libc::dup3(from.as_fd().as_raw_fd(), number, libc::O_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
