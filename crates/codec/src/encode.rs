//! Pages to bytes.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use plan::{NumericType, Treatment};

use crate::frame::{FRAME_BYTES_MAX, Frame, PAGE_BYTES, is_frame_length, is_zero};
use crate::numeric::{Effort, NumericEncoder};
use crate::zstd_frames::{Compressor, DELTA_LEVEL_MIN, is_base};

/// A delta of at most one byte for this many bytes of pages is taken without looking whether the
/// pages alone would be shorter: they could save 128 bytes for each page at best.
const PLAINLY_SMALL: usize = 32;

/// How a frame should be encoded. Zero frames are always stored as nothing, and a frame that
/// would shrink by less than 5% is stored raw whatever is wanted. One that hardly shrinks is
/// stored as numbers, in bit planes, where it shrinks more as these.
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
    zstd: Compressor,
    out: Vec<u8>,
    /// A second result, where two are made to take the shorter one.
    delta: Vec<u8>,
    numeric: NumericEncoder,
}

/// Why a frame could not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The caller's bytes are not one frame.
    #[error("encode {0} bytes: a frame holds 1 to 16 whole pages of 4096 bytes")]
    Length(usize),
    /// The caller's bytes are not the pages of the parts.
    #[error(
        "encode {parts} parts of {bytes} bytes together: 1 to 256 parts of 1 to 16 whole pages each \
         make up to 256 pages"
    )]
    Parts {
        /// How many parts there were to be.
        parts: usize,
        /// Bytes of all of them.
        bytes: usize,
    },
    /// The level is not one of zstd's.
    #[error("encode with zstd level {0}: levels are -7 to -1 and 1 to 19")]
    Level(i32),
    /// The base is no frame's pages.
    #[error("encode against a base of {0} bytes: it has at most {FRAME_BYTES_MAX}")]
    Base(usize),
    /// zstd could not work, out of memory for example.
    #[error("encode with zstd: {0}")]
    Zstd(std::io::Error),
}

impl Encoder {
    /// An encoder with empty buffers.
    pub fn new() -> Self {
        let room = get_maximum_output_size(FRAME_BYTES_MAX);
        Self {
            lz4_table: CompressTable::default(),
            zstd: Compressor::default(),
            out: vec![0; room],
            delta: Vec::new(),
            numeric: NumericEncoder::new(),
        }
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
        let (treatment, length) = self.plain(pages, want)?;
        Ok(Frame { treatment, bytes: length.map_or(pages, |length| &self.out[..length]) })
    }

    /// Like [`Encoder::encode`], but where that is shorter as the difference to `base`: bytes of
    /// which many are probably in `pages` too, at most as many as a frame has. Decoding needs
    /// exactly the same base. Deltas are made by zstd, of level 1 or higher, whatever is wanted
    /// for frames without a base.
    ///
    /// # Errors
    /// As [`Encoder::encode`]; when `base` is longer than a frame.
    pub fn encode_against<'a>(
        &'a mut self,
        pages: &'a [u8],
        base: &[u8],
        want: Want,
    ) -> Result<Frame<'a>, EncodeError> {
        if base.len() > FRAME_BYTES_MAX {
            return Err(EncodeError::Base(base.len()));
        }
        if !is_frame_length(pages.len()) || is_zero(pages) {
            return self.encode(pages, want);
        }
        let Some(length) = self.delta(pages, base, want)? else {
            return self.encode(pages, want);
        };
        if length * PLAINLY_SMALL > pages.len() {
            let (treatment, plain) = self.plain(pages, want)?;
            if let Some(plain) = plain.filter(|plain| *plain <= length) {
                return Ok(Frame { treatment, bytes: &self.out[..plain] });
            }
        }
        Ok(Frame { treatment: Treatment::Delta, bytes: &self.delta[..length] })
    }

    /// Encodes into `out`: how, and the length there; `None` when `pages` are to be stored as
    /// they are.
    fn plain(
        &mut self,
        pages: &[u8],
        want: Want,
    ) -> Result<(Treatment, Option<usize>), EncodeError> {
        let room = worth_it_max(pages);
        let (treatment, length) = match want {
            Want::Raw => (Treatment::Raw, None),
            Want::Lz4 => (Treatment::Lz4, self.lz4(pages)),
            Want::Zstd(level) => (Treatment::Zstd, self.zstd(pages, level, room)?),
        };
        let length = length.filter(|&length| length <= room);
        if want != Want::Raw
            && let Some(packed) = self.numbers(pages, length.unwrap_or(room))?
        {
            return Ok((Treatment::Typed, Some(packed)));
        }
        Ok(length.map_or((Treatment::Raw, None), |length| (treatment, Some(length))))
    }

    /// Floating-point numbers hardly shrink as bytes and much better as numbers. Where `length`,
    /// which is what was reached as bytes, is not much less than the pages, they are tried:
    /// with what shrinks the first page, if anything does. The length of the shorter encoding
    /// that is in `out` then.
    fn numbers(&mut self, pages: &[u8], length: usize) -> Result<Option<usize>, EncodeError> {
        const WIDTHS: [NumericType; 2] = [NumericType::F64, NumericType::F32];
        if length * 8 < pages.len() * 7 {
            return Ok(None);
        }
        let first = &pages[..pages.len().min(PAGE_BYTES)];
        let mut best: Option<(NumericType, usize)> = None;
        for width in WIDTHS.into_iter().filter(|width| may_be(first, *width)) {
            let packed = self.numeric.encode(first, width, Effort::Fast)?;
            let length = packed.bytes.len();
            let shrinks = packed.treatment == Treatment::Typed;
            if shrinks && best.is_none_or(|(_, least)| length < least) {
                best = Some((width, length));
            }
        }
        let Some((width, _)) = best else { return Ok(None) };
        let packed = self.numeric.encode(pages, width, Effort::Fast)?;
        if packed.treatment != Treatment::Typed || packed.bytes.len() >= length {
            return Ok(None);
        }
        self.out[..packed.bytes.len()].copy_from_slice(packed.bytes);
        Ok(Some(packed.bytes.len()))
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
        if !is_level(level) {
            return Err(EncodeError::Level(level));
        }
        self.zstd.compress(pages, None, level, &mut self.out[..room]).map_err(EncodeError::Zstd)
    }

    /// The length of the delta in `delta`; `None` when there is none worth its while.
    fn delta(
        &mut self,
        pages: &[u8],
        base: &[u8],
        want: Want,
    ) -> Result<Option<usize>, EncodeError> {
        if !is_base(base) {
            return Ok(None);
        }
        let level = match want {
            Want::Zstd(level) if !is_level(level) => return Err(EncodeError::Level(level)),
            Want::Zstd(level) => level.max(DELTA_LEVEL_MIN),
            Want::Raw | Want::Lz4 => DELTA_LEVEL_MIN,
        };
        self.delta.resize(FRAME_BYTES_MAX, 0);
        let room = &mut self.delta[..worth_it_max(pages)];
        self.zstd.compress(pages, Some(base), level, room).map_err(EncodeError::Zstd)
    }
}

/// Whether `page` may hold numbers of a floating-point type: their highest bytes (sign and
/// exponent) have few values, their lowest ones many. Noise has many in both, text few. It takes a
/// hundredth of the time of encoding a frame.
pub(crate) fn may_be(page: &[u8], numeric: NumericType) -> bool {
    const FEW: u32 = 64;
    let width = numeric.width_bytes();
    let values = |place: usize| {
        let mut seen = [0_u64; 4];
        for byte in page.iter().skip(place).step_by(width) {
            seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        seen.iter().map(|word| word.count_ones()).sum::<u32>()
    };
    let highest = values(width - 1);
    highest <= FEW && values(0) >= 2 * highest
}

/// The longest encoding of `pages` that is worth decoding: 5% saved.
fn worth_it_max(pages: &[u8]) -> usize {
    pages.len() - pages.len() / 20
}

/// Whether zstd has this level. It takes 0 for its default; here every level has one name.
pub(crate) fn is_level(level: i32) -> bool {
    level != 0 && (-7..=19).contains(&level)
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
