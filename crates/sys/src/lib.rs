//! See docs/ARCHITECTURE.md.
#![allow(unsafe_code)]
pub mod arena;
pub mod interrupt;
pub mod kcmp;
pub mod limits;
pub mod pagemap;
pub mod priority;
pub mod proc;
pub mod ptrace;
pub mod remote;
pub mod sched;
pub mod socket;
pub mod task;
