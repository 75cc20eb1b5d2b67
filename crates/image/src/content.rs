//! The identity of all pages of a checkpoint.

use mem::{MemoryId, PageIndex};

use crate::hash::{CHUNK_END, CHUNK_START, KEYED, LANES, Lanes, OUT_BYTES, ROOT};
use crate::record::memory_rank;
use crate::{LineKey, PageHash, PageMask};

/// The identity of everything a checkpoint's pages hold, however they are stored: the sum, modulo
/// 2^256, of a keyed hash of every page and its place (`MSet-Add-Hash` of Clarke et al., ASIACRYPT
/// 2003). So a checkpoint's follows from its parent's and what is different, and costs nothing for
/// what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 32]);

/// What follows a page's place and hash in the block that is hashed.
const LABEL: &[u8; 32] = b"rekindle: a page and its place\0\0";
const BLOCK_BYTES: usize = 64;

/// Computes a [`ContentHash`], from pages in any order.
pub struct ContentHasher {
    lanes: Lanes,
    sum: Sum,
}

impl ContentHasher {
    /// Of no pages yet, of the line with this key.
    pub fn new(key: &LineKey) -> Self {
        Self { lanes: Lanes::new(key), sum: Sum([0; 4]) }
    }

    /// Adds the pages that made `content`.
    pub fn add_content(&mut self, content: ContentHash) {
        self.sum.add(&Sum::of(&content.0));
    }

    /// Adds a page.
    pub fn add(&mut self, memory: MemoryId, page: PageIndex, hash: PageHash) {
        self.add_chunk(memory, page, PageMask(1), &[hash; LANES]);
    }

    /// Adds the pages `which` of the chunk of 16 pages that begins at `chunk`; page n of it has hash
    /// n.
    pub fn add_chunk(
        &mut self,
        memory: MemoryId,
        chunk: PageIndex,
        which: PageMask,
        hashes: &[PageHash; LANES],
    ) {
        self.each(memory, chunk, which, hashes, Sum::add);
    }

    /// Takes pages out again.
    pub fn remove_chunk(
        &mut self,
        memory: MemoryId,
        chunk: PageIndex,
        which: PageMask,
        hashes: &[PageHash; LANES],
    ) {
        self.each(memory, chunk, which, hashes, Sum::subtract);
    }

    /// The hash of all pages that were added.
    pub fn finish(self) -> ContentHash {
        ContentHash(self.sum.bytes())
    }

    fn each(
        &mut self,
        memory: MemoryId,
        chunk: PageIndex,
        which: PageMask,
        hashes: &[PageHash; LANES],
        act: fn(&mut Sum, &Sum),
    ) {
        let (kind, number) = memory_rank(memory);
        let mut blocks = [[0; BLOCK_BYTES]; LANES];
        let pages = (chunk.0..).zip(hashes).enumerate();
        let mut count = 0;
        for (block, (_, (page, hash))) in
            blocks.iter_mut().zip(pages.filter(|(place, _)| which.has(*place)))
        {
            block[..4].copy_from_slice(&u32::from(kind).to_le_bytes());
            block[4..8].copy_from_slice(&number.to_le_bytes());
            block[8..16].copy_from_slice(&page.to_le_bytes());
            block[16..32].copy_from_slice(&hash.0);
            block[32..].copy_from_slice(LABEL);
            count += 1;
        }
        let inputs: [&[u8; BLOCK_BYTES]; LANES] = std::array::from_fn(|n| &blocks[n]);
        let mut values = [0; LANES * OUT_BYTES];
        self.lanes.many(&inputs[..count], 0, (KEYED | ROOT, CHUNK_START, CHUNK_END), &mut values);
        let (values, _) = values.as_chunks();
        values.iter().take(count).for_each(|value| act(&mut self.sum, &Sum::of(value)));
    }
}

impl std::fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentHasher").finish_non_exhaustive()
    }
}

/// A number modulo 2^256, the lowest word first.
#[derive(Clone, Copy)]
struct Sum([u64; 4]);

impl Sum {
    /// Of its bytes, the lowest first.
    fn of(bytes: &[u8; 32]) -> Self {
        let (words, _) = bytes.as_chunks();
        Self(std::array::from_fn(|n| u64::from_le_bytes(words[n])))
    }

    fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (slot, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (word, other) in self.0.iter_mut().zip(other.0) {
            let (sum, first) = word.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(carry.into());
            (*word, carry) = (sum, first || second);
        }
    }

    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (word, other) in self.0.iter_mut().zip(other.0) {
            let (rest, first) = word.overflowing_sub(other);
            let (rest, second) = rest.overflowing_sub(borrow.into());
            (*word, borrow) = (rest, first || second);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> LineKey {
        LineKey::new([9; 32])
    }

    /// One page's content, by anybody's BLAKE3.
    fn of_one(number: u32, page: u64, hash: PageHash) -> [u8; 32] {
        let mut block = Vec::new();
        block.extend_from_slice(&1u32.to_le_bytes());
        block.extend_from_slice(&number.to_le_bytes());
        block.extend_from_slice(&page.to_le_bytes());
        block.extend_from_slice(&hash.0);
        block.extend_from_slice(LABEL);
        *blake3::keyed_hash(key().as_bytes(), &block).as_bytes()
    }

    #[test]
    fn a_page_is_hashed_as_documented() {
        let mut hasher = ContentHasher::new(&key());
        hasher.add(MemoryId::Private(3), PageIndex(77), PageHash([5; 16]));
        assert_eq!(hasher.finish().0, of_one(3, 77, PageHash([5; 16])));
        assert_eq!(ContentHasher::new(&key()).finish(), ContentHash::default());
    }

    #[test]
    fn sums_carry() {
        let mut sum = Sum([u64::MAX, u64::MAX, 7, u64::MAX]);
        sum.add(&Sum([1, 0, 0, 1]));
        assert_eq!(sum.0, [0, 0, 8, 0]);
        sum.subtract(&Sum([1, 0, 0, 1]));
        assert_eq!(sum.0, [u64::MAX, u64::MAX, 7, u64::MAX]);
    }

    proptest! {
        /// Neither the order nor what was taken out again matters; every page does.
        #[test]
        fn it_follows_from_what_is_different(
            pages in proptest::collection::btree_map((0u32..3, 0u64..64), any::<[u8; 16]>(), 1..60),
            gone in any::<u64>(),
        ) {
            let add = |hasher: &mut ContentHasher, ((number, page), hash): (&(u32, u64), &[u8; 16])| {
                hasher.add(MemoryId::Private(*number), PageIndex(*page), PageHash(*hash));
            };
            let mut all = ContentHasher::new(&key());
            pages.iter().rev().for_each(|page| add(&mut all, page));
            let all = all.finish();
            let stays = |place: &(u32, u64)| gone >> place.1 & 1 == 0;
            let mut rest = ContentHasher::new(&key());
            pages.iter().filter(|(place, _)| stays(place)).for_each(|page| add(&mut rest, page));
            let mut less = ContentHasher::new(&key());
            less.add_content(all);
            for ((number, page), hash) in pages.iter().filter(|(place, _)| !stays(place)) {
                let memory = MemoryId::Private(*number);
                less.remove_chunk(memory, PageIndex(*page), PageMask(1), &[PageHash(*hash); 16]);
            }
            let rest = rest.finish();
            prop_assert_eq!(less.finish(), rest);
            prop_assert_eq!(rest == all, pages.keys().all(stays));
        }
    }
}
