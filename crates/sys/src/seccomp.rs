//! The seccomp filters of a stopped thread, see `PTRACE_SECCOMP_GET_FILTER` in ptrace(2).

use std::io;

use crate::ptrace::StoppedThread;

/// Bytes in a `struct sock_filter`.
pub const INSTRUCTION_BYTES: usize = 8;
/// `PTRACE_SECCOMP_GET_FILTER` (Linux >= 4.4).
const GET_FILTER: u32 = 0x420c;
/// `PTRACE_SECCOMP_GET_METADATA` (Linux >= 4.16).
const GET_METADATA: u32 = 0x420d;
/// The most instructions a filter can have (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

/// One installed filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The classic BPF program, [`INSTRUCTION_BYTES`] an instruction.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_` bits, as far as the kernel tells: only `SECCOMP_FILTER_FLAG_LOG`.
    pub flags: u64,
}

/// Filter number `index` of `thread`, 0 being the one installed first; `None` past the last one.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN` or when we are filtered ourselves; `EMEDIUMTYPE` when the
/// filter is not classic BPF any more.
pub fn filter(thread: &StoppedThread, index: u64) -> io::Result<Option<Filter>> {
    let tid = thread.tid().raw();
    let mut program = vec![0u8; INSTRUCTIONS_MAX * INSTRUCTION_BYTES];
    // SAFETY: the kernel writes the program, at most INSTRUCTIONS_MAX instructions, to a vector
    // with room for as many. The thread is a tracee of this OS thread and is stopped.
    let count = unsafe { libc::ptrace(GET_FILTER, tid, index, program.as_mut_ptr()) };
    if count < 0 {
        let cause = io::Error::last_os_error();
        return match cause.raw_os_error() {
            Some(libc::ENOENT) => Ok(None),
            // EINVAL is what a thread without filters gives.
            Some(libc::EINVAL) if index == 0 => Ok(None),
            _ => Err(cause),
        };
    }
    let count = usize::try_from(count).map_err(io::Error::other)?;
    program.truncate(count * INSTRUCTION_BYTES);
    let mut metadata = [index, 0u64];
    // SAFETY: `struct seccomp_metadata` is two u64; the size passed is that of the live array.
    let result =
        unsafe { libc::ptrace(GET_METADATA, tid, size_of_val(&metadata), metadata.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Some(Filter { program, flags: metadata[1] }))
}
