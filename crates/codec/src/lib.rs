//! Pages to bytes and back, in frames of at most [`FRAME_BYTES_MAX`]: raw, zero, LZ4 and
//! Zstandard now; a code for every treatment of `plan` is known and refused by name until its
//! coder exists (delta, typed, lossy).
//!
//! This room is pure and knows no format: where a frame's bytes lie, how they are checked and
//! which pages they are is the business of `image`. Read next: [`Encoder`], [`Decoder`].
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod frame;

pub use decode::{DecodeError, Decoder};
pub use encode::{EncodeError, Encoder, Want};
pub use frame::{FRAME_BYTES_MAX, FRAME_PAGES_MAX, Frame, is_zero};
