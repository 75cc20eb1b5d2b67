//! Pages to bytes and back, in frames of at most [`FRAME_BYTES_MAX`], or several of these together
//! ([`Solid`]): raw, zero, LZ4 and
//! Zstandard, the difference to other pages, numbers without loss and with a bounded one; which
//! of them for which region; and bytes that equal a file's.
//!
//! This room is pure and knows no format: where a frame's bytes lie, how they are checked and
//! which pages they are is the business of `image`. Read next: [`Encoder`], [`Decoder`].
#![forbid(unsafe_code)]

mod back_end;
mod choose;
mod decode;
mod encode;
mod frame;
mod level;
mod numeric;
mod smallest;
mod solid;
mod twin;
mod zstd_frames;

pub use back_end::{BackEnd, CodeError, Cpu, Done, Full, Job, Ticket, Work};
pub use choose::{Aim, Chooser, Form};
pub use decode::{DecodeError, Decoder};
pub use encode::{EncodeError, Encoder, Want};
pub use frame::{FRAME_BYTES_MAX, FRAME_PAGES_MAX, Frame, is_zero};
pub use level::{DiskCost, LEVELS, LevelCost, choose_level};
pub use numeric::{
    Effort, FiniteSpan, LossyEncoder, LossyFrame, LossyHead, LossyPart, NumericEncoder,
};
pub use smallest::SmallestEncoder;
pub use solid::{
    SOLID_BYTES_MAX, SOLID_PAGES_MAX, SOLID_PARTS_MAX, Solid, SolidDecoder, SolidEncoder,
};
pub use twin::{Slices, TwinBudget, TwinFiles, TwinIndex, TwinRun, TwinSearch};
