//! See docs/ARCHITECTURE.md.
#![allow(unsafe_code)]
pub mod arch;
pub mod arena;
pub mod clone;
pub mod interrupt;
pub mod file;
pub mod kcmp;
pub mod limits;
pub mod pagemap;
pub mod priority;
pub mod proc;
pub mod ptrace;
pub mod remote;
pub mod sched;
pub mod seccomp;
pub mod socket;
pub mod task;
