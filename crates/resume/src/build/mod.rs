//! Building: phase by phase, from an empty process to one that equals the instance.
//!
//! The order matters, and every module says why its part comes when it does. Nothing of the
//! instance runs before [`Half::start`]; until then dropping [`Half`] ends the process and takes
//! back what was created outside it.

mod changes;
mod credentials;
mod descriptions;
mod finish;
mod flags;
mod group;
mod made;
mod mappings;
mod memory;
mod pipes;
mod place;
mod placement;
mod room;
mod script;
mod shm;
mod slots;
mod sockets;
mod start;
mod steps;
mod takeover;
mod terminal;
mod threads;
mod undo;
mod verify;
mod watches;

pub(crate) use finish::syscall_instruction;
pub(crate) use made::Place;
pub(crate) use place::{clock_offsets, place, taken};
pub(crate) use slots::{Slots, StandIn, stand_in};
pub(crate) use sockets::{shown, unix_path};
pub(crate) use start::{Loose, Started};
pub(crate) use steps::{Half, Plan, build_at};
pub(crate) use terminal::Terminal;
