//! `process::Instance` + `mem::PageSource` -> a running process.
//!
//! [`check`] compares an instance with this host and lists every mismatch before anything is
//! started. [`build`] makes a stopped process that equals the instance, phase by phase, and
//! compares it with the instance before it may run; [`Built::start`] lets it go. Until then any
//! error, and our own death, ends the half-built process and takes back what was created.
//!
//! This room knows no format, no store and nothing of capture: bytes come through
//! `mem::PageSource`. It runs nothing in the new process but system calls, through `inject`.
//! Read next: [`Request`], then `build/mod.rs`.
#![forbid(unsafe_code)]

mod ahead;
mod build;
mod caller;
mod check;
mod error;
mod exit;
mod handover;
mod lazy;
mod observer;
mod options;
mod order;
mod paths;
mod phases;
mod request;
mod resumed;
pub mod serve;

pub use ahead::read_ahead;
pub use check::{check, vdso_hash};
pub use error::{Mismatch, MismatchKind, ResumeError};
pub use exit::Exit;
pub use handover::{HandOver, HandOverError};
pub use lazy::{LAZY_PAGES_MIN, Lazy, LazyLoader, LazySession, needed_first};
pub use observer::{Observer, Phase, PhaseTime, Silent};
pub use options::{ExternalPolicy, FilesPolicy, Options, PidPolicy};
pub use request::{Built, Request, Takeover, build};
pub use resumed::Resumed;
