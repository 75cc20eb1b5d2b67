//! The harness of the whole-system tests: real programs, started as a user starts them, are
//! checkpointed and resumed through the command line.
//!
//! Each test runs in a pid and a mount namespace of its own ([`sandbox`]), so that nothing it
//! started outlives it, with a hard time limit. What a host cannot offer is skipped by name
//! ([`skip`]), and CI refuses skips that `tests/unavailable.toml` does not list.
#![forbid(unsafe_code)]

pub mod binaries;
pub mod files;
pub mod pages;
pub mod program;
pub mod redis;
pub mod rekindle;
pub mod sandbox;
pub mod skips;
pub mod swap;
pub mod wait;
pub mod witness;

/// How often a repeated test repeats: few by default, all with `REKINDLE_LONG=1`.
pub fn rounds(few: usize, all: usize) -> usize {
    if std::env::var_os("REKINDLE_LONG").is_some_and(|value| value != "0") { all } else { few }
}
