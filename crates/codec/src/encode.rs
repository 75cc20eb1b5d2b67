//! Pages to bytes.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use plan::Treatment;
use zstd::bulk::Compressor;

use crate::frame::{FRAME_BYTES_MAX, Frame, is_frame_length, is_zero};

/// How a frame should be encoded. Zero frames are always stored as nothing, and a frame that
/// would shrink by less than 5% is stored raw whatever is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// As it is: the soonest to decode.
    Raw,
    /// LZ4 block.
    Lz4,
    /// Zstandard frame of this level, -7 to 19; negative ones are faster and larger.
    Zstd(i32),
}

/// Encodes frames; one for each thread, its buffers are used again and again.
pub struct Encoder {
    lz4_table: CompressTable,
    zstd: Option<(i32, Compressor<'static>)>,
    out: Vec<u8>,
}

/// Why a frame could not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The caller's bytes are not one frame.
    #[error("encode {0} bytes: a frame holds 1 to 16 whole pages of 4096 bytes")]
    Length(usize),
    /// The level is not one of zstd's.
    #[error("encode with zstd level {0}: levels are -7 to -1 and 1 to 19")]
    Level(i32),
    /// zstd could not work, out of memory for example.
    #[error("encode with zstd: {0}")]
    Zstd(std::io::Error),
}

impl Encoder {
    /// An encoder with empty buffers.
    pub fn new() -> Self {
        let room = get_maximum_output_size(FRAME_BYTES_MAX);
        Self { lz4_table: CompressTable::default(), zstd: None, out: vec![0; room] }
    }

    /// Encodes `pages`, 1 to 16 whole pages. The result borrows from `pages` or from the
    /// encoder's buffer and is good until the next call.
    ///
    /// # Errors
    /// When `pages` is not one frame long, the level is out of range, or zstd runs out of memory.
    pub fn encode<'a>(&'a mut self, pages: &'a [u8], want: Want) -> Result<Frame<'a>, EncodeError> {
        if !is_frame_length(pages.len()) {
            return Err(EncodeError::Length(pages.len()));
        }
        if is_zero(pages) {
            return Ok(Frame { treatment: Treatment::Zero, bytes: &[] });
        }
        let worth_it_max = pages.len() - pages.len() / 20;
        let (treatment, length) = match want {
            Want::Raw => (Treatment::Raw, None),
            Want::Lz4 => (Treatment::Lz4, self.lz4(pages)),
            Want::Zstd(level) => (Treatment::Zstd, self.zstd(pages, level, worth_it_max)?),
        };
        Ok(match length.filter(|&length| length <= worth_it_max) {
            Some(length) => Frame { treatment, bytes: &self.out[..length] },
            None => Frame { treatment: Treatment::Raw, bytes: pages },
        })
    }

    /// The length of the LZ4 block in `out`; `None` when it does not fit.
    fn lz4(&mut self, pages: &[u8]) -> Option<usize> {
        compress_into_with_table(pages, &mut self.out, &mut self.lz4_table).ok()
    }

    /// The length of the zstd frame in `out`; `None` when it does not fit into `room` bytes.
    fn zstd(
        &mut self,
        pages: &[u8],
        level: i32,
        room: usize,
    ) -> Result<Option<usize>, EncodeError> {
        // zstd takes 0 for its default; here every level has one name.
        if level == 0 || !(-7..=19).contains(&level) {
            return Err(EncodeError::Level(level));
        }
        let fits = self.zstd.as_ref().is_some_and(|(have, _)| *have == level);
        if !fits {
            self.zstd = Some((level, Compressor::new(level).map_err(EncodeError::Zstd)?));
        }
        let Some((_, compressor)) = self.zstd.as_mut() else { return Ok(None) };
        match compressor.compress_to_buffer(pages, &mut self.out[..room]) {
            Ok(length) => Ok(Some(length)),
            Err(e) if e.kind() == std::io::ErrorKind::OutOfMemory => Err(EncodeError::Zstd(e)),
            // The only other failure of a one-shot compression with valid parameters is that the
            // result is longer than the room, which is what the room is for.
            Err(_) => Ok(None),
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}
