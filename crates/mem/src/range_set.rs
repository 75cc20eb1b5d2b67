//! A set of pages, kept as sorted runs.

use crate::{PageCount, PageIndex, PageRange};

/// A set of pages of one memory, kept as sorted, non-empty runs that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet {
    runs: Vec<PageRange>,
}

impl PageSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// The runs in ascending order.
    pub fn runs(&self) -> &[PageRange] {
        &self.runs
    }

    /// How many pages are inside.
    pub fn count(&self) -> PageCount {
        PageCount(self.runs.iter().map(|r| r.count().0).sum())
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether `page` is inside.
    pub fn contains(&self, page: PageIndex) -> bool {
        let at = self.runs.partition_point(|r| r.end <= page);
        self.runs.get(at).is_some_and(|r| r.contains(page))
    }

    /// Adds every page of `range`. Costs O(1) when it lies behind everything added so far.
    pub fn insert(&mut self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        let first = self.runs.partition_point(|r| r.end < range.start);
        let last = self.runs.partition_point(|r| r.start <= range.end);
        if first == last {
            self.runs.insert(first, range);
            return;
        }
        let merged = PageRange {
            start: range.start.min(self.runs[first].start),
            end: range.end.max(self.runs[last - 1].end),
        };
        self.runs.splice(first..last, [merged]);
    }

    /// Takes every page of `range` out.
    pub fn remove(&mut self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        let first = self.runs.partition_point(|r| r.end <= range.start);
        let last = self.runs.partition_point(|r| r.start < range.end);
        if first >= last {
            return;
        }
        let before = PageRange { start: self.runs[first].start, end: range.start };
        let after = PageRange { start: range.end, end: self.runs[last - 1].end };
        let keep = [before, after].into_iter().filter(|r| r.start < r.end);
        self.runs.splice(first..last, keep);
    }

    /// The pages of either set. Costs O(runs of both).
    pub fn union(&self, other: &Self) -> Self {
        let (mut ours, mut theirs) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        let mut set = Self::new();
        loop {
            let next = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) if a.start <= b.start => ours.next(),
                (_, Some(_)) => theirs.next(),
                _ => ours.next(),
            };
            let Some(next) = next else { return set };
            set.insert(*next);
        }
    }

    /// The pages of this set that are not in `other`. Costs O(runs of both).
    pub fn difference(&self, other: &Self) -> Self {
        let mut set = Self::new();
        let mut first = 0;
        for run in &self.runs {
            let mut start = run.start;
            first += other.runs[first..].iter().take_while(|hole| hole.end <= start).count();
            for hole in other.runs[first..].iter().take_while(|hole| hole.start < run.end) {
                set.insert(PageRange { start, end: hole.start.max(start) });
                start = hole.end;
            }
            set.insert(PageRange { start, end: run.end.max(start) });
        }
        set
    }

    /// The pages that are in `range` and in the set, as runs.
    pub fn within(&self, range: PageRange) -> impl Iterator<Item = PageRange> {
        let first = self.runs.partition_point(|r| r.end <= range.start);
        self.runs[first..]
            .iter()
            .take_while(move |r| r.start < range.end)
            .filter_map(move |r| r.intersect(range))
    }
}

impl FromIterator<PageRange> for PageSet {
    fn from_iter<I: IntoIterator<Item = PageRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u64),
        Remove(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        (any::<bool>(), 0u64..80, 0u64..12).prop_map(|(insert, start, len)| {
            if insert { Step::Insert(start, start + len) } else { Step::Remove(start, start + len) }
        })
    }

    fn of_steps(steps: &[Step]) -> PageSet {
        let mut set = PageSet::new();
        for step in steps {
            match *step {
                Step::Insert(a, b) => set.insert(PageRange::new(a, b)),
                Step::Remove(a, b) => set.remove(PageRange::new(a, b)),
            }
        }
        set
    }

    proptest! {
        #[test]
        fn union_and_difference_are_those_of_numbers(
            one in proptest::collection::vec(step(), 0..20),
            two in proptest::collection::vec(step(), 0..20),
        ) {
            let (one, two) = (of_steps(&one), of_steps(&two));
            let (union, difference) = (one.union(&two), one.difference(&two));
            for page in (0..100).map(PageIndex) {
                let (a, b) = (one.contains(page), two.contains(page));
                prop_assert_eq!(union.contains(page), a || b);
                prop_assert_eq!(difference.contains(page), a && !b);
            }
            for set in [union, difference] {
                prop_assert!(set.runs().iter().all(|r| !r.is_empty()));
                prop_assert!(set.runs().windows(2).all(|w| w[0].end < w[1].start));
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in proptest::collection::vec(step(), 0..40)) {
            let mut set = PageSet::new();
            let mut oracle = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(a, b) => {
                        set.insert(PageRange::new(a, b));
                        oracle.extend(a..b);
                    }
                    Step::Remove(a, b) => {
                        set.remove(PageRange::new(a, b));
                        oracle.retain(|p| !(a..b).contains(p));
                    }
                }
                let listed: Vec<u64> =
                    set.runs().iter().flat_map(|r| r.start.0..r.end.0).collect();
                prop_assert_eq!(&listed, &oracle.iter().copied().collect::<Vec<_>>());
                prop_assert!(set.runs().windows(2).all(|w| w[0].end < w[1].start));
                for page in 0..100 {
                    prop_assert_eq!(set.contains(PageIndex(page)), oracle.contains(&page));
                }
                let inside: Vec<u64> = set
                    .within(PageRange::new(20, 50))
                    .flat_map(|r| r.start.0..r.end.0)
                    .collect();
                prop_assert_eq!(inside, oracle.range(20..50).copied().collect::<Vec<_>>());
            }
        }
    }
}
