//! Several heats put together.
//!
//! Every part is either a sum of integers, a maximum, or a union, and what is dropped or widened
//! depends only on the newest window's end; so the order of merging cannot be told from the
//! result.

use std::collections::BTreeMap;

use crate::column::Builder;
use crate::heat::{Heat, KeyHeat};
use crate::slot::{Period, use_age};
use crate::tally::Tally;
use crate::uses::{Code, Uses};

/// Windows that a heat remembers by name.
pub(crate) const WINDOWS_MAX: usize = 4096;

impl Heat {
    /// Both together. Associative and commutative. Windows that both hold are counted twice:
    /// ask [`Heat::overlaps`] before.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let newest_ns = self.newest_ns().max(other.newest_ns());
        let codes = Codes::of([self, other], newest_ns);
        let mut merged = Self { codes: codes.all.clone(), ..Self::default() };
        for (heat, numbers) in [self, other].into_iter().zip(&codes.numbers) {
            merged.take(heat, newest_ns, numbers);
        }
        merged
    }

    fn take(&mut self, heat: &Self, newest_ns: u64, numbers: &[u32]) {
        for (slot, info) in &heat.slots {
            if let Some(slot) = slot.widened(newest_ns) {
                let sum = self.slots.entry(slot).or_default();
                sum.intervals = sum.intervals.saturating_add(info.intervals);
                sum.end_ns = sum.end_ns.max(info.end_ns);
            }
        }
        let older = use_age(heat.newest_ns(), newest_ns);
        for (key, theirs) in &heat.memory {
            let ours = self.memory.entry(key.clone()).or_default();
            ours.take(theirs, newest_ns, |uses| renumber(uses, numbers, older));
            if *ours == KeyHeat::default() {
                self.memory.remove(key);
            }
        }
        self.take_the_rest(heat, newest_ns);
    }

    fn take_the_rest(&mut self, heat: &Self, newest_ns: u64) {
        let is_kept = |end_ns: u64| Period::of(end_ns).is_kept(newest_ns);
        for (name, window) in heat.windows.iter().filter(|((end, _), _)| is_kept(*end)) {
            let ours = self.windows.entry(*name).or_insert_with(|| window.clone());
            // Names are random, so this never happens; it has to have one result all the same.
            if *window > *ours {
                *ours = window.clone();
            }
        }
        while self.windows.len() > WINDOWS_MAX {
            self.windows.pop_first();
        }
        for (run, (end_ns, layout)) in heat.layouts.iter().filter(|(_, (end, _))| is_kept(*end)) {
            let ours = self.layouts.entry(*run).or_default();
            if (*end_ns, layout.regions()) > (ours.0, ours.1.regions()) {
                *ours = (*end_ns, layout.clone());
            }
        }
        for (file, path) in &heat.paths {
            let ours = self.paths.entry(file.clone()).or_default();
            if *path > *ours {
                ours.clone_from(path);
            }
        }
        for (place, symbol) in &heat.symbols {
            let ours = self.symbols.entry(place.clone()).or_insert_with(|| symbol.clone());
            if *symbol > *ours {
                ours.clone_from(symbol);
            }
        }
        self.variables.extend(heat.variables.iter().cloned());
        let order = heat.order.as_ref().filter(|o| is_kept(o.window.0));
        if order > self.order.as_ref() {
            self.order = order.cloned();
        }
        if heat.timeline > self.timeline {
            self.timeline.clone_from(&heat.timeline);
        }
    }
}

impl KeyHeat {
    fn take(&mut self, theirs: &Self, newest_ns: u64, renumber: impl Fn(Uses) -> Uses) {
        for (slot, column) in &theirs.tallies {
            if let Some(slot) = slot.widened(newest_ns) {
                let ours = self.tallies.entry(slot).or_default();
                *ours = ours.join(column, Tally::plus);
            }
        }
        for (period, column) in theirs.uses.iter().filter(|(p, _)| p.is_kept(newest_ns)) {
            let mut renumbered = Builder::new();
            for run in column.runs() {
                renumbered.push(run.start, run.end, renumber(run.value));
            }
            let ours = self.uses.entry(*period).or_default();
            *ours = ours.join(&renumbered.finish(), Uses::plus);
        }
    }
}

/// The uses by the new numbers of their codes; numbers keep their order, so uses do, too.
fn renumber(mut uses: Uses, numbers: &[u32], older: u32) -> Uses {
    for used in &mut uses.0 {
        let at = usize::try_from(used.code).unwrap_or(usize::MAX);
        used.code = numbers.get(at).copied().unwrap_or(u32::MAX);
        used.age = used.age.saturating_add(older);
    }
    uses
}

/// The codes that several heats still refer to, ascending, and the new number of each old one.
struct Codes {
    all: Vec<Code>,
    numbers: [Vec<u32>; 2],
}

impl Codes {
    fn of(heats: [&Heat; 2], newest_ns: u64) -> Self {
        let used = heats.map(|heat| used_codes(heat, newest_ns));
        let mut all: BTreeMap<&Code, u32> = BTreeMap::new();
        for (heat, used) in heats.iter().zip(&used) {
            all.extend(heat.codes.iter().zip(used).filter(|(_, used)| **used).map(|(c, _)| (c, 0)));
        }
        for (number, code) in (0..).zip(all.values_mut()) {
            *code = number;
        }
        let number = |heat: &Heat| {
            heat.codes.iter().map(|c| all.get(c).copied().unwrap_or(u32::MAX)).collect()
        };
        Self { numbers: heats.map(number), all: all.keys().map(|c| (*c).clone()).collect() }
    }
}

fn used_codes(heat: &Heat, newest_ns: u64) -> Vec<bool> {
    let mut used = vec![false; heat.codes.len()];
    let kept = heat.memory.values().flat_map(|k| &k.uses).filter(|(p, _)| p.is_kept(newest_ns));
    for one in kept.flat_map(|(_, column)| column.runs()).flat_map(|run| run.value.0) {
        if let Some(used) = usize::try_from(one.code).ok().and_then(|at| used.get_mut(at)) {
            *used = true;
        }
    }
    used
}
