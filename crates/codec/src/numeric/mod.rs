//! Frames of numbers: lossless typed encoding, and error-bounded encoding of ranges that
//! somebody named.

mod bitround;
mod elements;
mod lossy;
mod pack;
mod quantise;
mod shuffle;
mod span;

pub use lossy::{LossyEncoder, LossyFrame, LossyHead, LossyPart};
pub use pack::{Effort, NumericEncoder};
pub use span::FiniteSpan;

pub(crate) use lossy::decode as decode_lossy;
pub(crate) use pack::decode as decode_typed;
