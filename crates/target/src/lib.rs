//! "A process that can be read": live and frozen, a `mem::PageSource` each.
//!
//! [`Process`] names a process for good and reads about it; [`Process::freeze`] stops all of its
//! threads until the [`Frozen`] is dropped; [`Memory`] reads its pages. Nothing here changes the
//! process: what it was asked to do on its behalf is `inject`'s business, and what the values
//! mean is `capture`'s. Read next: [`Frozen`].
#![forbid(unsafe_code)]

mod freeze;
mod memory;
mod pace;
mod process;
mod session;
mod tracker;

pub use freeze::{FreezeError, FreezeOptions, Frozen};
pub use memory::{Memory, MemoryError, ObjectFile, PrivateRange, content_of_file};
pub use pace::Pace;
pub use process::{OpenError, Process};
pub use session::SessionError;
pub use tracker::{Changed, List, Program, Released, Started, TrackError, Tracked, Tracker};
