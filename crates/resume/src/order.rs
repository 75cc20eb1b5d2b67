//! In which order pages are loaded, and which together.

use mem::{MemoryId, PageRange, PageSet};
use plan::{Plan, Tier};

/// Pages of a chunk: what a source keeps in one frame.
const FRAME_PAGES_MAX: u64 = 16;

/// Pages that are read together: those of one tier in a chunk of 16 aligned pages, which is what a
/// source keeps in one frame, or a longer run of neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) memory: MemoryId,
    pub(crate) tier: Tier,
    /// Ascending, not touching.
    pub(crate) runs: Vec<PageRange>,
    /// The load order of the soonest of them.
    pub(crate) order: u32,
}

impl Piece {
    pub(crate) fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes()).sum()
    }

    /// The first and last page, and all between.
    pub(crate) fn hull(&self) -> PageRange {
        match (self.runs.first(), self.runs.last()) {
            (Some(first), Some(last)) => PageRange { start: first.start, end: last.end },
            _ => PageRange::default(),
        }
    }

    fn chunk(&self) -> u64 {
        self.hull().start.0 / FRAME_PAGES_MAX
    }

    /// Whether `next` can be read along: as soon needed, behind it, and not too much.
    fn takes(&self, next: &Self, pages_max: u64) -> bool {
        let (hull, behind) = (self.hull(), next.hull());
        self.memory == next.memory
            && (self.tier, self.order) == (next.tier, next.order)
            && self.runs.len() == 1
            && next.runs.len() == 1
            && hull.end == behind.start
            && hull.start.0 / pages_max == (behind.end.0 - 1) / pages_max
    }
}

/// All pages of `sets` in pieces of at most `pages_max` pages, a multiple of 16: critical ones
/// first, then warm ones, then cold ones, each in the load order of `plan`. Pages that it does not
/// name are the last warm ones.
pub(crate) fn load_order(
    sets: &[(MemoryId, PageSet)],
    plan: Option<&Plan>,
    pages_max: u64,
) -> Vec<Piece> {
    let nothing = Plan::default();
    let places = plan.unwrap_or(&nothing).by_place();
    let mut pieces = Vec::new();
    for (memory, set) in sets {
        let mut parts: Vec<Piece> = Vec::new();
        for run in set.runs() {
            for (pages, extent) in places.within(*memory, *run) {
                let tier = extent.map_or(Plan::UNNAMED, |extent| extent.tier);
                let order = extent.map_or(u32::MAX, |extent| extent.load_order);
                let piece = |pages| Piece { memory: *memory, tier, runs: vec![pages], order };
                parts.extend(pages.aligned_chunks(FRAME_PAGES_MAX).map(piece));
            }
        }
        parts.sort_by_key(|part| (part.chunk(), part.tier));
        for part in parts {
            match pieces.last_mut() {
                Some(last) if together(last, &part) => add(last, &part),
                _ => pieces.push(part),
            }
        }
    }
    pieces.sort_by_key(|piece| (piece.tier, piece.order));
    pieces.dedup_by(|next, before| {
        let takes = before.takes(next, pages_max);
        if takes {
            add(before, next);
        }
        takes
    });
    pieces
}

fn together(last: &Piece, part: &Piece) -> bool {
    last.memory == part.memory && last.tier == part.tier && last.chunk() == part.chunk()
}

fn add(piece: &mut Piece, part: &Piece) {
    piece.order = piece.order.min(part.order);
    for run in &part.runs {
        match piece.runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => piece.runs.push(*run),
        }
    }
}

#[cfg(test)]
mod tests {
    use plan::{Extent, Treatment};

    use super::*;

    const MEMORY: MemoryId = MemoryId::Private(0);

    fn set(runs: &[(u64, u64)]) -> PageSet {
        runs.iter().map(|(start, end)| PageRange::new(*start, *end)).collect()
    }

    fn extent(start: u64, end: u64, tier: Tier, load_order: u32) -> Extent {
        let pages = PageRange::new(start, end);
        let reason = "".into();
        Extent { memory: MEMORY, pages, tier, treatment: Treatment::Raw, load_order, reason }
    }

    fn runs(pieces: &[Piece]) -> Vec<Vec<(u64, u64)>> {
        let of = |piece: &Piece| piece.runs.iter().map(|r| (r.start.0, r.end.0)).collect();
        pieces.iter().map(of).collect()
    }

    #[test]
    fn tiers_decide_then_load_order_then_address() {
        let sets = [(MEMORY, set(&[(0, 300), (1000, 1010)]))];
        let plan = Plan {
            extents: vec![
                extent(0, 16, Tier::Cold, 0),
                extent(64, 80, Tier::Warm, 2),
                extent(1005, 1100, Tier::Critical, 9),
            ],
        };
        let got = load_order(&sets, Some(&plan), 256);
        let expected: [&[(u64, u64)]; 7] = [
            &[(1005, 1010)],
            &[(64, 80)],
            &[(16, 64)],
            &[(80, 256)],
            &[(256, 300)],
            &[(1000, 1005)],
            &[(0, 16)],
        ];
        assert_eq!(runs(&got), expected);
    }

    #[test]
    fn pages_of_a_tier_in_a_chunk_are_read_together() {
        let sets = [(MEMORY, set(&[(0, 32)]))];
        let extents = (0..32)
            .step_by(4)
            .map(|n| extent(n, n + 1, Tier::Critical, 40 - u32::try_from(n).unwrap()));
        let got = load_order(&sets, Some(&Plan { extents: extents.collect() }), 256);
        let expected: [&[(u64, u64)]; 4] = [
            &[(16, 17), (20, 21), (24, 25), (28, 29)],
            &[(0, 1), (4, 5), (8, 9), (12, 13)],
            &[(1, 4), (5, 8), (9, 12), (13, 16)],
            &[(17, 20), (21, 24), (25, 28), (29, 32)],
        ];
        assert_eq!(runs(&got), expected);
    }

    #[test]
    fn every_page_is_loaded_once() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..300 {
            let all: PageSet =
                (0..400).filter(|_| draw(3) > 0).map(|n| PageRange::new(n, n + 1)).collect();
            let (mut at, mut extents) = (0, Vec::new());
            while at < 400 {
                let end = at + 1 + draw(30);
                if draw(4) > 0 {
                    let tier = Tier::ALL[usize::try_from(draw(3)).unwrap()];
                    extents.push(extent(at, end, tier, u32::try_from(draw(5)).unwrap()));
                }
                at = end;
            }
            let plan = Plan { extents };
            let sets = [(MEMORY, all.clone())];
            let mut left = all;
            let mut last = Tier::Critical;
            for piece in load_order(&sets, Some(&plan), 64) {
                assert!(piece.tier >= last && piece.bytes() <= 64 * 4096);
                last = piece.tier;
                for run in piece.runs {
                    for page in run.start.0..run.end.0 {
                        let page = PageRange::new(page, page + 1);
                        assert!(left.contains(page.start));
                        let named = plan.by_place().at(MEMORY, page.start);
                        assert_eq!(named.map_or(Tier::Warm, |e| e.tier), piece.tier);
                        left.remove(page);
                    }
                }
            }
            assert!(left.is_empty());
        }
    }
}
