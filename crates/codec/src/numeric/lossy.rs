//! Error-bounded encoding of a part of a frame that somebody named.
//!
//! Every frame is decoded again and each element held against the bound before it is given out.
//! What cannot be kept within it, and NaN, infinities, -0 and subnormal numbers, come back bit by
//! bit; so does everything in the frame outside of the part.
//!
//! Stored: form (1 byte), type (1), start and end of the part in bytes (4 each), the bytes before
//! and behind it as they are, and then for quantised parts the bound (8), the number of
//! exceptions (4), their positions (2 each) and elements, and the steps as a pco file of i64; for
//! rounded parts a typed frame.

use std::fmt;
use std::ops::Range;

use pco::ChunkConfig;
use plan::{LossBound, NumericType, Treatment};

use super::bitround::round_all;
use super::elements::{BOUND_MIN, Element, is_float, load_all, store_all, with_element};
use super::pack::{self, Effort, NumericEncoder, unpco};
use super::quantise::{Grid, Quantise, quantise};
use crate::EncodeError;
use crate::frame::{Frame, is_frame_length};

const FORM_QUANTISED: u8 = 1;
const FORM_ROUNDED: u8 = 2;
const HEAD_BYTES: usize = 10;

/// The part of a frame for which a loss is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct LossyPart {
    /// Which bytes of the frame; whole elements.
    pub bytes: Range<usize>,
    /// What they are.
    pub numeric: NumericType,
    /// What is allowed.
    pub bound: LossBound,
}

/// An encoded frame, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossyFrame<'a> {
    /// What to store.
    pub frame: Frame<'a>,
    /// The largest error of any element.
    pub largest_error: f64,
    /// Elements that do not come back bit by bit.
    pub elements_changed: u64,
    /// The pages as they come back.
    pub pages: &'a [u8],
}

/// What the stored bytes of a lossy frame say of themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct LossyHead {
    /// The part of the frame in which elements may have changed.
    pub bytes: Range<usize>,
    /// What they are.
    pub numeric: NumericType,
    /// How far they may be from what they were; `None` where mantissas were rounded.
    pub bound: Option<f64>,
}

impl LossyHead {
    /// The head of a frame of `frame_bytes` bytes of pages; `None` when `stored` is none.
    pub fn read(stored: &[u8], frame_bytes: usize) -> Option<Self> {
        let (form, numeric) = (*stored.first()?, *stored.get(1)?);
        let numeric = NumericType::try_from(numeric).ok()?;
        let mut rest = stored.get(2..)?;
        let (start, end) = (take_u32(&mut rest).ok()?, take_u32(&mut rest).ok()?);
        let is_part = start < end && end <= frame_bytes;
        if !is_part || !(end - start).is_multiple_of(numeric.width_bytes()) {
            return None;
        }
        // What lies before the part and behind it.
        take(&mut rest, start + frame_bytes - end).ok()?;
        let bound = match form {
            FORM_ROUNDED => None,
            FORM_QUANTISED => Some(f64::load(take(&mut rest, 8).ok()?)),
            _ => return None,
        };
        Some(Self { bytes: start..end, numeric, bound })
    }
}

/// Encodes frames with a loss; one for each thread.
#[derive(Default)]
pub struct LossyEncoder {
    numeric: NumericEncoder,
    out: Vec<u8>,
    decoded: Vec<u8>,
}

impl LossyEncoder {
    /// An encoder with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes `pages`, 1 to 16 whole pages. `None` when nothing is gained by a loss here: the
    /// bound is 0 or no number, integers with a pointwise relative bound, or less than 5% saved.
    /// The caller then encodes without loss.
    ///
    /// # Errors
    /// When `pages` is not one frame long, or the part is none of it.
    pub fn encode<'a>(
        &'a mut self,
        pages: &[u8],
        part: &LossyPart,
    ) -> Result<Option<LossyFrame<'a>>, EncodeError> {
        let Range { start, end } = part.bytes;
        let width = part.numeric.width_bytes();
        let is_part = start < end && end <= pages.len() && (end - start).is_multiple_of(width);
        if !is_frame_length(pages.len()) || !is_part {
            return Err(EncodeError::Length(pages.len()));
        }
        if !part.bound.is_valid() {
            return Ok(None);
        }
        let done = match part.bound {
            LossBound::Relative(bound) => bound > 0.0 && self.rounded(pages, part, bound),
            LossBound::Absolute(bound) => self.quantised(pages, part, bound),
            LossBound::RangeRelative { fraction, span } => {
                self.quantised(pages, part, fraction * span)
            }
        };
        if !done || self.out.len() > pages.len() - pages.len() / 20 {
            return Ok(None);
        }
        let Some((largest_error, elements_changed)) = self.check(pages, part) else {
            return Ok(None);
        };
        let frame = Frame { treatment: Treatment::Lossy, bytes: &self.out };
        Ok(Some(LossyFrame { frame, largest_error, elements_changed, pages: &self.decoded }))
    }

    fn head(&mut self, form: u8, pages: &[u8], part: &LossyPart) {
        let Range { start, end } = part.bytes;
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes();
        self.out.clear();
        self.out.extend_from_slice(&[form, part.numeric.code()]);
        self.out.extend_from_slice(&place(start));
        self.out.extend_from_slice(&place(end));
        self.out.extend_from_slice(&pages[..start]);
        self.out.extend_from_slice(&pages[end..]);
    }

    fn rounded(&mut self, pages: &[u8], part: &LossyPart, bound: f64) -> bool {
        self.head(FORM_ROUNDED, pages, part);
        let mut bytes = pages[part.bytes.clone()].to_vec();
        match part.numeric {
            NumericType::F32 => {
                let mut elements = load_all::<f32>(&bytes);
                round_all(&mut elements, bound);
                store_all(&elements, &mut bytes);
            }
            NumericType::F64 => {
                let mut elements = load_all::<f64>(&bytes);
                round_all(&mut elements, bound);
                store_all(&elements, &mut bytes);
            }
            _ => return false,
        }
        self.out.extend_from_slice(self.numeric.pack(&bytes, part.numeric, Effort::Small));
        true
    }

    fn quantised(&mut self, pages: &[u8], part: &LossyPart, bound: f64) -> bool {
        let least = if is_float(part.numeric) { BOUND_MIN } else { 1.0 };
        if !(bound >= least && bound.is_finite()) {
            return false;
        }
        self.head(FORM_QUANTISED, pages, part);
        self.out.extend_from_slice(&bound.to_le_bytes());
        let bytes = &pages[part.bytes.clone()];
        with_element!(part.numeric, T => put_quantised::<T>(bytes, bound, &mut self.out))
    }

    /// Decodes what was encoded. The largest error and the number of elements that changed, or
    /// `None` when anything is not as it has to be.
    fn check(&mut self, pages: &[u8], part: &LossyPart) -> Option<(f64, u64)> {
        self.decoded.clear();
        self.decoded.resize(pages.len(), 0);
        decode(&self.out, &mut self.decoded).ok()?;
        let Range { start, end } = part.bytes;
        if self.decoded[..start] != pages[..start] || self.decoded[end..] != pages[end..] {
            return None;
        }
        let (before, after) = (&pages[start..end], &self.decoded[start..end]);
        with_element!(part.numeric, T => compare::<T>(before, after, part.bound))
    }
}

fn same_bits<T: Element>(x: &[u8], y: &[u8]) -> bool {
    x[..T::WIDTH] == y[..T::WIDTH]
}

fn compare<T: Element>(before: &[u8], after: &[u8], bound: LossBound) -> Option<(f64, u64)> {
    let (mut largest, mut changed) = (0.0_f64, 0);
    for (x, y) in before.chunks_exact(T::WIDTH).zip(after.chunks_exact(T::WIDTH)) {
        if !same_bits::<T>(x, y) {
            largest = largest.max(x_error::<T>(x, y, bound)?);
            changed += 1;
        }
    }
    Some((largest, changed))
}

fn x_error<T: Element>(x: &[u8], y: &[u8], bound: LossBound) -> Option<f64> {
    let x = T::load(x);
    x.error(T::load(y), bound.allowed(x.value()))
}

fn put_quantised<T: Quantise>(bytes: &[u8], bound: f64, out: &mut Vec<u8>) -> bool {
    let elements = load_all::<T>(bytes);
    let fits = |x: T, y: T| x == y || x.error(y, bound).is_some();
    let quantised = quantise(&elements, Grid { bound }, fits);
    let config = ChunkConfig::default().with_compression_level(4);
    let Ok(steps) = pco::standalone::simple_compress(&quantised.steps, &config) else {
        return false;
    };
    let count = u32::try_from(quantised.exceptions.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for position in &quantised.exceptions {
        out.extend_from_slice(&position.to_le_bytes());
    }
    for position in &quantised.exceptions {
        let at = usize::from(*position) * T::WIDTH;
        out.extend_from_slice(&bytes[at..at + T::WIDTH]);
    }
    out.extend_from_slice(&steps);
    true
}

/// Cuts `count` bytes off the front of `stored`.
fn take<'a>(stored: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    let (front, rest) = stored.split_at_checked(count).ok_or("is cut short")?;
    *stored = rest;
    Ok(front)
}

fn take_u32(stored: &mut &[u8]) -> Result<usize, String> {
    let bytes = take(stored, 4)?;
    let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    usize::try_from(number).map_err(|e| e.to_string())
}

/// Decodes a lossy frame into `pages`, which is exactly as long as it.
pub(crate) fn decode(stored: &[u8], pages: &mut [u8]) -> Result<(), String> {
    if stored.len() < HEAD_BYTES {
        return Err("is too short to name its form".to_owned());
    }
    let (form, numeric) = (stored[0], stored[1]);
    let numeric = NumericType::try_from(numeric).map_err(|e| format!("type: {e}"))?;
    let mut rest = &stored[2..];
    let (start, end) = (take_u32(&mut rest)?, take_u32(&mut rest)?);
    if start >= end || end > pages.len() || !(end - start).is_multiple_of(numeric.width_bytes()) {
        return Err(format!("names bytes {start} to {end} of {}", pages.len()));
    }
    let length = pages.len();
    pages[..start].copy_from_slice(take(&mut rest, start)?);
    pages[end..].copy_from_slice(take(&mut rest, length - end)?);
    let part = &mut pages[start..end];
    match form {
        FORM_ROUNDED => pack::decode(rest, part),
        FORM_QUANTISED => with_element!(numeric, T => take_quantised::<T>(rest, part)),
        other => Err(format!("form {other} is not known to this version")),
    }
}

fn take_quantised<T: Quantise>(mut stored: &[u8], part: &mut [u8]) -> Result<(), String> {
    let bound = f64::load(take(&mut stored, 8)?);
    if !(bound > 0.0 && bound.is_finite()) {
        return Err("has a bound that is none".to_owned());
    }
    let count = take_u32(&mut stored)?;
    let elements = part.len() / T::WIDTH;
    if count > elements {
        return Err(format!("has {count} exceptions among {elements} elements"));
    }
    let positions = take(&mut stored, count * 2)?;
    let exact = take(&mut stored, count * T::WIDTH)?;
    let mut steps = vec![0i64; elements];
    unpco(stored, &mut steps)?;
    let grid = Grid { bound };
    for (steps, place) in steps.into_iter().zip(part.chunks_exact_mut(T::WIDTH)) {
        // What has no value is an exception, or the frame is damaged and will be refused by its
        // hash; either way a value is put in that is no noise.
        T::of_steps(steps, grid).unwrap_or_else(|| T::load(&[0; 8])).store(place);
    }
    for (position, element) in positions.chunks_exact(2).zip(exact.chunks_exact(T::WIDTH)) {
        let at = usize::from(u16::from_le_bytes([position[0], position[1]])) * T::WIDTH;
        let place = part.get_mut(at..at + T::WIDTH);
        place.ok_or("has an exception behind its last element")?.copy_from_slice(element);
    }
    Ok(())
}

impl fmt::Debug for LossyEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossyEncoder").finish_non_exhaustive()
    }
}
