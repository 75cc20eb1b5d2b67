//! Variable-length integers and a reader that never runs over the end.

use crate::HeatError;

/// Appends `value` in LEB128: seven bits a byte, low ones first, the top bit set on all but the
/// last byte.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    // Seven bits always fit.
    u8::try_from(value & 0x7f).unwrap_or_default()
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what [`put`] wrote.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The section, for messages.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error about this section.
    pub(crate) fn invalid(&self, detail: &str) -> HeatError {
        HeatError::Invalid { section: self.what, detail: detail.to_owned() }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, HeatError> {
        let Some((first, rest)) = self.rest.split_first() else {
            return Err(self.invalid("ends too soon"));
        };
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, HeatError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                // The shortest form only, so that equal values have equal bytes.
                return if byte == 0 { Err(self.invalid("has a long zero")) } else { Ok(value) };
            }
        }
        Err(self.invalid("has a number above 64 bits"))
    }

    pub(crate) fn number_u32(&mut self) -> Result<u32, HeatError> {
        let value = self.number()?;
        u32::try_from(value).map_err(|_| self.invalid("has a number above 32 bits"))
    }

    /// A count of items to come, each of which takes at least a byte.
    pub(crate) fn count(&mut self) -> Result<usize, HeatError> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(self.invalid("claims more items than it has bytes")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], HeatError> {
        let count = self.count()?;
        let (bytes, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(bytes)
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), HeatError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.invalid("goes on behind its end")) }
    }
}
