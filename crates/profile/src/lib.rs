//! Access samples from a live instance, at a bounded cost.
//!
//! Several collectors look at the program, each with its own blind spot: write tracking finds
//! every written page exactly, page-fault records add the instruction, clock samples find reads
//! and operand types statistically. A budget holds what they cost the program under what was
//! asked. A collector that may not be used is left out and reported; the others go on.
//!
//! The program is stopped for some milliseconds at the beginning and the end, and shortly when it
//! has mapped much that is new; nothing in it has to be undone when we die. Read next:
//! [`Profiler`]; [`decode`], which turns the registers of a sample into the memory it touches.
#![forbid(unsafe_code)]

mod attach;
mod budget;
mod calibrate;
mod code;
mod convert;
mod costs;
pub mod decode;
mod drain;
mod elf;
mod error;
mod gauge;
mod hints;
mod jit;
mod maps;
mod objects;
mod options;
mod report;
mod session;
mod sink;
mod symbols;
mod writes;

pub use budget::Spent;
pub use calibrate::{CalibrateError, calibrate};
pub use costs::Costs;
pub use error::ProfileError;
pub use gauge::Referenced;
pub use maps::seen;
pub use objects::data_objects;
pub use options::Options;
pub use report::{Collector, Counts, Missing, Summary};
pub use session::Profiler;
pub use sink::{End, Sink};
