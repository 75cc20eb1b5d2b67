//! The kinds of state, one file per subject.

pub mod advised;
pub mod clock;
pub mod events;
pub mod files;
pub mod filtered;
pub mod fired;
pub mod heap;
mod in_call;
pub mod in_sleep;
pub mod in_wait;
pub mod leftovers;
pub mod mapped_files;
pub mod pairs;
pub mod pipes;
pub mod private;
pub mod process;
pub mod protected;
pub mod registers;
pub mod scheduling;
pub mod shared;
pub mod signals;
pub mod sockets;
pub mod stack;
pub mod threads;
pub mod timer_fds;
pub mod timers;
pub mod work;
