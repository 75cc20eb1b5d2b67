//! See docs/ARCHITECTURE.md.
#![allow(unsafe_code)]
pub mod arena;
pub mod interrupt;
pub mod priority;
pub mod ptrace;
pub mod remote;
pub mod task;
