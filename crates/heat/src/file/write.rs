//! Heat to bytes.

use std::collections::BTreeSet;

use super::header;
use super::parts::{Keys, put_file, put_key, put_operand, put_text};
use crate::bytes::{put, put_bytes};
use crate::heat::Heat;
use crate::slot::Slot;
use crate::{Layout, MappingKey};

impl Heat {
    /// The bytes of a `.heat` file. Equal heat has equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let keys = Keys(self.all_keys().into_iter().cloned().collect());
        let sections = [
            write_keys(&keys),
            self.write_windows(),
            self.write_counts(&keys),
            self.write_codes(&keys),
            self.write_uses(&keys),
            self.write_layouts(&keys),
            self.write_names(&keys),
            self.write_order(&keys),
            self.write_timeline(&keys),
        ];
        header::write(self.newest_ns(), &sections)
    }

    fn all_keys(&self) -> BTreeSet<&MappingKey> {
        let mut keys: BTreeSet<&MappingKey> = self.memory.keys().collect();
        keys.extend(self.codes.iter().filter_map(|c| c.place.as_ref()).map(|p| &p.key));
        keys.extend(self.layouts.values().flat_map(|(_, l)| l.regions()).map(|r| &r.key));
        keys.extend(self.symbols.keys().map(|p| &p.key));
        keys.extend(self.variables.iter().map(|v| &v.place.key));
        keys.extend(self.order.iter().flat_map(|o| o.runs.keys()));
        keys.extend(self.timeline.iter().flat_map(|t| t.cells.keys()));
        keys
    }

    fn write_windows(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.windows.len() as u64);
        for window in self.windows.values() {
            for value in [
                window.end_ns,
                window.id,
                window.length_ns,
                u64::from(window.intervals),
                window.run.0,
                u64::from(window.sampled_intervals),
                window.unplaced,
            ] {
                put(&mut out, value);
            }
            for count in window.samples {
                put(&mut out, count);
            }
        }
        put(&mut out, self.slots.len() as u64);
        for (slot, info) in &self.slots {
            put_slot(&mut out, *slot);
            put(&mut out, u64::from(info.intervals));
            put(&mut out, info.end_ns);
        }
        out
    }

    fn write_counts(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, known) in &self.memory {
            for (slot, column) in &known.tallies {
                keys.put(&mut out, key);
                put_slot(&mut out, *slot);
                put_bytes(&mut out, column.bytes());
            }
        }
        out
    }

    fn write_codes(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.codes.len() as u64);
        for code in &self.codes {
            put_operand(&mut out, code.operand);
            out.push(u8::from(code.place.is_some()));
            if let Some(place) = &code.place {
                keys.put_place(&mut out, place);
            }
        }
        out
    }

    fn write_uses(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, known) in &self.memory {
            for (period, column) in &known.uses {
                keys.put(&mut out, key);
                put(&mut out, period.0);
                put_bytes(&mut out, column.bytes());
            }
        }
        out
    }

    fn write_layouts(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::new();
        for (end_ns, layout) in self.layouts.values() {
            put(&mut out, *end_ns);
            write_layout(&mut out, layout, keys);
        }
        out
    }

    fn write_names(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.paths.len() as u64);
        for (file, path) in &self.paths {
            put_file(&mut out, file);
            put_bytes(&mut out, path);
        }
        put(&mut out, self.symbols.len() as u64);
        for (place, symbol) in &self.symbols {
            keys.put_place(&mut out, place);
            put_text(&mut out, &symbol.name);
            put(&mut out, symbol.offset_bytes);
            put_text(&mut out, &symbol.instruction);
            out.push(u8::from(symbol.source.is_some()));
            if let Some((file, line)) = &symbol.source {
                put_text(&mut out, file);
                put(&mut out, u64::from(*line));
            }
        }
        put(&mut out, self.variables.len() as u64);
        for variable in &self.variables {
            keys.put_place(&mut out, &variable.place);
            put(&mut out, variable.size_bytes);
            put_text(&mut out, &variable.name);
            put_text(&mut out, &variable.type_name);
        }
        out
    }

    fn write_order(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(order) = &self.order else { return out };
        put(&mut out, order.window.0);
        put(&mut out, order.window.1);
        for (key, runs) in &order.runs {
            keys.put(&mut out, key);
            put(&mut out, runs.len() as u64);
            let mut end = 0;
            for run in runs {
                put(&mut out, run.start - end);
                put(&mut out, u64::from(run.pages));
                put(&mut out, u64::from(run.rank));
                end = run.start + u64::from(run.pages);
            }
        }
        out
    }

    fn write_timeline(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(timeline) = &self.timeline else { return out };
        put(&mut out, timeline.window.0);
        put(&mut out, timeline.window.1);
        for (key, cells) in &timeline.cells {
            keys.put(&mut out, key);
            put(&mut out, cells.len() as u64);
            let mut chunk = 0;
            for cell in cells {
                put(&mut out, cell.chunk - chunk);
                put(&mut out, u64::from(cell.interval));
                put(&mut out, u64::from(cell.reads));
                put(&mut out, u64::from(cell.writes));
                chunk = cell.chunk;
            }
        }
        out
    }
}

fn write_keys(keys: &Keys) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, keys.0.len() as u64);
    for key in &keys.0 {
        put_key(&mut out, key);
    }
    out
}

fn put_slot(out: &mut Vec<u8>, slot: Slot) {
    out.push(slot.level);
    put(out, slot.index);
}

fn write_layout(out: &mut Vec<u8>, layout: &Layout, keys: &Keys) {
    put(out, layout.run().0);
    put(out, layout.regions().len() as u64);
    let mut end = 0;
    for region in layout.regions() {
        put(out, region.pages.start.0 - end);
        put(out, region.pages.count().0);
        keys.put(out, &region.key);
        put(out, region.first);
        out.push(region.access);
        put_bytes(out, &region.name);
        end = region.pages.end.0;
    }
}
