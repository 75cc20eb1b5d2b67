//! Moves of pages, as they are told: where, from, to, why.

use heat::{Heat, Layout};
use mem::{MemoryId, PageRange};
use partition::Move;
use plan::Tier;

use super::events::MoveRow;

/// Moves told one by one in a period: the largest.
const TOLD_MAX: usize = 100;

/// What moved, all in all, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) promoted: u64,
    pub(super) demoted: u64,
}

pub(super) fn sums(moves: &[Move]) -> Sums {
    let mut sums = Sums::default();
    for one in moves {
        let pages = one.pages.count().0;
        match one.to < one.from {
            true => sums.promoted += pages,
            false => sums.demoted += pages,
        }
    }
    sums
}

/// The largest of `moves`, ascending by place.
pub(super) fn rows(mut moves: Vec<Move>, heat: &Heat, layout: &Layout) -> Vec<MoveRow> {
    moves.sort_unstable_by_key(|one| std::cmp::Reverse(one.pages.count()));
    moves.truncate(TOLD_MAX);
    moves.sort_unstable_by_key(|one| (one.memory, one.pages.start));
    let sources = heat.sources(layout);
    moves.iter().map(|one| row(one, heat, layout, &sources)).collect()
}

fn row(one: &Move, heat: &Heat, layout: &Layout, sources: &[(heat::MappingKey, u64)]) -> MoveRow {
    let addrs = one.pages.addrs();
    let found = match one.memory {
        MemoryId::Private(_) => layout.find(one.pages.start),
        MemoryId::Shared(_) => None,
    };
    let user = found.and_then(|(at, region)| {
        let (key, first) = sources.get(at)?;
        let start = first + (one.pages.start.0 - region.pages.start.0);
        let pages = PageRange::new(start, start + one.pages.count().0);
        main_user(heat, key, pages)
    });
    let name = found.map_or(&[][..], |(_, region)| &region.name);
    let (hot, of) = (one.hot_periods, one.of_periods);
    let mut reason = match one.to < one.from {
        true => format!("used in {hot} of the last {of} periods"),
        false => format!("used in {hot} of the last {of} periods, in none of the newest"),
    };
    if one.to == Tier::Warm && one.from == Tier::Critical {
        reason = format!("used less in the newest periods, in {hot} of the last {of} at all");
    }
    if let Some(user) = user {
        reason.push_str(&format!(", most by {user}"));
    }
    MoveRow {
        start: addrs.start.0,
        end: addrs.end.0,
        name: String::from_utf8_lossy(name).into_owned(),
        from: one.from.name(),
        to: one.to.name(),
        reason,
    }
}

/// The code that used `pages` of `key` most, by name where it has one.
fn main_user(heat: &Heat, key: &heat::MappingKey, pages: PageRange) -> Option<String> {
    let mut weights = std::collections::BTreeMap::<u32, u64>::new();
    heat.for_each_use(key, pages.start.0..pages.end.0, |run, uses| {
        for used in uses {
            let weight = u64::from(used.reads) + u64::from(used.writes);
            *weights.entry(used.code).or_default() += weight * (run.end - run.start);
        }
    });
    let mut all: Vec<(u64, u32)> = weights.into_iter().map(|(code, w)| (w, code)).collect();
    all.sort_unstable_by_key(|(weight, code)| (std::cmp::Reverse(*weight), *code));
    let named = |(_, code): &(u64, u32)| {
        let place = heat.codes().get(usize::try_from(*code).ok()?)?.place.as_ref()?;
        Some(format!("`{}`", heat.symbol(place)?.name))
    };
    all.iter().find_map(named)
}
