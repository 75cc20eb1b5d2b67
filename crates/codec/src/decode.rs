//! Bytes to pages.

use std::fmt;

use plan::Treatment;

use crate::frame::{FRAME_BYTES_MAX, is_frame_length};
use crate::numeric;
use crate::zstd_frames::{Decompressor, is_base};

/// Decodes frames; one for each thread.
#[derive(Default)]
pub struct Decoder {
    zstd: Decompressor,
}

/// Why bytes are not the frame they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The caller's buffer is not one frame.
    #[error("decode into {0} bytes: a frame holds 1 to 16 whole pages of 4096 bytes")]
    Length(usize),
    /// No decoder for this treatment in this version.
    #[error(
        "decode a frame of treatment {} (code {}): this version has no decoder for it, use a newer one",
        .0.name(), .0.code()
    )]
    Unsupported(Treatment),
    /// The bytes are not a valid frame.
    #[error("decode {stored_bytes} bytes as {}: {detail}", treatment.name())]
    Malformed {
        /// How they were to be read.
        treatment: Treatment,
        /// How many there are.
        stored_bytes: usize,
        /// What is wrong with them.
        detail: String,
    },
}

impl Decoder {
    /// A decoder with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `stored` into `pages`, which is exactly as long as the frame's pages. After an
    /// error the content of `pages` is unspecified and must not be used.
    ///
    /// # Errors
    /// When `stored` does not decode to exactly `pages.len()` bytes, or the treatment has no
    /// decoder.
    pub fn decode(
        &mut self,
        treatment: Treatment,
        stored: &[u8],
        pages: &mut [u8],
    ) -> Result<(), DecodeError> {
        if !is_frame_length(pages.len()) {
            return Err(DecodeError::Length(pages.len()));
        }
        let expected = pages.len();
        let written = match treatment {
            Treatment::Raw if stored.len() == expected => {
                pages.copy_from_slice(stored);
                Ok(expected)
            }
            Treatment::Raw => Ok(stored.len()),
            Treatment::Zero if stored.is_empty() => {
                pages.fill(0);
                Ok(expected)
            }
            Treatment::Zero => Err("a zero frame has no bytes".to_owned()),
            Treatment::Lz4 => {
                lz4_flex::block::decompress_into(stored, pages).map_err(|e| e.to_string())
            }
            Treatment::Zstd => self.zstd.decompress(stored, None, pages),
            Treatment::Typed => numeric::decode_typed(stored, pages).map(|()| expected),
            Treatment::Lossy => numeric::decode_lossy(stored, pages).map(|()| expected),
            other => return Err(DecodeError::Unsupported(other)),
        };
        complete(treatment, stored, expected, written)
    }

    /// Like [`Decoder::decode`], for a frame that is the difference to `base`.
    ///
    /// # Errors
    /// As [`Decoder::decode`]; when `base` is none that [`crate::Encoder::encode_against`] takes.
    pub fn decode_delta(
        &mut self,
        base: &[u8],
        stored: &[u8],
        pages: &mut [u8],
    ) -> Result<(), DecodeError> {
        if !is_frame_length(pages.len()) {
            return Err(DecodeError::Length(pages.len()));
        }
        let expected = pages.len();
        let written = if base.len() > FRAME_BYTES_MAX || !is_base(base) {
            Err(format!("{} bytes are no base of a delta", base.len()))
        } else {
            self.zstd.decompress(stored, Some(base), pages)
        };
        complete(Treatment::Delta, stored, expected, written)
    }
}

/// Whether exactly the bytes that were expected came out.
fn complete(
    treatment: Treatment,
    stored: &[u8],
    expected: usize,
    written: Result<usize, String>,
) -> Result<(), DecodeError> {
    let malformed =
        |detail| Err(DecodeError::Malformed { treatment, stored_bytes: stored.len(), detail });
    match written {
        Ok(length) if length == expected => Ok(()),
        Ok(length) => malformed(format!("gives {length} bytes instead of {expected}")),
        Err(detail) => malformed(detail),
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}
