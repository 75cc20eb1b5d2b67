//! Walking several sorted lists of stretches side by side.

use mem::{MemoryId, PageIndex, PageRange};

use crate::Stretch;

/// Looks pages up in stretches that are sorted and do not overlap. Pages are asked for in
/// ascending order; going back costs a search, nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a, T> {
    stretches: &'a [Stretch<T>],
    next: usize,
}

impl<'a, T> Cursor<'a, T> {
    pub(crate) fn new(stretches: &'a [Stretch<T>]) -> Self {
        Self { stretches, next: 0 }
    }

    /// What is said of `page`, and the first page after it of which something else is said, at
    /// most `end`.
    pub(crate) fn at(
        &mut self,
        memory: MemoryId,
        page: PageIndex,
        end: PageIndex,
    ) -> (Option<&'a T>, PageIndex) {
        let behind = |s: &Stretch<T>| (s.memory, s.pages.end) <= (memory, page);
        let after_last = self.next > 0 && !behind(&self.stretches[self.next - 1]);
        if after_last {
            self.next = self.stretches.partition_point(behind);
        }
        while self.stretches.get(self.next).is_some_and(behind) {
            self.next += 1;
        }
        match self.stretches.get(self.next) {
            Some(s) if s.memory == memory && s.pages.start <= page => {
                (Some(&s.value), s.pages.end.min(end))
            }
            Some(s) if s.memory == memory => (None, s.pages.start.min(end)),
            _ => (None, end),
        }
    }
}

/// Sorts stretches and makes them disjoint: where two overlap, the one that begins first keeps
/// the pages they share.
pub(crate) fn tidy<T: Clone>(mut stretches: Vec<Stretch<T>>) -> Vec<Stretch<T>> {
    stretches.retain(|s| !s.pages.is_empty());
    stretches.sort_by_key(|s| (s.memory, s.pages.start));
    let mut tidied: Vec<Stretch<T>> = Vec::with_capacity(stretches.len());
    for mut stretch in stretches {
        if let Some(last) = tidied.last()
            && last.memory == stretch.memory
            && last.pages.end > stretch.pages.start
        {
            let start = last.pages.end;
            stretch.pages = PageRange { start, end: stretch.pages.end.max(start) };
        }
        if !stretch.pages.is_empty() {
            tidied.push(stretch);
        }
    }
    tidied
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_finds_what_a_search_finds(
            stretches in proptest::collection::vec((0u32..2, 0u64..40, 0u64..6, any::<u8>()), 0..12),
            asked in proptest::collection::vec((0u32..2, 0u64..50), 0..20),
        ) {
            let all: Vec<_> = stretches
                .into_iter()
                .map(|(memory, start, count, value)| Stretch {
                    memory: MemoryId::Private(memory),
                    pages: PageRange::new(start, start + count),
                    value,
                })
                .collect();
            let tidied = tidy(all.clone());
            let mut cursor = Cursor::new(&tidied);
            let end = PageIndex(60);
            for (memory, page) in asked {
                let (memory, page) = (MemoryId::Private(memory), PageIndex(page));
                let holds = |s: &&Stretch<u8>| s.memory == memory && s.pages.contains(page);
                let (found, until) = cursor.at(memory, page, end);
                prop_assert_eq!(found.is_some(), all.iter().any(|s| holds(&s)));
                prop_assert!(until > page && until <= end);
                let same = |p: u64| {
                    let hit = tidied.iter().find(|s| s.memory == memory && s.pages.contains(PageIndex(p)));
                    hit.map(|s| s.pages) == tidied.iter().find(holds).map(|s| s.pages)
                };
                prop_assert!((page.0..until.0).all(same));
            }
        }
    }
}
