//! The fault server: pages of a running program on demand, and in the background.
//!
//! A [`Ledger`] is shared by the keeper (the agent) and the server it has made with
//! `sys::clone::fork_sharing_files`. The server's [`Server::run`] answers faults until everything
//! is there. If it is killed, the keeper makes another, which goes on from the ledger; the
//! program's threads wait meanwhile, because the descriptor table they share holds the
//! userfaultfds open.
//!
//! A message of the kernel says what changed *before* the program goes on, so: messages are read
//! and applied under one lock, a page is looked up and put in under the same lock, and when the
//! kernel says that a message is unread ([`Obstacle::Changing`](sys::userfault::Obstacle)) the
//! page is looked up again after it was read.

mod fill;
mod held;
mod layout;
mod ledger;
mod missing;
mod pages;
mod pause;
mod queue;
mod server;
mod spaces;
mod status;
mod trouble;
mod view;

pub use held::HeldBack;
pub use ledger::Ledger;
pub use missing::Missing;
pub use pause::Pause;
pub use server::{Ended, PlanOf, ServeError, Server, begin};
pub use status::ServeStatus;
