//! Lossless encoding of elements of one type.
//!
//! A stored typed frame is one byte for the form, one for the type, and the rest.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use pco::ChunkConfig;
use plan::{NumericType, Treatment};

use super::elements::{Element, load_all, store_all, with_element};
use super::shuffle::{shuffle, unshuffle};
use crate::EncodeError;
use crate::frame::{FRAME_BYTES_MAX, Frame, is_frame_length, is_zero};

/// Bits put into planes, then LZ4.
const FORM_PLANES: u8 = 1;
/// A pco file (<https://github.com/pcodec/pcodec>), of the format of pco 1.
const FORM_PCO: u8 = 2;

/// More gains hardly anything and takes three times as long.
const PCO_LEVEL: usize = 4;

/// How much work an encoding may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effort {
    /// About as fast as LZ4: bit planes.
    Fast,
    /// The smaller of bit planes and pco, at a tenth of the speed: for the background.
    Small,
}

/// Encodes frames of numbers without loss; one for each thread.
pub struct NumericEncoder {
    table: CompressTable,
    planes: Vec<u8>,
    out: Vec<u8>,
}

impl NumericEncoder {
    /// An encoder with empty buffers.
    pub fn new() -> Self {
        let room = 2 + get_maximum_output_size(FRAME_BYTES_MAX);
        Self {
            table: CompressTable::default(),
            planes: vec![0; FRAME_BYTES_MAX],
            out: Vec::with_capacity(room),
        }
    }

    /// Encodes `pages`, 1 to 16 whole pages of elements. Any bytes come back as they were; they
    /// only become smaller if they are such elements. Zero frames are stored as nothing, frames
    /// that would shrink by less than 5% as they are.
    ///
    /// # Errors
    /// When `pages` is not one frame long.
    pub fn encode<'a>(
        &'a mut self,
        pages: &'a [u8],
        numeric: NumericType,
        effort: Effort,
    ) -> Result<Frame<'a>, EncodeError> {
        if !is_frame_length(pages.len()) {
            return Err(EncodeError::Length(pages.len()));
        }
        if is_zero(pages) {
            return Ok(Frame { treatment: Treatment::Zero, bytes: &[] });
        }
        self.pack(pages, numeric, effort);
        Ok(if self.out.len() <= pages.len() - pages.len() / 20 {
            Frame { treatment: Treatment::Typed, bytes: &self.out }
        } else {
            Frame { treatment: Treatment::Raw, bytes: pages }
        })
    }

    /// Packs `bytes`, whole elements and at most a frame of them, however well that works.
    pub(crate) fn pack(&mut self, bytes: &[u8], numeric: NumericType, effort: Effort) -> &[u8] {
        self.out.clear();
        self.out.extend_from_slice(&[FORM_PLANES, numeric.code()]);
        self.out.resize(2 + get_maximum_output_size(bytes.len()), 0);
        let planes = &mut self.planes[..bytes.len()];
        shuffle(bytes, numeric.width_bytes(), planes);
        // The room is the largest there can be, so nothing but a defect of lz4 can fail here;
        // then the frame counts as one that did not shrink.
        match compress_into_with_table(planes, &mut self.out[2..], &mut self.table) {
            Ok(length) => self.out.truncate(2 + length),
            Err(_) => self.out.resize(2 + bytes.len() + bytes.len() / 8, 0),
        }
        if effort == Effort::Small
            && let Some(packed) = pco(bytes, numeric)
            && packed.len() + 2 < self.out.len()
        {
            self.out.clear();
            self.out.extend_from_slice(&[FORM_PCO, numeric.code()]);
            self.out.extend_from_slice(&packed);
        }
        &self.out
    }
}

/// The bytes as a pco file; `None` where pco cannot.
fn pco(bytes: &[u8], numeric: NumericType) -> Option<Vec<u8>> {
    let config = ChunkConfig::default().with_compression_level(PCO_LEVEL).with_enable_8_bit(true);
    with_element!(numeric, T => {
        pco::standalone::simple_compress(&load_all::<T>(bytes), &config).ok()
    })
}

fn unpack_pco<T: Element>(stored: &[u8], bytes: &mut [u8]) -> Result<(), String> {
    let mut elements = vec![T::load(&[0; 8]); bytes.len() / T::WIDTH];
    unpco(stored, &mut elements)?;
    store_all(&elements, bytes);
    Ok(())
}

/// Reads a pco file of exactly as many elements as there is room for.
pub(crate) fn unpco<T: Element>(stored: &[u8], elements: &mut [T]) -> Result<(), String> {
    let progress = pco::standalone::simple_decompress_into(stored, elements)
        .map_err(|e| format!("pco: {e}"))?;
    if progress.n_processed != elements.len() || !progress.finished {
        let (found, expected) = (progress.n_processed, elements.len());
        return Err(format!("pco: gives {found} or more elements instead of {expected}"));
    }
    Ok(())
}

/// Unpacks a typed frame into `bytes`, which is exactly as long as its elements.
pub(crate) fn decode(stored: &[u8], bytes: &mut [u8]) -> Result<(), String> {
    let [form, numeric, stored @ ..] = stored else {
        return Err("is too short to name its form".to_owned());
    };
    let numeric = NumericType::try_from(*numeric).map_err(|e| format!("type: {e}"))?;
    if !bytes.len().is_multiple_of(numeric.width_bytes()) {
        return Err(format!("{} bytes are no whole {} elements", bytes.len(), numeric.name()));
    }
    match *form {
        FORM_PLANES => {
            let mut planes = vec![0; bytes.len()];
            let length =
                lz4_flex::block::decompress_into(stored, &mut planes).map_err(|e| e.to_string())?;
            if length != planes.len() {
                return Err(format!("gives {length} bytes instead of {}", planes.len()));
            }
            unshuffle(&planes, numeric.width_bytes(), bytes);
            Ok(())
        }
        FORM_PCO => with_element!(numeric, T => unpack_pco::<T>(stored, bytes)),
        other => Err(format!("form {other} is not known to this version")),
    }
}

impl Default for NumericEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for NumericEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumericEncoder").finish_non_exhaustive()
    }
}
