//! What a frame of the treatment `Twin` stores: where its pages are in a file outside of the store.

use codec::DecodeError;
use plan::Treatment;

/// Where the pages that a frame holds are, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinPlace {
    /// The file, by its number in the manifest.
    pub file: u32,
    /// Where in it they begin; any byte.
    pub offset_bytes: u64,
}

impl TwinPlace {
    /// Stored bytes of such a frame.
    pub const BYTES: usize = 16;

    /// The stored bytes: the file's number (4), zeros (4), the offset (8), little-endian.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.file.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset_bytes.to_le_bytes());
        bytes
    }

    /// The place that `stored` bytes tell of.
    ///
    /// # Errors
    /// When they tell of none.
    pub fn decode(stored: &[u8]) -> Result<Self, DecodeError> {
        let (words, rest) = stored.as_chunks::<8>();
        match words {
            [[a, b, c, d, 0, 0, 0, 0], offset] if rest.is_empty() => Ok(Self {
                file: u32::from_le_bytes([*a, *b, *c, *d]),
                offset_bytes: u64::from_le_bytes(*offset),
            }),
            _ => Err(DecodeError::Malformed {
                treatment: Treatment::Twin,
                stored_bytes: stored.len(),
                detail: "no place in a file".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is stored is one place, written the same again, or none.
        #[test]
        fn places_go_round(stored in proptest::collection::vec(0u8..3, 14..18)) {
            match TwinPlace::decode(&stored) {
                Ok(place) => prop_assert_eq!(&place.encode()[..], &stored[..]),
                Err(_) => prop_assert!(stored.len() != 16 || stored[4..8] != [0; 4]),
            }
        }
    }
}
