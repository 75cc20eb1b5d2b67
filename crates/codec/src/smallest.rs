//! As small as there is time for: in the background, where nobody waits for it.

use plan::{NumericType, Treatment};

use crate::encode::may_be;
use crate::frame::{Frame, PAGE_BYTES};
use crate::{Effort, EncodeError, Encoder, NumericEncoder, Want};

/// What elements of either width are taken for: of each, what floating-point numbers are and what
/// whole ones are.
const TYPES: [[NumericType; 2]; 2] =
    [[NumericType::F64, NumericType::I64], [NumericType::F32, NumericType::I32]];

/// Numbers that take at most this share of what one page takes as bytes are not tried as bytes.
const PLAINLY_NUMBERS_PERCENT: usize = 80;

/// Encodes frames without loss in the smallest of the forms there are; one for each thread.
#[derive(Debug, Default)]
pub struct SmallestEncoder {
    general: Encoder,
    numeric: NumericEncoder,
}

impl SmallestEncoder {
    /// An encoder with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes `pages` as bytes, by zstd of `level`, or as numbers where they look like some;
    /// with a base as the difference to it, where that is shorter.
    ///
    /// # Errors
    /// As [`Encoder::encode_against`].
    pub fn encode<'a>(
        &'a mut self,
        pages: &'a [u8],
        base: Option<&[u8]>,
        level: i32,
    ) -> Result<Frame<'a>, EncodeError> {
        let want = Want::Zstd(level);
        let packed = match self.numbers(pages)? {
            Some((numeric, is_plain)) => {
                let packed = self.numeric.encode(pages, numeric, Effort::Small)?;
                if is_plain && base.is_none() && packed.treatment == Treatment::Typed {
                    return Ok(packed);
                }
                Some(packed)
            }
            None => None,
        };
        let general = match base {
            Some(base) => self.general.encode_against(pages, base, want)?,
            None => self.general.encode(pages, want)?,
        };
        let is_less = |packed: &Frame<'_>| packed.bytes.len() < general.bytes.len();
        Ok(packed.filter(is_less).unwrap_or(general))
    }

    /// Whether `pages` look like numbers, which are best encoded as such, chunk by chunk.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn looks_numeric(&mut self, pages: &[u8]) -> Result<bool, EncodeError> {
        Ok(self.numbers(pages)?.is_some())
    }

    /// What numbers `pages` seem to be: those as which the page in their middle takes least, if that
    /// is less than as bytes; and whether it is so much less that nothing else need be tried.
    fn numbers(&mut self, pages: &[u8]) -> Result<Option<(NumericType, bool)>, EncodeError> {
        let middle = pages.len() / PAGE_BYTES / 2 * PAGE_BYTES;
        let Some(page) = pages.get(middle..middle + PAGE_BYTES) else { return Ok(None) };
        let mut least: Option<(NumericType, usize)> = None;
        for types in TYPES.iter().filter(|types| may_be(page, types[0])) {
            for numeric in types {
                let length = self.numeric.pack(page, *numeric, Effort::Small).len();
                if least.is_none_or(|(_, least)| length < least) {
                    least = Some((*numeric, length));
                }
            }
        }
        let Some((numeric, length)) = least else { return Ok(None) };
        let as_bytes = self.general.encode(page, Want::Zstd(1))?.bytes.len();
        let is_plain = length * 100 <= as_bytes * PLAINLY_NUMBERS_PERCENT;
        Ok((length < as_bytes).then_some((numeric, is_plain)))
    }
}
