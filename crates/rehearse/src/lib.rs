//! A clone of a frozen instance runs for a moment and shows which pages the program touches first.
//!
//! [`Fork::take`] forks the frozen instance, which is all that its pause knows of it;
//! [`Fork::rehearse`] runs the clone, later, while the instance goes on. The clone is for looking
//! only: none of its system calls is made that `table` does not name, it has no descriptors, no
//! memory that anybody else has, and it ends with us, however we end. Why it is so:
//! docs/decisions/0013-rehearsal.md. Read next: [`Fork`], then `table`.
#![forbid(unsafe_code)]

mod calls;
mod connect;
mod descriptors;
mod error;
mod files;
mod filter;
mod fork;
mod idle;
mod input;
mod life;
mod names;
mod operate;
mod operations;
mod pages;
mod paths;
mod prepare;
mod ready;
mod room;
mod run;
mod seen;
mod serve;
mod stat;
mod table;
mod threads;

pub use error::RehearseError;
pub use fork::Fork;
pub use idle::waits_for_others;
pub use seen::{Bounds, Played, Rehearsal, Touch};
