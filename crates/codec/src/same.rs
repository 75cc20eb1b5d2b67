//! Pages that equal others. Heaps hold bytes that other people choose, so a page is known by a
//! keyed hash and never trusted without comparing the bytes.

use std::collections::HashMap;

/// The key of the hashes: secret and random, so that nobody can prepare two pages that look
/// alike.
#[derive(Clone, Copy)]
pub struct PageKey(pub [u8; 32]);

impl std::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageKey(secret)")
    }
}

/// Finds pages that were seen before. `T` says where a page is.
#[derive(Clone, Debug)]
pub struct SameFinder<T> {
    key: PageKey,
    seen: HashMap<[u8; 16], T>,
    pages_max: usize,
}

impl<T: Clone> SameFinder<T> {
    /// A finder that remembers at most `pages_max` different pages, of about 48 bytes each;
    /// later ones are compared with those, and not remembered.
    pub fn new(key: PageKey, pages_max: usize) -> Self {
        Self { key, seen: HashMap::new(), pages_max }
    }

    /// Where a page with the same bytes was seen first, or `None`; then `page`, which is `here`,
    /// is the first. `read` says whether the page at a place has exactly these bytes: hashes
    /// alone prove nothing here.
    pub fn find(
        &mut self,
        page: &[u8],
        here: T,
        is_equal: impl FnOnce(&T, &[u8]) -> bool,
    ) -> Option<T> {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::keyed_hash(&self.key.0, page).as_bytes()[..16]);
        match self.seen.get(&hash) {
            Some(first) => is_equal(first, page).then(|| first.clone()),
            None => {
                if self.seen.len() < self.pages_max {
                    self.seen.insert(hash, here);
                }
                None
            }
        }
    }

    /// How many different pages are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pages_are_found_and_only_those() {
        let pages: Vec<Vec<u8>> = (0..10u8).map(|n| vec![n % 3; 4096]).collect();
        let mut finder = SameFinder::new(PageKey([7; 32]), 100);
        let found: Vec<Option<usize>> = pages
            .iter()
            .enumerate()
            .map(|(n, page)| finder.find(page, n, |first, bytes| pages[*first] == bytes))
            .collect();
        let expected: Vec<Option<usize>> =
            (0..10).map(|n| if n < 3 { None } else { Some(n % 3) }).collect();
        assert_eq!(found, expected);
        assert_eq!(finder.len(), 3);
    }

    #[test]
    fn a_hash_alone_is_not_believed() {
        let mut finder = SameFinder::new(PageKey([0; 32]), 100);
        assert_eq!(finder.find(&[1; 4096], 1, |_, _| true), None);
        assert_eq!(finder.find(&[1; 4096], 2, |_, _| false), None, "the bytes differ");
    }

    #[test]
    fn memory_is_bounded() {
        let mut finder = SameFinder::new(PageKey([0; 32]), 10);
        for n in 0..100u32 {
            assert_eq!(finder.find(&n.to_le_bytes(), n, |_, _| true), None);
        }
        assert_eq!(finder.len(), 10);
    }
}
