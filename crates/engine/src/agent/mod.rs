//! The agent: the one process of ours that stays with a program whose memory is not all there.
//!
//! `resume` starts it ([`link`]) and hands it the program's userfaultfd. It is a re-execution of
//! ourselves with one thread, because it makes two more processes with its own descriptor table
//! (`sys::clone::fork_sharing_files`): the fault server ([`server`]), which has threads, and a
//! holder that sleeps. None of the three can be killed so that the program's missing pages turn
//! into zeros: the last reference to the userfaultfds is in a table that all three hold.
//!
//! - The server dies: the keeper makes another, which goes on from the ledger.
//! - The keeper dies: the server has a new agent executed, hands over, and ends.
//! - Both die: the program's threads wait for their pages; the next verb that meets the instance
//!   has an agent take over from the holder.
//! - All three die: the kernel fills missing pages with zeros (docs/LIMITS.md).
//!
//! Once all of it is open the three keep only the rights that they need, and may make only the
//! system calls that they make ([`confine`]).
//!
//! A checkpoint of a program that is not all there asks what is missing and refers to it where it
//! is stored ([`borrow`]).
//!
//! Read next: [`keeper`].

mod borrow;
mod brief;
mod confine;
mod control;
mod faults;
mod keeper;
mod link;
mod record;
mod revive;
mod server;

pub(crate) use borrow::{Served, served};
pub(crate) use brief::Brief;
pub(crate) use control::faults;
pub use control::{StatusError, StatusReport, StatusRow, status};
pub use keeper::{AgentError, AgentStart, run as run_agent};
pub(crate) use link::AgentLink;
pub(crate) use record::is_recorded;
