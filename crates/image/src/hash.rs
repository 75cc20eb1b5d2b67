//! Hashes of pages, keyed with the line's key: a page's identity, a frame's check.

use blake3::IncrementCounter;
use blake3::platform::Platform;
use codec::{FRAME_BYTES_MAX, is_zero};

use crate::LineKey;

/// Bytes in a page.
const PAGE_BYTES: usize = 4096;
/// What is hashed side by side.
pub(crate) const LANES: usize = FRAME_BYTES_MAX / PAGE_BYTES;
const CHUNK_BYTES: usize = 1024;
const CHUNKS: usize = PAGE_BYTES / CHUNK_BYTES;
pub(crate) const OUT_BYTES: usize = 32;

// Flags of the BLAKE3 specification, section 2.2.
pub(crate) const CHUNK_START: u8 = 1;
pub(crate) const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
pub(crate) const ROOT: u8 = 8;
pub(crate) const KEYED: u8 = 16;

/// The identity of a page's content within a line: the first 128 bits of its keyed blake3; all
/// zero for a page of zeros, which is never hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageHash(pub [u8; 16]);

impl PageHash {
    /// Bytes in a hash.
    pub const BYTES: usize = 16;

    /// Whether it is that of a page of zeros.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// What a frame's pages are checked against: the first 128 bits of the keyed blake3 of their
/// hashes, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameHash(pub [u8; 16]);

impl FrameHash {
    /// The hash of a frame whose pages have these hashes.
    pub fn of(key: &LineKey, pages: &[PageHash]) -> Self {
        let mut bytes = [0; LANES * PageHash::BYTES];
        for (slot, page) in bytes.chunks_exact_mut(PageHash::BYTES).zip(pages) {
            slot.copy_from_slice(&page.0);
        }
        let length = pages.len().min(LANES) * PageHash::BYTES;
        let mut short = [0; 16];
        short.copy_from_slice(&key.hash(&bytes[..length])[..16]);
        Self(short)
    }
}

/// BLAKE3's compression of many inputs side by side, with a line's key.
#[derive(Clone)]
pub(crate) struct Lanes {
    words: [u32; 8],
    platform: Platform,
}

impl Lanes {
    pub(crate) fn new(key: &LineKey) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_bytes().chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self { words, platform: Platform::detect() }
    }

    /// The values of `inputs`, [`OUT_BYTES`] each, into `out`; flags are those of every block, of
    /// each input's first and of its last.
    pub(crate) fn many<const N: usize>(
        &self,
        inputs: &[&[u8; N]],
        counter: u64,
        (flags, start, end): (u8, u8, u8),
        out: &mut [u8],
    ) {
        let same = IncrementCounter::No;
        self.platform.hash_many(inputs, &self.words, counter, same, flags, start, end, out);
    }
}

/// Hashes pages; cheap to make.
#[derive(Clone)]
pub struct PageHasher {
    key: LineKey,
    lanes: Lanes,
}

impl PageHasher {
    /// A hasher of the line with this key.
    pub fn new(key: &LineKey) -> Self {
        Self { key: key.clone(), lanes: Lanes::new(key) }
    }

    /// Hashes whole pages and appends a hash for each to `hashes`.
    ///
    /// One page alone keeps a quarter of the processor's lanes busy (it has four chunks), so up
    /// to 16 pages are hashed side by side; the result is that of `blake3::keyed_hash` of each.
    pub fn hash(&self, pages: &[u8], hashes: &mut Vec<PageHash>) {
        for group in pages.chunks(LANES * PAGE_BYTES) {
            let (group, _) = group.as_chunks::<PAGE_BYTES>();
            let mut lanes: Vec<&[u8; PAGE_BYTES]> = Vec::with_capacity(LANES);
            lanes.extend(group.iter().filter(|page| !is_zero(&page[..])));
            let mut next = self.hash_lanes(&lanes).into_iter();
            for page in group {
                let zero = is_zero(page);
                hashes.push(if zero {
                    PageHash::default()
                } else {
                    next.next().unwrap_or_default()
                });
            }
        }
    }

    /// The hashes of up to 16 pages.
    fn hash_lanes(&self, pages: &[&[u8; PAGE_BYTES]]) -> Vec<PageHash> {
        // The chaining values of every page's chunks, page by page.
        let mut chunks = [0; LANES * CHUNKS * OUT_BYTES];
        let mut values = [0; LANES * OUT_BYTES];
        for number in 0..CHUNKS {
            let inputs: Vec<&[u8; CHUNK_BYTES]> =
                pages.iter().filter_map(|page| page.as_chunks().0.get(number)).collect();
            let counter = u64::try_from(number).unwrap_or(u64::MAX);
            let flags = (KEYED, CHUNK_START, CHUNK_END);
            self.lanes.many(&inputs, counter, flags, &mut values);
            for (page, value) in values.chunks_exact(OUT_BYTES).take(pages.len()).enumerate() {
                let at = (page * CHUNKS + number) * OUT_BYTES;
                chunks[at..at + OUT_BYTES].copy_from_slice(value);
            }
        }
        // Two values each become one, twice: four chunks, two parents, the root.
        let mut parents = [0; LANES * CHUNKS * OUT_BYTES / 2];
        let pairs = |bytes: &[u8], count: usize, flags: u8, out: &mut [u8]| {
            let (pairs, _) = bytes.as_chunks::<{ 2 * OUT_BYTES }>();
            let inputs: Vec<&[u8; 2 * OUT_BYTES]> = pairs.iter().take(count).collect();
            self.lanes.many(&inputs, 0, (KEYED | PARENT | flags, 0, 0), out);
        };
        pairs(&chunks, pages.len() * 2, 0, &mut parents);
        pairs(&parents, pages.len(), ROOT, &mut values);
        let short = |value: &[u8]| {
            let mut hash = [0; PageHash::BYTES];
            hash.copy_from_slice(&value[..PageHash::BYTES]);
            PageHash(hash)
        };
        values.chunks_exact(OUT_BYTES).take(pages.len()).map(short).collect()
    }

    /// The hash of a frame with these pages, and their own in `hashes`, which is cleared first.
    pub fn frame(&self, pages: &[u8], hashes: &mut Vec<PageHash>) -> FrameHash {
        hashes.clear();
        self.hash(pages, hashes);
        FrameHash::of(&self.key, hashes)
    }
}

impl std::fmt::Debug for PageHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageHasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// The way around the usual door leads to the same place: every page's hash is the one
        /// that anybody's BLAKE3 gives.
        #[test]
        fn hashes_are_those_of_blake3(seeds in proptest::collection::vec(any::<u64>(), 0..40)) {
            let key = LineKey::new([9; 32]);
            let mut pages = Vec::new();
            for seed in &seeds {
                let mut state = *seed;
                pages.extend((0..PAGE_BYTES / 8).flat_map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(*seed);
                    (if seed % 5 == 0 { 0 } else { state }).to_le_bytes()
                }));
            }
            let mut hashes = Vec::new();
            PageHasher::new(&key).hash(&pages, &mut hashes);
            prop_assert_eq!(hashes.len(), seeds.len());
            for (page, hash) in pages.chunks(PAGE_BYTES).zip(hashes) {
                if page.iter().all(|byte| *byte == 0) {
                    prop_assert!(hash.is_zero());
                } else {
                    let expected = blake3::keyed_hash(key.as_bytes(), page);
                    prop_assert_eq!(&hash.0[..], &expected.as_bytes()[..16]);
                }
            }
        }
    }
}
