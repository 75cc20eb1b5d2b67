//! The blocks of files, found by a rolling hash.

use super::{BLOCK_BYTES, PAGE_BYTES};

/// Filter bits for a block.
const FILTER_BITS: usize = 32;

/// The blocks of the files, found by hash. 28 bytes or less for each block of 4 KiB.
#[derive(Clone, Debug)]
pub struct TwinIndex {
    multiplier: u64,
    /// The multiplier to the power of the block's length less one.
    leaving: u64,
    /// Its first sixteen powers.
    powers: [u64; 16],
    blocks: Vec<Block>,
    blocks_max: usize,
    /// Open addressing; position in `blocks` plus one, 0 for nothing.
    table: Vec<u32>,
    filter: Vec<u64>,
}

/// A block of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    hash: u64,
    pub(super) file: u32,
    pub(super) number: u32,
}

impl TwinIndex {
    /// An index of at most `blocks_max` blocks. `key` is random, so that no file can be made to
    /// collide with others.
    pub fn new(key: u64, blocks_max: u32) -> Self {
        // Odd, so that nothing is lost by multiplying.
        let multiplier = mixed(key) | 1;
        let last = BLOCK_BYTES - 1;
        let leaving = (0..last).fold(1u64, |power, _| power.wrapping_mul(multiplier));
        let blocks_max = usize::try_from(blocks_max).unwrap_or(usize::MAX);
        let mut powers = [1u64; 16];
        for n in 1..powers.len() {
            powers[n] = powers[n - 1].wrapping_mul(multiplier);
        }
        let (table, filter) = (Vec::new(), Vec::new());
        Self { multiplier, leaving, powers, blocks: Vec::new(), blocks_max, table, filter }
    }

    /// Adds the whole blocks of `bytes`, which lie at `offset`, a multiple of 4096, of a file.
    /// Blocks of one byte again and again are left out: they are nobody's in particular.
    /// Returns `false` when the index is full.
    pub fn add(&mut self, file: u32, offset: u64, bytes: &[u8]) -> bool {
        let first = offset / PAGE_BYTES;
        for (n, block) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let Ok(number) = u32::try_from(n) else { return false };
            if self.blocks.len() >= self.blocks_max {
                return false;
            }
            if block.iter().any(|b| *b != block[0]) {
                let hash = self.hash(block);
                self.blocks.push(Block { hash, file, number });
            }
        }
        // Built again when the search begins.
        self.table.clear();
        true
    }

    /// The hash of a block: a polynomial of its bytes. Sixteen at a time, whose products do not
    /// wait for each other.
    pub(super) fn hash(&self, block: &[u8]) -> u64 {
        let (groups, rest) = block.as_chunks::<16>();
        let mut hash = 0u64;
        for group in groups {
            let mut sum = hash.wrapping_mul(self.powers[15].wrapping_mul(self.multiplier));
            for (byte, power) in group.iter().zip(self.powers.iter().rev()) {
                sum = sum.wrapping_add(u64::from(*byte).wrapping_mul(*power));
            }
            hash = sum;
        }
        rest.iter().fold(hash, |hash, byte| {
            hash.wrapping_mul(self.multiplier).wrapping_add(u64::from(*byte))
        })
    }

    pub(super) fn rolled(&self, hash: u64, leaves: u8, enters: u8) -> u64 {
        hash.wrapping_sub(u64::from(leaves).wrapping_mul(self.leaving))
            .wrapping_mul(self.multiplier)
            .wrapping_add(u64::from(enters))
    }

    /// Makes what was added findable.
    pub(super) fn build(&mut self) {
        let slots = (self.blocks.len() * 2).next_power_of_two().max(2);
        let words = (self.blocks.len() * FILTER_BITS / 64).next_power_of_two().max(1);
        self.table = vec![0; slots];
        self.filter = vec![0; words];
        for (position, block) in (1u32..).zip(&self.blocks) {
            let mixed = mixed(block.hash);
            let (word, bit) = filter_place(mixed, words);
            self.filter[word] |= bit;
            let mut slot = slot(mixed, slots);
            // The first of equal blocks is the one that is found.
            while let Some(found) = self.table[slot].checked_sub(1) {
                if self.blocks[usize::try_from(found).unwrap_or(0)].hash == block.hash {
                    break;
                }
                slot = (slot + 1) % slots;
            }
            if self.table[slot] == 0 {
                self.table[slot] = position;
            }
        }
    }

    pub(super) fn find(&self, hash: u64) -> Option<Block> {
        let mixed = mixed(hash);
        let (word, bit) = filter_place(mixed, self.filter.len());
        if self.filter[word] & bit == 0 {
            return None;
        }
        let mut slot = slot(mixed, self.table.len());
        while let Some(found) = self.table[slot].checked_sub(1) {
            let block = self.blocks[usize::try_from(found).unwrap_or(0)];
            if block.hash == hash {
                return Some(block);
            }
            slot = (slot + 1) % self.table.len();
        }
        None
    }
}

/// Every bit of the result depends on every bit of `x`.
const fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

fn slot(mixed: u64, slots: usize) -> usize {
    usize::try_from(mixed >> 20).unwrap_or(0) & (slots - 1)
}

fn filter_place(mixed: u64, words: usize) -> (usize, u64) {
    (usize::try_from(mixed >> 6).unwrap_or(0) & (words - 1), 1 << (mixed & 63))
}
