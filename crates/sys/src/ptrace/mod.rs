//! Stopping threads and reading and changing their state (`ptrace(2)`, seized tracees only).
//!
//! ptrace belongs to an OS thread: only the thread that seized a tracee may ask anything of it.
//! [`Traced`] and [`StoppedThread`] are therefore neither `Send` nor `Sync`. Both let the tracee
//! go when dropped; nothing here leaves a thread stopped. Every wait has a deadline.
//!
//! When the tracing process dies the kernel detaches its tracees and they run on, unless
//! [`Options::exit_kill`] was asked for.

mod error;
mod raw;
mod regs;
mod restart;
mod siginfo;
mod stop;
mod stopped;
mod traced;

pub use error::PtraceError;
pub use regs::{REGS_WORDS, Regs};
pub use siginfo::{SIGINFO_BYTES, SigInfo, SignalQueue};
pub use stop::{Event, Stop};
pub use stopped::{RseqConfig, StoppedThread, SyscallUserDispatch};
pub use traced::{Options, Resume, Traced};
