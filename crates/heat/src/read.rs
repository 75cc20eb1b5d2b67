//! Heat as it is seen at some moment: counts as they were, rates decayed to then.

use std::ops::Range;

use crate::column::sweep;
use crate::heat::Heat;
use crate::slot::Slot;
use crate::tally::{Rate, Tally};
use crate::uses::{Use, Uses};
use crate::{MappingKey, Operand};

/// The moment heat is read for, and how fast it fades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Now, `CLOCK_REALTIME` in nanoseconds.
    pub now_ns: u64,
    /// Half-life of short heat.
    pub short_ns: u64,
    /// Half-life of long heat.
    pub long_ns: u64,
}

impl Reading {
    /// At `now_ns`, with half-lives of a minute and of six hours.
    pub const fn at(now_ns: u64) -> Self {
        Self { now_ns, short_ns: 60_000_000_000, long_ns: 6 * 3_600_000_000_000 }
    }
}

/// A rate whose older parts count less. Both fields fade alike, so their ratio is the rate and
/// `watched` is how much it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decayed {
    /// Intervals in which it was seen, scaled to all intervals of the windows, decayed.
    pub busy: f64,
    /// Intervals of those windows, decayed.
    pub watched: f64,
}

impl Decayed {
    /// Share of intervals in which it was seen, 0 to 1; `None` when nobody looked.
    pub fn rate(self) -> Option<f64> {
        (self.watched > 0.0).then(|| self.busy / self.watched)
    }

    fn add(&mut self, rate: Rate, intervals: u32, weight: f64) {
        if rate.chances > 0 {
            let intervals = f64::from(intervals) * weight;
            self.busy += intervals * f64::from(rate.seen) / f64::from(rate.chances);
            self.watched += intervals;
        }
    }
}

/// How well something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// Never seen, and nobody who would have seen every access looked. Not cold: unknown.
    Unknown,
    /// Seen by chance: it is used, at least this often.
    Sampled,
    /// One kind of access was watched exactly, the other was not.
    Half,
    /// Loads and stores were watched exactly.
    Full,
}

impl Certainty {
    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Sampled => "sampled",
            Self::Half => "half",
            Self::Full => "full",
        }
    }
}

/// What is known of a page at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PageHeat {
    /// Over all windows.
    pub all: Tally,
    /// Intervals of all windows.
    pub intervals: u32,
    /// Over the newest windows: those that ended in the last minute or two of the newest.
    pub recent: Tally,
    /// Intervals of those.
    pub recent_intervals: u32,
    /// Loads, by short half-life.
    pub reads_short: Decayed,
    /// Loads, by long half-life.
    pub reads_long: Decayed,
    /// Stores, by short half-life.
    pub writes_short: Decayed,
    /// Stores, by long half-life.
    pub writes_long: Decayed,
}

impl PageHeat {
    /// In how many intervals of all windows it was accessed, or `None` when that is not known.
    pub fn access_count(&self) -> Option<u32> {
        self.all.access_count(self.intervals)
    }

    /// Whether anybody saw it accessed, however it was.
    pub const fn was_seen(&self) -> bool {
        self.all.was_seen() || self.all.sampled > 0
    }

    /// Like [`Self::access_count`] over the newest windows.
    pub fn recent_count(&self) -> Option<u32> {
        self.recent.access_count(self.recent_intervals)
    }

    /// How well it is known.
    pub const fn certainty(&self) -> Certainty {
        if self.all.sampled > 0 {
            return Certainty::Sampled;
        }
        match (self.all.reads.chances > 0, self.all.writes.chances > 0) {
            (true, true) => Certainty::Full,
            (false, false) => Certainty::Unknown,
            _ => Certainty::Half,
        }
    }
}

impl Heat {
    /// Calls `each` for runs of those `pages` of `key` of which anything is known, ascending.
    pub fn for_each_run(
        &self,
        key: &MappingKey,
        pages: Range<u64>,
        reading: &Reading,
        mut each: impl FnMut(Range<u64>, &PageHeat),
    ) {
        let Some(known) = self.memory.get(key) else { return };
        let scales: Vec<Scale> =
            known.tallies.keys().map(|slot| self.scale(*slot, reading)).collect();
        let intervals = self.slots.values().map(|s| s.intervals).fold(0, u32::saturating_add);
        let recent_intervals = self
            .slots
            .iter()
            .filter(|(s, _)| s.level == 0)
            .map(|(_, s)| s.intervals)
            .fold(0, u32::saturating_add);
        let columns = known.tallies.values().map(|c| c.runs_in(pages.clone())).collect();
        sweep(columns, |start, end, tallies| {
            let mut page = PageHeat { intervals, recent_intervals, ..PageHeat::default() };
            for (tally, scale) in tallies.iter().zip(&scales) {
                if let Some(tally) = tally {
                    page.add(tally, scale);
                }
            }
            each(start..end, &page);
        });
    }

    /// Calls `each` for runs of those `pages` of `key` that are known to be used by some code,
    /// ascending, with the uses of each page.
    pub fn for_each_use(
        &self,
        key: &MappingKey,
        pages: Range<u64>,
        mut each: impl FnMut(Range<u64>, &[Use]),
    ) {
        let Some(known) = self.memory.get(key) else { return };
        let columns = known.uses.values().map(|c| c.runs_in(pages.clone())).collect();
        sweep(columns, |start, end, uses| {
            let mut all = uses.iter().flatten();
            let first = all.next().cloned().unwrap_or_default();
            let sum = all.fold(first, |sum: Uses, more| sum.plus(more));
            each(start..end, &sum.0);
        });
    }

    /// As what `pages` of `key` were used: weights, the heaviest first.
    pub fn operands(&self, key: &MappingKey, pages: Range<u64>) -> Vec<(Operand, u64)> {
        let mut sums = std::collections::BTreeMap::<Operand, u64>::new();
        self.for_each_use(key, pages, |run, uses| {
            let count = run.end - run.start;
            for used in uses {
                let code = usize::try_from(used.code).ok().and_then(|at| self.codes.get(at));
                if let Some(code) = code {
                    let weight = u64::from(used.reads) + u64::from(used.writes);
                    let sum = sums.entry(code.operand).or_default();
                    *sum = sum.saturating_add(weight.saturating_mul(count));
                }
            }
        });
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(operand, weight)| (std::cmp::Reverse(*weight), *operand));
        sums
    }

    /// The order in which pages of `key` were first touched when the program last went on after
    /// a pause: runs of pages with the rank of their first, as far as known.
    pub fn first_touches(&self, key: &MappingKey) -> impl Iterator<Item = (Range<u64>, u32)> {
        let runs = self.order.iter().filter_map(|order| order.runs.get(key)).flatten();
        runs.map(|run| (run.start..run.start + u64::from(run.pages), run.rank))
    }

    fn scale(&self, slot: Slot, reading: &Reading) -> Scale {
        let info = self.slots.get(&slot).copied().unwrap_or_default();
        let age_ns = reading.now_ns.saturating_sub(info.end_ns);
        Scale {
            intervals: info.intervals,
            recent: slot.level == 0,
            short: weight(age_ns, reading.short_ns),
            long: weight(age_ns, reading.long_ns),
        }
    }
}

/// How much a slot counts.
struct Scale {
    intervals: u32,
    recent: bool,
    short: f64,
    long: f64,
}

impl PageHeat {
    fn add(&mut self, tally: &Tally, scale: &Scale) {
        self.all = self.all.plus(tally);
        if scale.recent {
            self.recent = self.recent.plus(tally);
        }
        self.reads_short.add(tally.reads, scale.intervals, scale.short);
        self.reads_long.add(tally.reads, scale.intervals, scale.long);
        self.writes_short.add(tally.writes, scale.intervals, scale.short);
        self.writes_long.add(tally.writes, scale.intervals, scale.long);
    }
}

/// `2^(-age / half_life)`.
#[expect(clippy::cast_precision_loss, reason = "ages need no more than the 53 bits of an f64")]
fn weight(age_ns: u64, half_life_ns: u64) -> f64 {
    (-(age_ns as f64) / (half_life_ns.max(1) as f64)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Rate;

    #[test]
    fn what_was_watched_was_not_seen_for_that() {
        let mut heat = PageHeat { intervals: 100, ..PageHeat::default() };
        heat.all.writes = Rate { seen: 0, chances: 40 };
        assert!(heat.access_count().is_none() && !heat.was_seen());
        heat.all.writes.seen = 1;
        assert!(heat.was_seen());
        heat.all = Tally { sampled: 1, ..Tally::default() };
        assert!(heat.was_seen());
    }
}
