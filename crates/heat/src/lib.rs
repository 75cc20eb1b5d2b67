//! Access samples to heat: what a program touched, how often, as which data, from which code, and
//! how sure that is.
//!
//! Collectors feed [`Sample`]s and the times in which they watched into an [`Accumulator`]. This
//! room is pure: it reads no clock and knows no process. Read next: [`Sample`],
//! [`Accumulator`].
#![forbid(unsafe_code)]

mod accumulator;
mod key;
mod layout;
mod sample;

pub use accumulator::{Accumulator, INTERVAL_NS, INTERVALS_MAX, Start, Watched};
pub use key::{FileKey, MappingKey, Place, RunId};
pub use layout::{Layout, Region, Seen};
pub use sample::{AccessKind, Operand, OperandClass, Sample, Source};
