//! Self-restoring execution inside a stopped thread.
//!
//! [`Injector`] runs batches of system calls in a stopped thread of a running program, many calls
//! to one round trip, in such a way that the program notices nothing, and that the thread goes
//! back to exactly where it was **by itself** when we die, at whatever instant: its registers,
//! its signal mask and the list of what has to be undone lie in the program, not in us.
//! [`Stub`] runs the same batches in a process of our own that is being built, where nothing has
//! to be restored.
//!
//! This room knows no meaning of any system call beyond those it needs itself, and makes no
//! decision what to run. Why it works: docs/decisions/0001-injection.md. Read next: `capture`
//! and `resume`, its users.
#![allow(unsafe_code)]

mod area;
mod batch;
mod blob;
mod call;
mod error;
mod injection;
mod injector;
mod original;
mod restart;
mod runner;
mod scratch;
mod seccomp;
mod slots;
mod status;
mod stub;
mod table;

pub use batch::{Answers, Arg, Batch, CallId, Undo};
pub use call::call_at;
pub use error::InjectError;
pub use injection::Injection;
pub use injector::Injector;
pub use original::regs_with_original_call;
pub use restart::{regs_for_new_task, rseq_abort};
pub use scratch::Scratch;
pub use slots::vdso_image;
pub use stub::{Stub, StubRoom};
