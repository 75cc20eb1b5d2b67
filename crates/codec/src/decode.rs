//! Bytes to pages.

use std::fmt;

use plan::Treatment;
use zstd::bulk::Decompressor;

use crate::frame::is_frame_length;
use crate::numeric;

/// Decodes frames; one for each thread.
#[derive(Default)]
pub struct Decoder {
    zstd: Option<Decompressor<'static>>,
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
            Treatment::Zstd => self.zstd(stored, pages),
            Treatment::Typed => numeric::decode_typed(stored, pages).map(|()| expected),
            Treatment::Lossy => numeric::decode_lossy(stored, pages).map(|()| expected),
            other => return Err(DecodeError::Unsupported(other)),
        };
        let malformed =
            |detail| Err(DecodeError::Malformed { treatment, stored_bytes: stored.len(), detail });
        match written {
            Ok(length) if length == expected => Ok(()),
            Ok(length) => malformed(format!("gives {length} bytes instead of {expected}")),
            Err(detail) => malformed(detail),
        }
    }

    fn zstd(&mut self, stored: &[u8], pages: &mut [u8]) -> Result<usize, String> {
        if self.zstd.is_none() {
            self.zstd = Some(Decompressor::new().map_err(|e| e.to_string())?);
        }
        match self.zstd.as_mut() {
            Some(zstd) => zstd.decompress_to_buffer(stored, pages).map_err(|e| e.to_string()),
            None => Err("no zstd context".to_owned()),
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}
