//! Which code used a page, and as what.

use crate::bytes::{Reader, put};
use crate::column::Value;
use crate::{HeatError, Operand, Place};

/// An instruction as far as known, and what it moves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// Where the instruction lies, or `None` where the collector could not tell it.
    pub place: Option<Place>,
    /// What it moves.
    pub operand: Operand,
}

/// How much some code used a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Position in [`crate::Heat::codes`].
    pub code: u32,
    /// Weight of its loads.
    pub reads: u32,
    /// Weight of its stores.
    pub writes: u32,
    /// How long before the end of the newest window it was last seen, in units of 2^40 ns
    /// (18 minutes).
    pub age: u32,
}

/// The uses of a page, ascending by code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses(pub(crate) Vec<Use>);

impl Uses {
    /// Both, with the uses by the same code put together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let mut all = Vec::with_capacity(self.0.len() + other.0.len());
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            match a.code.cmp(&b.code) {
                std::cmp::Ordering::Less => all.extend(left.next()),
                std::cmp::Ordering::Greater => all.extend(right.next()),
                std::cmp::Ordering::Equal => {
                    all.push(Use {
                        code: a.code,
                        reads: a.reads.saturating_add(b.reads),
                        writes: a.writes.saturating_add(b.writes),
                        age: a.age.min(b.age),
                    });
                    left.next();
                    right.next();
                }
            }
        }
        all.extend(left);
        all.extend(right);
        Self(all)
    }
}

const HAS_READS: u8 = 1;
const HAS_WRITES: u8 = 2;
const ONE_READ: u8 = 4;
const ONE_WRITE: u8 = 8;
const HAS_AGE: u8 = 16;

impl Use {
    fn mask(&self) -> u8 {
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        flag(self.reads > 1, HAS_READS)
            | flag(self.writes > 1, HAS_WRITES)
            | flag(self.reads == 1, ONE_READ)
            | flag(self.writes == 1, ONE_WRITE)
            | flag(self.age > 0, HAS_AGE)
    }
}

impl Value for Uses {
    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.0.len() as u64);
        let mut next = 0;
        for used in &self.0 {
            put(out, u64::from(used.code) - next);
            next = u64::from(used.code) + 1;
            let mask = used.mask();
            out.push(mask);
            for (bit, value) in
                [(HAS_READS, used.reads), (HAS_WRITES, used.writes), (HAS_AGE, used.age)]
            {
                if mask & bit != 0 {
                    put(out, u64::from(value));
                }
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, HeatError> {
        let count = from.count()?;
        let mut uses = Vec::with_capacity(count);
        let mut next = 0_u64;
        for _ in 0..count {
            let code = next.saturating_add(from.number()?);
            let code = u32::try_from(code).map_err(|_| from.invalid("has a code above 32 bits"))?;
            next = u64::from(code) + 1;
            let mask = from.byte()?;
            let mut value = |bit: u8, one: u8| {
                if mask & bit != 0 { from.number_u32() } else { Ok(u32::from(mask & one != 0)) }
            };
            let used = Use {
                code,
                reads: value(HAS_READS, ONE_READ)?,
                writes: value(HAS_WRITES, ONE_WRITE)?,
                age: value(HAS_AGE, 0)?,
            };
            if used.mask() != mask {
                return Err(from.invalid("has a use that is not the shortest"));
            }
            uses.push(used);
        }
        Ok(Self(uses))
    }
}
