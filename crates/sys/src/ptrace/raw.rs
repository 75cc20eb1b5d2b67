//! The system calls, each in one place.

use crate::ptrace::PtraceError;
use crate::task::Tid;

// Not in the libc crate for every libc we build on; values of <linux/ptrace.h>.
pub(super) const SYSEMU: libc::c_uint = 31;
pub(super) const GETSIGMASK: libc::c_uint = 0x420a;
pub(super) const SETSIGMASK: libc::c_uint = 0x420b;
pub(super) const GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
pub(super) const GET_SYSCALL_USER_DISPATCH: libc::c_uint = 0x4211;

/// One ptrace request whose `addr` and `data` are plain numbers.
pub(super) fn request(
    action: &'static str,
    request: libc::c_uint,
    tid: Tid,
    addr: u64,
    data: u64,
) -> Result<i64, PtraceError> {
    // SAFETY: the callers of this function pass numbers (options, signals, remote addresses,
    // values) in `addr` and `data`; requests that write to our memory use `request_at`.
    let result = unsafe {
        libc::syscall(libc::SYS_ptrace, libc::c_ulong::from(request), tid.raw(), addr, data)
    };
    if result < 0 { Err(PtraceError::last(action, tid)) } else { Ok(result) }
}

/// One ptrace request whose `data` is a place in our memory.
///
/// # Safety
/// `data` must be valid for whatever `request` reads from or writes to it, given `addr`.
pub(super) unsafe fn request_at<T>(
    action: &'static str,
    request: libc::c_uint,
    tid: Tid,
    addr: u64,
    data: *mut T,
) -> Result<i64, PtraceError> {
    // SAFETY: as promised by the caller.
    let result = unsafe {
        libc::syscall(libc::SYS_ptrace, libc::c_ulong::from(request), tid.raw(), addr, data)
    };
    if result < 0 { Err(PtraceError::last(action, tid)) } else { Ok(result) }
}

/// Reads the register set `note` into `buffer`; says how many bytes it has.
pub(super) fn get_regset(
    action: &'static str,
    tid: Tid,
    note: i32,
    buffer: &mut [u8],
) -> Result<usize, PtraceError> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the iovec covers `buffer`; the kernel writes at most its length and then its size.
    unsafe {
        request_at(
            action,
            libc::PTRACE_GETREGSET,
            tid,
            u64::from(note.unsigned_abs()),
            &raw mut part,
        )?;
    }
    Ok(part.iov_len)
}

/// Writes the register set `note` from `bytes`.
pub(super) fn set_regset(
    action: &'static str,
    tid: Tid,
    note: i32,
    bytes: &[u8],
) -> Result<(), PtraceError> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the iovec covers `bytes`, which the kernel only reads.
    unsafe {
        request_at(
            action,
            libc::PTRACE_SETREGSET,
            tid,
            u64::from(note.unsigned_abs()),
            &raw mut part,
        )?;
    }
    Ok(())
}
