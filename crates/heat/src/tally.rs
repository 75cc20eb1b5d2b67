//! What is known of a page from one slot of time.

use crate::HeatError;
use crate::bytes::{Reader, put};
use crate::column::Value;

/// Intervals in which something was seen, out of those in which it could have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Intervals in which it was seen.
    pub seen: u32,
    /// Intervals in which it was or would have been seen; 0: nobody looked.
    pub chances: u32,
}

impl Rate {
    /// How many of `intervals` would have seen it: `round(seen * intervals / chances)`, or
    /// `None` when nobody looked.
    pub fn count(self, intervals: u32) -> Option<u32> {
        let chances = u64::from(self.chances);
        let product = u64::from(self.seen) * u64::from(intervals);
        // At most `intervals`, since no more is seen than there were chances.
        (chances > 0).then(|| u32::try_from((product + chances / 2) / chances).unwrap_or(u32::MAX))
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen.saturating_add(other.seen),
            chances: self.chances.saturating_add(other.chances),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        put(out, u64::from(self.seen));
        put(out, u64::from(self.chances - self.seen));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, HeatError> {
        let (seen, more) = (from.number_u32()?, from.number_u32()?);
        match seen.checked_add(more) {
            Some(0) | None => Err(from.invalid("has a rate without chances")),
            Some(chances) => Ok(Self { seen, chances }),
        }
    }
}

/// What is known of a page from one slot of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Loads.
    pub reads: Rate,
    /// Stores.
    pub writes: Rate,
    /// Accesses of either kind, while both kinds could have been seen.
    pub either: Rate,
    /// Intervals in which the page was seen by chance, outside of any exact watch.
    pub sampled: u32,
}

impl Tally {
    /// How many of `intervals` would have seen an access. Reads and writes are watched at
    /// different times, so this is the largest of what either kind and both together tell.
    /// `None`: never seen, and not watched for both kinds.
    pub fn access_count(&self, intervals: u32) -> Option<u32> {
        let [reads, writes, either] =
            [self.reads, self.writes, self.either].map(|rate| rate.count(intervals));
        let most = reads.max(writes).max(either)?;
        let both_watched = either.is_some() || (reads.is_some() && writes.is_some());
        (self.was_seen() || both_watched).then_some(most)
    }

    /// Whether an access was seen in any interval that was watched.
    pub const fn was_seen(&self) -> bool {
        self.reads.seen > 0 || self.writes.seen > 0 || self.either.seen > 0
    }

    pub(crate) const fn plus(&self, other: &Self) -> Self {
        Self {
            reads: self.reads.plus(other.reads),
            writes: self.writes.plus(other.writes),
            either: self.either.plus(other.either),
            sampled: self.sampled.saturating_add(other.sampled),
        }
    }
}

const READS: u8 = 1;
const WRITES: u8 = 2;
const EITHER_IS_READS: u8 = 1 << 2;
const EITHER_IS_WRITES: u8 = 2 << 2;
const EITHER: u8 = 3 << 2;
const SAMPLED: u8 = 1 << 4;

impl Tally {
    fn mask(&self) -> u8 {
        let nothing = Rate::default();
        let either = match self.either {
            e if e == nothing => 0,
            e if e == self.reads => EITHER_IS_READS,
            e if e == self.writes => EITHER_IS_WRITES,
            _ => EITHER,
        };
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        flag(self.reads != nothing, READS)
            | flag(self.writes != nothing, WRITES)
            | either
            | flag(self.sampled != 0, SAMPLED)
    }
}

impl Value for Tally {
    fn write(&self, out: &mut Vec<u8>) {
        let mask = self.mask();
        out.push(mask);
        if mask & READS != 0 {
            self.reads.write(out);
        }
        if mask & WRITES != 0 {
            self.writes.write(out);
        }
        if mask & EITHER == EITHER {
            self.either.write(out);
        }
        if mask & SAMPLED != 0 {
            put(out, u64::from(self.sampled));
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, HeatError> {
        let mask = from.byte()?;
        let mut tally = Self::default();
        if mask & READS != 0 {
            tally.reads = Rate::read(from)?;
        }
        if mask & WRITES != 0 {
            tally.writes = Rate::read(from)?;
        }
        tally.either = match mask & EITHER {
            EITHER => Rate::read(from)?,
            EITHER_IS_READS => tally.reads,
            EITHER_IS_WRITES => tally.writes,
            _ => Rate::default(),
        };
        if mask & SAMPLED != 0 {
            tally.sampled = from.number_u32()?;
        }
        if tally.mask() != mask {
            return Err(from.invalid("has a tally that is not the shortest"));
        }
        Ok(tally)
    }
}
