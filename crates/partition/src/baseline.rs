//! Simple policies, to race the others against.

use plan::{Planned, Thresholds, Tier};

use crate::builder::{Builder, Decision};
use crate::odds::Odds;
use crate::walk::{Piece, Walker};
use crate::{Input, Policy};

/// How large the tiers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Pages in critical.
    pub critical_pages: u64,
    /// Pages in warm.
    pub warm_pages: u64,
}

impl Default for Sizes {
    /// As much as a hot set usually has; a share would be of no use to a race.
    fn default() -> Self {
        Self { critical_pages: 2_048, warm_pages: 32_768 }
    }
}

/// The pages accessed last, the newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lru(pub Sizes);

/// The pages with the lowest addresses, as a resume loads them that knows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressOrder(pub Sizes);

/// The pages that the last resume missed, in that order, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastFaults(pub Sizes);

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn plan(&self, input: &Input<'_>) -> Planned {
        ranked(self.name(), "by last access", input, self.0, |piece| {
            Some(u64::from(u32::MAX - piece.heat.last_access?))
        })
    }
}

impl Policy for AddressOrder {
    fn name(&self) -> &'static str {
        "address-order"
    }

    fn plan(&self, input: &Input<'_>) -> Planned {
        ranked(self.name(), "by address", input, self.0, |_| Some(0))
    }
}

impl Policy for LastFaults {
    fn name(&self) -> &'static str {
        "last-faults"
    }

    fn plan(&self, input: &Input<'_>) -> Planned {
        // Only the newest log, and of that only what it says itself.
        let newest = Input { faults: input.faults.get(..1).unwrap_or_default(), ..*input };
        ranked(self.name(), "missed by the last resume", &newest, self.0, |piece| {
            Some(u64::from(piece.faulted?.order))
        })
    }
}

/// Fills critical, then warm, with the pages of the lowest rank; pages without one are cold.
fn ranked(
    name: &'static str,
    reason: &str,
    input: &Input<'_>,
    sizes: Sizes,
    rank: impl Fn(&Piece<'_>) -> Option<u64>,
) -> Planned {
    let walker = Walker::new(input);
    let odds = Odds::new(input, &walker);
    let mut pieces = Vec::new();
    walker.walk(|piece| {
        if let Some(rank) = rank(piece) {
            pieces.push((rank, piece.memory, piece.pages));
        }
    });
    pieces.sort_unstable();
    let mut tiers = Vec::with_capacity(pieces.len() + 2);
    let mut room = [(Tier::Critical, sizes.critical_pages), (Tier::Warm, sizes.warm_pages)];
    for ((_, memory, mut pages), order) in pieces.into_iter().zip(0u32..) {
        for (tier, left) in &mut room {
            let count = pages.count().0.min(*left);
            if count > 0 {
                let (head, rest) = (pages.start, pages.start.offset(count));
                let pages_taken = mem::PageRange { start: head, end: rest };
                tiers.push(crate::Stretch { memory, pages: pages_taken, value: (*tier, order) });
                pages.start = rest;
                *left -= count;
            }
        }
    }
    let tiers = crate::cursor::tidy(tiers);
    let mut cursor = crate::cursor::Cursor::new(&tiers);
    let mut builder = Builder::new(input);
    let chosen = builder.reason(reason);
    let rest = builder.reason(format!("not {reason}"));
    walker.walk(|piece| {
        let probability = odds.probability(piece);
        let mut part = *piece;
        while part.pages.start < piece.pages.end {
            let (found, end) = cursor.at(piece.memory, part.pages.start, piece.pages.end);
            part.pages.end = end;
            let (tier, priority) = found.copied().unwrap_or((Tier::Cold, 0));
            let reason = if found.is_some() { chosen } else { rest };
            builder.add(&part, Decision { tier, priority, reason, probability });
            part.pages.start = end;
        }
    });
    builder.finish(name, Thresholds::default(), &odds)
}
