//! How injection fails.

use std::io;
use std::time::Duration;

use sys::ptrace::PtraceError;
use sys::task::{Pid, Tid};

/// Why calls could not be run in a thread. Whatever the error, the thread is on its own registers
/// again or goes back to them by itself, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// The thread could not be traced, read or changed, or it ended.
    #[error(transparent)]
    Ptrace(#[from] PtraceError),
    /// The program's memory could not be read or written.
    #[error("{action} of process {pid}: {source}")]
    Memory {
        /// What was being done.
        action: &'static str,
        /// The process.
        pid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something under `/proc` could not be read or understood.
    #[error("read {path}: {source}")]
    Proc {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The thread is in a state in which calls cannot be injected without harm.
    #[error("run system calls in thread {tid}: {why}")]
    Refused {
        /// The thread.
        tid: Tid,
        /// What is in the way, and what lifts it.
        why: &'static str,
    },
    /// There is no place for our code at the end of the vdso.
    #[error(
        "place code in the vdso of process {pid}: {why}; this kernel's vdso leaves no usable room \
         at its end"
    )]
    NoRoom {
        /// The process.
        pid: Pid,
        /// What is in the way.
        why: &'static str,
    },
    /// An earlier injection, whose tracer died, is still on its way back.
    #[error(
        "inject into process {pid}: an earlier, interrupted injection is still leaving it; try again"
    )]
    Busy {
        /// The process.
        pid: Pid,
    },
    /// The scratch area is too small for what was asked.
    #[error("reserve {wanted} bytes in the scratch area: {free} of {size} are free")]
    ScratchFull {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes left.
        free: u64,
        /// Bytes in all.
        size: u64,
    },
    /// A batch refers to what does not exist: a later call, another batch's call, a place outside.
    #[error("prepare call {index} of a batch: {why}")]
    BadBatch {
        /// The call.
        index: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// An injected call returned an error.
    #[error("system call {nr} (call {index} of its batch) in the program: {source}")]
    Call {
        /// The call's place in its batch.
        index: usize,
        /// Its number.
        nr: i64,
        /// What it returned.
        source: io::Error,
    },
    /// The answer of a call was asked for that was never made, because a required one failed.
    #[error("call {index} of a batch was not made because an earlier one failed")]
    NotMade {
        /// The call's place in its batch.
        index: usize,
    },
    /// A batch did not end in time. The thread was stopped in the middle of it.
    #[error("run a batch in thread {tid} within {waited:?}: call {index} does not return")]
    Timeout {
        /// The thread.
        tid: Tid,
        /// How long it was waited for.
        waited: Duration,
        /// The call it is in.
        index: usize,
    },
    /// We were kept from running for so long that the thread took us for dead: it has undone
    /// everything and is on its own way again.
    #[error(
        "run a batch in thread {tid}: it waited too long for us and went on by itself; try again"
    )]
    LeftByItself {
        /// The thread.
        tid: Tid,
    },
    /// The scratch area could not be unmapped, so the program has a mapping more.
    #[error(
        "unmap the scratch area in thread {tid}: {source}; the program keeps an unused mapping"
    )]
    Leaked {
        /// The thread.
        tid: Tid,
        /// What `munmap` returned.
        source: io::Error,
    },
}

impl InjectError {
    /// Whether the program has no room for a page or two of ours: its own limits of address space,
    /// data or locked memory (mmap(2) `ENOMEM`, `EAGAIN`).
    pub fn is_out_of_room(&self) -> bool {
        match self {
            Self::Memory { source, .. } | Self::Call { source, .. } => {
                matches!(source.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock)
            }
            _ => false,
        }
    }
}
