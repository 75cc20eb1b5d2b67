//! Hand-written conversions between the values of `process` and `plan` and the messages of the
//! published schema. No internal type is ever serialised: whatever changes inside, these tables
//! are what has to be changed with it, and golden checkpoints tell when they were not.

mod files;
mod graph;
mod plan;
mod references;
mod security;
mod sockets;
mod space;
mod summary;
mod task;
mod wire;

pub(crate) use plan::{coded, memory_codes, memory_of};
pub(crate) use references::check as check_references;
pub(crate) use wire::{Invalid, Wire};
