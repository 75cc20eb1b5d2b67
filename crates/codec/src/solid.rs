//! Pages of several chunks in one frame: what repeats further apart than a chunk is found, and to
//! have one page all of it is decoded. For what nobody waits for.
//!
//! The bytes are the number of parts less one, the pages of each part less one, one byte each, and
//! a Zstandard frame of all pages, part behind part.

use crate::encode::is_level;
use crate::frame::{FRAME_PAGES_MAX, PAGE_BYTES};
use crate::zstd_frames::{Compressor, Decompressor};
use crate::{DecodeError, EncodeError};
use plan::Treatment;

/// Pages of all parts together at most: what takes little more than half a millisecond to decode, so
/// that a page somebody waits for costs not much more than a read of the disk.
pub const SOLID_PAGES_MAX: usize = 256;

/// Parts at most.
pub const SOLID_PARTS_MAX: usize = 256;

/// Stored bytes at most: no more than the pages.
pub const SOLID_BYTES_MAX: usize = SOLID_PAGES_MAX * PAGE_BYTES;

/// Encodes solid frames; one for each thread.
#[derive(Debug, Default)]
pub struct SolidEncoder {
    zstd: Compressor,
    out: Vec<u8>,
}

/// A decoded solid frame.
#[derive(Debug, Default)]
pub struct Solid {
    /// Where each part ends, in pages.
    ends: Vec<u16>,
    bytes: Vec<u8>,
}

/// Decodes solid frames; one for each thread.
#[derive(Debug, Default)]
pub struct SolidDecoder(Decompressor);

impl SolidEncoder {
    /// An encoder with an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes `pages`, which are those of the parts behind each other, with `parts` the pages of
    /// each, by zstd of `level`. `None` when that saves less than 5%.
    ///
    /// # Errors
    /// When there is no part, are too many, or they are not the pages; when zstd does not have the
    /// level or runs out of memory.
    pub fn encode(
        &mut self,
        parts: &[u8],
        pages: &[u8],
        level: i32,
    ) -> Result<Option<&[u8]>, EncodeError> {
        let is_part = |part: &u8| (1..=FRAME_PAGES_MAX).contains(&u64::from(*part));
        let sum: usize = parts.iter().map(|part| usize::from(*part)).sum();
        let is_right = (1..=SOLID_PARTS_MAX).contains(&parts.len())
            && parts.iter().all(is_part)
            && sum <= SOLID_PAGES_MAX
            && sum * PAGE_BYTES == pages.len();
        if !is_right {
            return Err(EncodeError::Parts { parts: parts.len(), bytes: pages.len() });
        }
        if !is_level(level) {
            return Err(EncodeError::Level(level));
        }
        self.out.clear();
        self.out.push(u8::try_from(parts.len() - 1).unwrap_or(u8::MAX));
        self.out.extend(parts.iter().map(|part| part - 1));
        let head = self.out.len();
        let worth_it_max = (pages.len() - pages.len() / 20).saturating_sub(head);
        self.out.resize(head + worth_it_max, 0);
        let length = self.zstd.compress_long(pages, level, &mut self.out[head..]);
        let length = length.map_err(EncodeError::Zstd)?;
        Ok(length.map(|length| &self.out[..head + length]))
    }
}

impl SolidDecoder {
    /// A decoder without buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `stored` into `solid`, whose buffers are used again. After an error there is no
    /// part in it.
    ///
    /// # Errors
    /// When `stored` is no solid frame.
    pub fn decode(&mut self, stored: &[u8], solid: &mut Solid) -> Result<(), DecodeError> {
        let decoded = self.try_decode(stored, solid);
        decoded.map_err(|detail| {
            solid.ends.clear();
            let treatment = Treatment::Solid;
            DecodeError::Malformed { treatment, stored_bytes: stored.len(), detail }
        })
    }

    fn try_decode(&mut self, stored: &[u8], solid: &mut Solid) -> Result<(), String> {
        solid.ends.clear();
        if stored.len() > SOLID_BYTES_MAX {
            return Err(format!("it has at most {SOLID_BYTES_MAX}"));
        }
        let (count, rest) = stored.split_first().ok_or("it is empty")?;
        let count = usize::from(*count) + 1;
        let (parts, frame) = rest.split_at_checked(count).ok_or("it ends among its parts")?;
        let mut end = 0;
        for part in parts {
            let pages = u16::from(*part) + 1;
            end += pages;
            if u64::from(pages) > FRAME_PAGES_MAX || usize::from(end) > SOLID_PAGES_MAX {
                return Err(format!("a part of {pages} pages, and {end} in all, are too many"));
            }
            solid.ends.push(end);
        }
        let expected = usize::from(end) * PAGE_BYTES;
        solid.bytes.resize(expected, 0);
        let length = self.0.decompress(frame, None, &mut solid.bytes)?;
        if length != expected {
            return Err(format!("gives {length} bytes instead of {expected}"));
        }
        Ok(())
    }
}

impl Solid {
    /// One of no parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing was decoded.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The pages of part `number`, counted from 0.
    pub fn part(&self, number: usize) -> Option<&[u8]> {
        let end = usize::from(*self.ends.get(number)?);
        let before = number.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.map_or(0, |end| usize::from(*end));
        self.bytes.get(start * PAGE_BYTES..end * PAGE_BYTES)
    }
}
