//! Access samples to heat: what a program touched, how often, as which data, from which code, and
//! how sure that is.
//!
//! Collectors feed [`Sample`]s and the times in which they watched into an [`Accumulator`]; at
//! the end of a window it gives a [`Heat`], which is merged with others, decays with the time
//! that is passed in, and is written as a `.heat` file. This room is pure: it reads no clock and
//! knows no process. Read next: [`Sample`], [`Accumulator`], [`Heat`].
#![forbid(unsafe_code)]

mod accumulator;
mod bytes;
mod column;
mod error;
mod file;
mod fold;
mod heat;
mod intervals;
mod key;
mod layout;
mod merge;
mod project;
mod read;
mod sample;
mod slot;
mod tally;
mod uses;

pub use accumulator::{Accumulator, INTERVAL_NS, INTERVALS_MAX, Start, Watched};
pub use error::HeatError;
pub use file::{HEAT_FORMAT_VERSION, HEAT_HEADER_BYTES};
pub use heat::{Cell, Heat, Symbol, TIMELINE_PAGES, Variable, Window};
pub use key::{FileKey, MappingKey, Place, RunId};
pub use layout::{Layout, Region, Seen};
pub use read::{Certainty, Decayed, PageHeat, Reading};
pub use sample::{AccessKind, Operand, OperandClass, Sample, Source};
pub use tally::{Rate, Tally};
pub use uses::{Code, Use};
