//! Deterministic keys and values: anybody who knows the seed knows every byte.
//!
//! Even indexes hold random bytes, which do not compress; odd indexes hold JSON text, which does.
//! Together they behave like the mixed data of a real service.

use std::fmt::Write;

use thiserror::Error;

use crate::request::BULK_BYTES_MAX;

/// Largest number of keys in one filling.
const KEYS_MAX: u64 = 1_000_000_000;
const WORDS: [&str; 48] = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "xray",
    "yankee",
    "zulu",
    "order",
    "invoice",
    "customer",
    "payment",
    "shipment",
    "warehouse",
    "pending",
    "complete",
    "cancelled",
    "refund",
    "address",
    "street",
    "city",
    "country",
    "phone",
    "email",
    "account",
    "balance",
    "ledger",
    "carrier",
    "parcel",
    "return",
];

/// Why the numbers of a filling are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FillError {
    /// Too many keys.
    #[error("{0} keys are too many, at most {KEYS_MAX} are taken")]
    Keys(u64),
    /// The smallest length is above the largest, or the largest is above the limit.
    #[error("value lengths {0} to {1} are no range within {BULK_BYTES_MAX} bytes")]
    Lengths(u64, u64),
}

/// A filling: keys `0..keys`, each with one value of `value_min..=value_max` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    keys: u64,
    value_min: u64,
    value_max: u64,
    seed: u64,
}

impl Fill {
    /// Smallest value of [`Fill::of_bytes`] and of [`fill_value`], in bytes.
    pub const VALUE_MIN: u64 = 900;
    /// Largest value of [`Fill::of_bytes`] and of [`fill_value`], in bytes.
    pub const VALUE_MAX: u64 = 1500;

    /// A filling of `keys` keys with values of `value_min..=value_max` bytes.
    ///
    /// # Errors
    /// [`FillError`] when a number is above its limit or the lengths are no range.
    pub fn new(keys: u64, value_min: u64, value_max: u64, seed: u64) -> Result<Self, FillError> {
        if keys > KEYS_MAX {
            return Err(FillError::Keys(keys));
        }
        let fits = i64::try_from(value_max).is_ok_and(|max| max <= BULK_BYTES_MAX);
        if value_min > value_max || !fits {
            return Err(FillError::Lengths(value_min, value_max));
        }
        Ok(Self { keys, value_min, value_max, seed })
    }

    /// A filling whose values sum up to about `bytes`, each of 900 to 1500 bytes.
    ///
    /// # Errors
    /// [`FillError::Keys`] when that needs too many keys.
    pub fn of_bytes(bytes: u64, seed: u64) -> Result<Self, FillError> {
        let mean = u64::midpoint(Self::VALUE_MIN, Self::VALUE_MAX);
        Self::new(bytes.div_ceil(mean), Self::VALUE_MIN, Self::VALUE_MAX, seed)
    }

    /// Number of keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Smallest and largest value, in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> (u64, u64) {
        (self.value_min, self.value_max)
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The value of key number `index`.
    #[must_use]
    pub fn value(&self, index: u64) -> Vec<u8> {
        let mut random = Random::new(self.seed, index);
        let length = self.value_min + random.below(self.value_max - self.value_min + 1);
        // A length is at most BULK_BYTES_MAX, which every supported usize holds.
        let length = usize::try_from(length).unwrap_or(0);
        if index.is_multiple_of(2) {
            random.bytes(length)
        } else {
            json(&mut random, index, length)
        }
    }
}

/// The key of number `index`, as `FILL` names it.
#[must_use]
pub fn fill_key(index: u64) -> Vec<u8> {
    format!("key:{index:010}").into_bytes()
}

/// The value of key number `index` in a filling with values of 900 to 1500 bytes.
#[must_use]
pub fn fill_value(seed: u64, index: u64) -> Vec<u8> {
    Fill { keys: 0, value_min: Fill::VALUE_MIN, value_max: Fill::VALUE_MAX, seed }.value(index)
}

/// JSON text of exactly `length` bytes: a document where there is room, else a string or a number.
fn json(random: &mut Random, index: u64, length: usize) -> Vec<u8> {
    const END: &str = "\"}";
    let mut text = String::with_capacity(length + 16);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{{\"id\": {index}, \"user\": \"{}.{}{}@example.com\", \"created\": {}, \"status\": \"{}\", \
         \"balance\": {}.{:02}, \"address\": {{\"street\": \"{} {} street\", \"zip\": {}}}, \
         \"notes\": \"",
        random.word(),
        random.word(),
        random.below(10_000),
        1_700_000_000 + random.below(100_000_000),
        random.word(),
        random.below(10_000),
        random.below(100),
        random.below(1000),
        random.word(),
        10_000 + random.below(90_000),
    );
    if text.len() + END.len() > length {
        text.clear();
        if length < 2 {
            return vec![b'7'; length];
        }
        text.push('"');
    }
    let end = if text.len() == 1 { "\"" } else { END };
    while text.len() + end.len() < length {
        text.push_str(random.word());
        text.push(' ');
    }
    text.truncate(length - end.len());
    text.push_str(end);
    text.into_bytes()
}

/// SplitMix64: small, fast and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64, index: u64) -> Self {
        let mut outer = Self(seed);
        Self(outer.next() ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; `bound` is above zero.
    fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    fn word(&mut self) -> &'static str {
        let index = self.below(WORDS.len() as u64);
        WORDS[usize::try_from(index).unwrap_or(0)]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_stable() {
        // Checked from outside by other programs: a change here is a change of the format.
        assert_eq!(fill_key(7), b"key:0000000007");
        assert_eq!(&fill_value(1, 0)[..8], &[238, 241, 108, 61, 233, 108, 141, 241]);
        let text = String::from_utf8(fill_value(1, 1)).unwrap();
        assert!(text.starts_with("{\"id\": 1, \"user\": \""), "{text}");
    }

    #[test]
    fn lengths_stay_in_range_and_odd_values_are_text() {
        for (min, max) in [(0, 0), (0, 3), (1, 1), (2, 300), (900, 1500), (5000, 5001)] {
            let fill = Fill::new(100, min, max, 42).unwrap();
            for index in 0..100 {
                let value = fill.value(index);
                assert!((min..=max).contains(&(value.len() as u64)), "{min} {max} {index}");
                assert_eq!(value, fill.value(index));
                assert!(index % 2 == 0 || value.is_ascii());
            }
        }
    }

    #[test]
    fn seeds_and_indexes_differ() {
        assert_ne!(fill_value(1, 0), fill_value(2, 0));
        assert_ne!(fill_value(1, 0), fill_value(1, 2));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert_eq!(Fill::new(2_000_000_000, 0, 1, 0), Err(FillError::Keys(2_000_000_000)));
        assert_eq!(Fill::new(1, 2, 1, 0), Err(FillError::Lengths(2, 1)));
        assert_eq!(Fill::new(1, 0, 1 << 30, 0), Err(FillError::Lengths(0, 1 << 30)));
        assert!(Fill::new(1, 0, u64::MAX, 0).is_err());
        assert_eq!(Fill::of_bytes(512 << 20, 1).unwrap().keys(), 447_393);
    }
}
