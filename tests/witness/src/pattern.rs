//! Bytes that can be computed again from a seed and an offset.

use crate::flaw::Outcome;
use crate::wrong;

/// A stream of bytes. Pages differ in style (random, few symbols, one word over and over, nearly
/// empty), so that every encoding of a page is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

const PAGE_WORDS: u64 = 512;

/// One round of splitmix64.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A seed for one object, from the run's seed, a name and a number.
pub fn derive(seed: u64, name: &str, number: u64) -> u64 {
    let text = name.bytes().fold(seed, |state, byte| mix(state ^ u64::from(byte)));
    mix(text ^ mix(number))
}

impl Pattern {
    /// The pattern of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The word at a word index.
    pub fn word(self, index: u64) -> u64 {
        let page = index / PAGE_WORDS;
        let page_seed = mix(self.seed ^ mix(page));
        match page_seed % 8 {
            0..4 => mix(page_seed ^ index),
            4 | 5 => 0x6161_6161_6161_6161 | (mix(page_seed ^ index) & 0x0707_0707_0707_0707),
            6 => page_seed,
            _ if index.is_multiple_of(PAGE_WORDS) => page_seed | 1,
            _ => 0,
        }
    }

    /// Fills `bytes`, which begin at byte `base` (a multiple of 8) of the stream.
    pub fn fill(self, base: usize, bytes: &mut [u8]) {
        for (index, chunk) in (base / 8..).zip(bytes.chunks_mut(8)) {
            let word = self.word(index as u64).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// The bytes as a new vector.
    pub fn bytes(self, base: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(base, &mut bytes);
        bytes
    }

    /// Compares `bytes` with the stream from byte `base` (a multiple of 8).
    pub fn verify(self, what: &str, base: usize, bytes: &[u8]) -> Outcome {
        for (index, chunk) in (base / 8..).zip(bytes.chunks(8)) {
            let expected = self.word(index as u64).to_le_bytes();
            if *chunk != expected[..chunk.len()] {
                wrong!(
                    "{what}: offset {:#x} (address {:p}) holds {:02x?}, expected {:02x?}",
                    index * 8,
                    chunk.as_ptr(),
                    chunk,
                    &expected[..chunk.len()]
                );
            }
        }
        Ok(())
    }
}

/// Says which byte is not zero, if any.
pub fn verify_zero(what: &str, bytes: &[u8]) -> Outcome {
    match bytes.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => wrong!(
            "{what}: byte {at:#x} (address {:p}) is {:#04x}, expected zero",
            &bytes[at],
            bytes[at]
        ),
    }
}
