//! The end of a window: its log becomes heat.

use std::collections::{BTreeMap, BTreeSet};

use mem::PageRange;

use crate::accumulator::{Accumulator, Hit, INTERVAL_NS, INTERVALS_MAX, UseKey, Watch};
use crate::column::{Builder, Column};
use crate::heat::{
    Cell, Heat, KeyHeat, Order, OrderRun, SlotInfo, TIMELINE_PAGES, Timeline, Window,
};
use crate::intervals::Intervals;
use crate::slot::{Period, Slot};
use crate::tally::{Rate, Tally};
use crate::uses::{Code, Use, Uses};
use crate::{FileKey, MappingKey, Place};

impl Accumulator {
    /// Ends the window at `end_ns` of the samples' clock.
    pub fn finish(mut self, end_ns: u64) -> Heat {
        let length_ns = end_ns.saturating_sub(self.start.clock_ns);
        let intervals = length_ns.div_ceil(INTERVAL_NS).clamp(1, u64::from(INTERVALS_MAX));
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        let end_ns = self.start.realtime_ns.saturating_add(length_ns);
        let name = (end_ns, self.start.id);

        self.hits.sort_unstable();
        self.watches.sort_unstable();
        let mut sampled = Intervals::default();
        let last = u16::try_from(intervals).unwrap_or(INTERVALS_MAX);
        for (from, until) in &self.sampled {
            sampled.insert_range(*from, (*until).min(last));
        }
        let tallies = Fold { sampled, last }.all(&self.hits, &self.watches);
        let (codes, mut uses) = self.codes_and_uses();

        let mut heat = Heat { codes, ..Heat::default() };
        let slot = Slot::of(end_ns, end_ns);
        for (number, key) in (0_u32..).zip(&self.keys) {
            let mut known = KeyHeat::default();
            if let (Some(column), Some(slot)) = (tallies.get(&number), slot) {
                known.tallies.insert(slot, column.clone());
            }
            if let Some(uses) = uses.remove(&number) {
                known.uses.insert(Period::of(end_ns), uses);
            }
            if known != KeyHeat::default() {
                heat.memory.insert(key.clone(), known);
            }
        }
        heat.slots.extend(slot.map(|slot| (slot, SlotInfo { intervals, end_ns })));
        heat.windows.insert(name, self.window(end_ns, length_ns, intervals, sampled.count()));
        heat.order = self.start.ordered.then(|| self.order(name));
        heat.timeline = Some(self.timeline(name));
        for region in self.layout.regions() {
            if let MappingKey::File(file) = &region.key {
                keep_largest(&mut heat.paths, file, &region.name);
            }
        }
        heat.layouts.insert(self.layout.run(), (end_ns, self.layout));
        heat
    }

    fn window(&self, end_ns: u64, length_ns: u64, intervals: u32, sampled: u32) -> Window {
        Window {
            id: self.start.id,
            end_ns,
            length_ns,
            intervals,
            run: self.layout.run(),
            samples: self.samples,
            unplaced: self.unplaced,
            sampled_intervals: sampled,
        }
    }

    fn codes_and_uses(&self) -> (Vec<Code>, BTreeMap<u32, Column<Uses>>) {
        let code = |used: &UseKey| Code {
            place: used.code.and_then(|(key, offset_bytes)| {
                let key = self.keys.get(usize::try_from(key).ok()?)?.clone();
                Some(Place { key, offset_bytes })
            }),
            operand: used.operand,
        };
        // Many pages share few codes, so only these are cloned.
        let distinct: BTreeSet<_> = self.uses.keys().map(|u| (u.code, u.operand)).collect();
        let mut numbers: Vec<_> = distinct
            .into_iter()
            .map(|(place, operand)| {
                let used = UseKey { key: 0, page: 0, code: place, operand };
                (code(&used), (place, operand))
            })
            .collect();
        numbers.sort_unstable();
        let positions: BTreeMap<_, u32> =
            numbers.iter().map(|(_, short)| *short).zip(0_u32..).collect();
        let mut rows: Vec<(u32, u64, Use)> = Vec::with_capacity(self.uses.len());
        for (used, count) in &self.uses {
            let Some(code) = positions.get(&(used.code, used.operand)) else { continue };
            let one = Use { code: *code, reads: count.reads, writes: count.writes, age: 0 };
            rows.push((used.key, used.page, one));
        }
        rows.sort_unstable_by_key(|(key, page, used)| (*key, *page, used.code));
        let mut columns = BTreeMap::new();
        for of_key in rows.chunk_by(|a, b| a.0 == b.0) {
            let mut column = Builder::new();
            for of_page in of_key.chunk_by(|a, b| a.1 == b.1) {
                let uses = of_page.iter().map(|row| row.2).collect();
                column.push(of_page[0].1, of_page[0].1 + 1, Uses(uses));
            }
            columns.insert(of_key[0].0, column.finish());
        }
        (numbers.into_iter().map(|(code, _)| code).collect(), columns)
    }

    fn order(&self, window: (u64, u64)) -> Order {
        let mut first: Vec<_> =
            self.first_seen.iter().map(|((key, page), time)| (*time, *key, *page)).collect();
        first.sort_unstable();
        let mut ranked: Vec<(u32, u64, u32)> =
            first.iter().zip(0_u32..).map(|((_, key, page), rank)| (*key, *page, rank)).collect();
        ranked.sort_unstable();
        let mut runs: BTreeMap<MappingKey, Vec<OrderRun>> = BTreeMap::new();
        for of_key in ranked.chunk_by(|a, b| a.0 == b.0) {
            let follows = |a: &(u32, u64, u32), b: &(u32, u64, u32)| {
                b.1 == a.1 + 1 && b.2 == a.2.saturating_add(1)
            };
            let of_key_runs = of_key.chunk_by(follows).map(|run| OrderRun {
                start: run[0].1,
                pages: u32::try_from(run.len()).unwrap_or(u32::MAX),
                rank: run[0].2,
            });
            if let Some(key) = self.key(of_key[0].0) {
                runs.insert(key.clone(), of_key_runs.collect());
            }
        }
        Order { window, runs }
    }

    fn timeline(&self, window: (u64, u64)) -> Timeline {
        // Pages are counted once in each interval; the log is sorted by page, not by chunk.
        let mut counted: BTreeMap<(u32, u64, u16), (u16, u16)> = BTreeMap::new();
        for same in
            self.hits.chunk_by(|a, b| (a.key, a.page, a.interval) == (b.key, b.page, b.interval))
        {
            let hit = same[0];
            let cell =
                counted.entry((hit.key, hit.page / TIMELINE_PAGES, hit.interval)).or_default();
            cell.0 += u16::from(same.iter().any(|h| h.reads));
            cell.1 += u16::from(same.iter().any(|h| h.writes));
        }
        let mut cells: BTreeMap<MappingKey, Vec<Cell>> = BTreeMap::new();
        for ((key, chunk, interval), (reads, writes)) in counted {
            if let Some(key) = self.key(key) {
                let cell = Cell { chunk, interval, reads, writes };
                cells.entry(key.clone()).or_default().push(cell);
            }
        }
        Timeline { window, cells }
    }

    fn key(&self, number: u32) -> Option<&MappingKey> {
        self.keys.get(usize::try_from(number).ok()?)
    }
}

/// Of several paths of a file the last in the alphabet, so that the order of finding them does
/// not matter.
fn keep_largest(paths: &mut BTreeMap<FileKey, Vec<u8>>, file: &FileKey, path: &[u8]) {
    let kept = paths.entry(file.clone()).or_default();
    if path > kept.as_slice() {
        *kept = path.to_vec();
    }
}

/// Counts intervals page by page.
struct Fold {
    /// The intervals in which the statistical collector ran.
    sampled: Intervals,
    /// Intervals of the window.
    last: u16,
}

impl Fold {
    /// The tallies of every key; `hits` and `watches` are sorted.
    fn all(&self, hits: &[Hit], watches: &[Watch]) -> BTreeMap<u32, Column<Tally>> {
        let keys: BTreeSet<u32> =
            hits.iter().map(|h| h.key).chain(watches.iter().map(|w| w.key)).collect();
        let column = |key: u32| {
            let of = |first: usize, end: usize| first..end;
            let hits_of =
                of(hits.partition_point(|h| h.key < key), hits.partition_point(|h| h.key <= key));
            let watches_of = of(
                watches.partition_point(|w| w.key < key),
                watches.partition_point(|w| w.key <= key),
            );
            (key, self.column(&hits[hits_of], &watches[watches_of]))
        };
        keys.into_iter().map(column).filter(|(_, column)| !column.is_empty()).collect()
    }

    /// Walks over the pages at which a watch begins or ends or something was seen.
    fn column(&self, hits: &[Hit], watches: &[Watch]) -> Column<Tally> {
        let seen = hits.iter().flat_map(|h| [h.page, h.page + 1]);
        let mut edges: Vec<u64> =
            seen.chain(watches.iter().flat_map(|w| [w.start, w.end])).collect();
        edges.sort_unstable();
        edges.dedup();

        let mut builder = Builder::new();
        let (mut waiting, mut active) = (watches.iter().peekable(), Vec::new());
        let (mut rest, mut look) = (hits, Look::default());
        for pair in edges.windows(2) {
            let pages = PageRange::new(pair[0], pair[1]);
            let before = active.len();
            active.retain(|w: &&Watch| w.end > pages.start.0);
            let mut changed = active.len() != before;
            while let Some(watch) = waiting.next_if(|w| w.start <= pages.start.0) {
                active.push(watch);
                changed = true;
            }
            if changed {
                look = self.look(&active);
            }
            let count = rest.partition_point(|h| h.page <= pages.start.0);
            let (here, behind) = rest.split_at(count);
            rest = behind;
            builder.push(pages.start.0, pages.end.0, self.tally(here, &look));
        }
        builder.finish()
    }

    fn look(&self, active: &[&Watch]) -> Look {
        let mut look = Look::default();
        for watch in active {
            let clip = |(from, until): (u16, u16)| (from, until.min(self.last));
            let (middles, touched) = (clip(watch.middles), clip(watch.touched));
            for (is, kind) in [(watch.reads, 0), (watch.writes, 1)] {
                if is {
                    look.middles[kind].insert_range(middles.0, middles.1);
                    look.touched[kind].insert_range(touched.0, touched.1);
                }
            }
        }
        look
    }

    /// What the hits of one page say.
    fn tally(&self, hits: &[Hit], look: &Look) -> Tally {
        let mut seen = [Intervals::default(); 2];
        for hit in hits {
            if hit.reads {
                seen[0].insert(hit.interval);
            }
            if hit.writes {
                seen[1].insert(hit.interval);
            }
        }
        let either = seen[0].or(&seen[1]);
        let watched =
            |kind: usize, seen: &Intervals| look.middles[kind].or(&look.touched[kind].and(seen));
        let watched_both = watched(0, &either).and(&watched(1, &either));
        let watched = [watched(0, &seen[0]), watched(1, &seen[1])];
        let is_exact = (0..2).any(|kind| !seen[kind].and(&watched[kind]).is_empty());
        let by_chance = seen[0].without(&watched[0]).or(&seen[1].without(&watched[1]));
        Tally {
            reads: self.rate(&seen[0], &watched[0]),
            writes: self.rate(&seen[1], &watched[1]),
            either: if is_exact {
                // The rate of one kind is known; a bound for both by chance would only blur it.
                Rate { seen: either.and(&watched_both).count(), chances: watched_both.count() }
            } else {
                self.rate(&either, &watched_both)
            },
            sampled: by_chance.count(),
        }
    }

    /// An exact watch tells the rate. Where it saw nothing but somebody did by chance, the
    /// intervals in which chance could have are counted in, which gives a lower bound.
    fn rate(&self, seen: &Intervals, watched: &Intervals) -> Rate {
        let seen_watched = seen.and(watched);
        if seen.is_empty() || !seen_watched.is_empty() {
            return Rate { seen: seen_watched.count(), chances: watched.count() };
        }
        let chances = watched.or(&self.sampled).or(seen).count();
        Rate { seen: seen.count(), chances }
    }
}

/// The intervals in which loads and stores were watched.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    middles: [Intervals; 2],
    touched: [Intervals; 2],
}
