//! Slots of time: recent windows are kept apart, older ones are put together in ever wider slots.
//!
//! Which slot a window is in follows from its own end and from the newest end of all, and a wider
//! slot is always made of whole narrower ones. So the result of merging does not depend on the
//! order, and nothing has to be counted twice to get there.

/// Half the time that the narrowest slots reach back: 2^36 ns, about 69 seconds.
const UNIT_SHIFT: u32 = 36;
/// Each level is 2^4 times as wide as the one below.
const LEVEL_SHIFT: u32 = 4;
/// The widest slots are 2^52 ns, about 52 days; what is older than two of them is forgotten.
pub(crate) const LEVELS: u8 = 5;

/// A stretch of time, aligned to its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) level: u8,
    pub(crate) index: u64,
}

impl Slot {
    const fn shift(level: u8) -> u32 {
        UNIT_SHIFT + LEVEL_SHIFT * (level as u32)
    }

    /// The slot of a window that ended at `end_ns` when the newest ended at `newest_ns`, or
    /// `None` when that is so long ago that it is forgotten.
    pub(crate) fn of(end_ns: u64, newest_ns: u64) -> Option<Self> {
        Self { level: 0, index: end_ns >> UNIT_SHIFT }.widened(newest_ns)
    }

    /// The slot that this one is part of when the newest window ended at `newest_ns`.
    pub(crate) fn widened(self, newest_ns: u64) -> Option<Self> {
        (self.level..LEVELS)
            .map(|level| {
                let index = self.index >> (LEVEL_SHIFT * u32::from(level - self.level));
                Self { level, index }
            })
            .find(|slot| (newest_ns >> Self::shift(slot.level)).saturating_sub(slot.index) < 2)
    }

    /// Whether a window that ended at `end_ns` may be in the slot.
    pub(crate) const fn holds(self, end_ns: u64) -> bool {
        end_ns >> Self::shift(self.level) == self.index
    }
}

/// A widest slot: what is not decayed but only forgotten is kept by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Period(pub(crate) u64);

impl Period {
    /// The period of a window that ended at `end_ns`.
    pub(crate) const fn of(end_ns: u64) -> Self {
        Self(end_ns >> Slot::shift(LEVELS - 1))
    }

    /// Whether it is not yet forgotten when the newest window ended at `newest_ns`.
    pub(crate) const fn is_kept(self, newest_ns: u64) -> bool {
        Self::of(newest_ns).0.saturating_sub(self.0) < 2
    }
}

/// How many units of 2^40 ns lie between two ends of windows.
pub(crate) fn use_age(end_ns: u64, newest_ns: u64) -> u32 {
    let units = (newest_ns >> USE_UNIT_SHIFT).saturating_sub(end_ns >> USE_UNIT_SHIFT);
    u32::try_from(units).unwrap_or(u32::MAX)
}

const USE_UNIT_SHIFT: u32 = 40;
