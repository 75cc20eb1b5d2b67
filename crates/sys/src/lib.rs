//! See docs/ARCHITECTURE.md.
#![allow(unsafe_code)]
pub mod arena;
pub mod interrupt;
pub mod priority;
