//! Bytes to heat. Whatever was not written by [`Heat::encode`] is refused.

use std::collections::BTreeMap;

use mem::PageRange;

use super::parts::{Keys, file, key, operand, text};
use super::{CODES, COUNTS, KEYS, LAYOUTS, NAMES, ORDER, TIMELINE, USES, WINDOWS, header};
use crate::bytes::Reader;
use crate::column::{Column, PAGE_END};
use crate::heat::{Cell, Heat, Order, OrderRun, SlotInfo, Timeline, Window};
use crate::slot::{LEVELS, Period, Slot};
use crate::tally::Tally;
use crate::uses::{Code, Uses};
use crate::{HeatError, Layout, MappingKey, Region, RunId, Symbol, Variable};

impl Heat {
    /// The heat in the bytes of a `.heat` file.
    ///
    /// # Errors
    /// When it is something else, of a newer format, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeatError> {
        let [keys, windows, counts, codes, uses, layouts, names, order, timeline] =
            header::read(bytes)?;
        let keys = read_keys(keys)?;
        let mut heat = Self::default();
        heat.read_windows(windows)?;
        heat.read_counts(counts, &keys)?;
        heat.codes = read_codes(codes, &keys)?;
        heat.read_uses(uses, &keys)?;
        heat.read_layouts(layouts, &keys)?;
        heat.read_names(names, &keys)?;
        heat.order = read_order(order, &keys)?;
        heat.timeline = read_timeline(timeline, &keys)?;
        Ok(heat)
    }

    fn read_windows(&mut self, bytes: &[u8]) -> Result<(), HeatError> {
        let mut from = Reader::new(bytes, WINDOWS.name);
        for _ in 0..from.count()? {
            let window = Window {
                end_ns: from.number()?,
                id: from.number()?,
                length_ns: from.number()?,
                intervals: from.number_u32()?,
                run: RunId(from.number()?),
                sampled_intervals: from.number_u32()?,
                unplaced: from.number()?,
                samples: read_samples(&mut from)?,
            };
            let name = (window.end_ns, window.id);
            if self.windows.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(from.invalid("has windows that do not ascend"));
            }
            self.windows.insert(name, window);
        }
        let newest_ns = self.newest_ns();
        for _ in 0..from.count()? {
            let slot = read_slot(&mut from, newest_ns)?;
            let info = SlotInfo { intervals: from.number_u32()?, end_ns: from.number()? };
            let is_last = self.slots.last_key_value().is_none_or(|(last, _)| *last < slot);
            if !is_last || !slot.holds(info.end_ns) || info.end_ns > newest_ns {
                return Err(from.invalid("has slots that do not ascend or do not fit"));
            }
            self.slots.insert(slot, info);
        }
        from.end()
    }

    fn read_counts(&mut self, bytes: &[u8], keys: &Keys) -> Result<(), HeatError> {
        let mut from = Reader::new(bytes, COUNTS.name);
        while !from.is_empty() {
            let (key, slot) = (keys.get(&mut from)?, read_slot(&mut from, self.newest_ns())?);
            let column = Column::<Tally>::from_bytes(from.bytes()?, COUNTS.name)?;
            let known = self.memory.entry(key).or_default();
            let is_new = known.tallies.last_key_value().is_none_or(|(last, _)| *last < slot);
            if !is_new || column.is_empty() || !self.slots.contains_key(&slot) {
                return Err(from.invalid("has counts twice, without a slot or of nothing"));
            }
            known.tallies.insert(slot, column);
        }
        Ok(())
    }

    fn read_uses(&mut self, bytes: &[u8], keys: &Keys) -> Result<(), HeatError> {
        let mut from = Reader::new(bytes, USES.name);
        let codes = self.codes.len();
        let is_known = |uses: &Uses| {
            uses.0.iter().all(|u| usize::try_from(u.code).is_ok_and(|code| code < codes))
        };
        while !from.is_empty() {
            let (key, period) = (keys.get(&mut from)?, Period(from.number()?));
            let column = Column::from_bytes_where(from.bytes()?, USES.name, is_known)?;
            let known = self.memory.entry(key).or_default();
            let is_new = known.uses.last_key_value().is_none_or(|(last, _)| *last < period);
            let is_old = period > Period::of(self.windows.keys().last().map_or(0, |w| w.0));
            if !is_new || is_old || column.is_empty() {
                return Err(from.invalid("has uses twice, of the future or of nothing"));
            }
            known.uses.insert(period, column);
        }
        Ok(())
    }

    fn read_layouts(&mut self, bytes: &[u8], keys: &Keys) -> Result<(), HeatError> {
        let mut from = Reader::new(bytes, LAYOUTS.name);
        while !from.is_empty() {
            let end_ns = from.number()?;
            let layout = read_layout(&mut from, keys)?;
            if self.layouts.last_key_value().is_some_and(|(last, _)| *last >= layout.run()) {
                return Err(from.invalid("has runs that do not ascend"));
            }
            self.layouts.insert(layout.run(), (end_ns, layout));
        }
        Ok(())
    }

    fn read_names(&mut self, bytes: &[u8], keys: &Keys) -> Result<(), HeatError> {
        let mut from = Reader::new(bytes, NAMES.name);
        for _ in 0..from.count()? {
            let (file, path) = (file(&mut from)?, from.bytes()?.to_vec());
            if self.paths.last_key_value().is_some_and(|(last, _)| *last >= file) {
                return Err(from.invalid("has files that do not ascend"));
            }
            self.paths.insert(file, path);
        }
        for _ in 0..from.count()? {
            let place = keys.place(&mut from)?;
            let (name, offset_bytes) = (text(&mut from)?, from.number()?);
            let instruction = text(&mut from)?;
            let source = match from.byte()? {
                0 => None,
                1 => Some((text(&mut from)?, from.number_u32()?)),
                _ => return Err(from.invalid("has a symbol of an unknown kind")),
            };
            if self.symbols.last_key_value().is_some_and(|(last, _)| *last >= place) {
                return Err(from.invalid("has symbols that do not ascend"));
            }
            self.symbols.insert(place, Symbol { name, offset_bytes, source, instruction });
        }
        for _ in 0..from.count()? {
            let (place, size_bytes) = (keys.place(&mut from)?, from.number()?);
            let (name, type_name) = (text(&mut from)?, text(&mut from)?);
            let variable = Variable { place, size_bytes, name, type_name };
            if self.variables.last().is_some_and(|last| *last >= variable) {
                return Err(from.invalid("has variables that do not ascend"));
            }
            self.variables.insert(variable);
        }
        from.end()
    }
}

fn read_keys(bytes: &[u8]) -> Result<Keys, HeatError> {
    let mut from = Reader::new(bytes, KEYS.name);
    let mut keys: Vec<MappingKey> = Vec::new();
    for _ in 0..from.count()? {
        let key = key(&mut from)?;
        if keys.last().is_some_and(|last| *last >= key) {
            return Err(from.invalid("has keys that do not ascend"));
        }
        keys.push(key);
    }
    from.end()?;
    Ok(Keys(keys))
}

fn read_samples(from: &mut Reader<'_>) -> Result<[u64; 8], HeatError> {
    let mut samples = [0; 8];
    for count in &mut samples {
        *count = from.number()?;
    }
    Ok(samples)
}

fn read_slot(from: &mut Reader<'_>, newest_ns: u64) -> Result<Slot, HeatError> {
    let slot = Slot { level: from.byte()?, index: from.number()? };
    if slot.level >= LEVELS || slot.widened(newest_ns) != Some(slot) {
        return Err(from.invalid("has a slot that no window can be in"));
    }
    Ok(slot)
}

fn read_codes(bytes: &[u8], keys: &Keys) -> Result<Vec<Code>, HeatError> {
    let mut from = Reader::new(bytes, CODES.name);
    let mut codes: Vec<Code> = Vec::new();
    for _ in 0..from.count()? {
        let operand = operand(&mut from)?;
        let place = match from.byte()? {
            0 => None,
            1 => Some(keys.place(&mut from)?),
            _ => return Err(from.invalid("has a code of an unknown kind")),
        };
        let code = Code { place, operand };
        if codes.last().is_some_and(|last| *last >= code) {
            return Err(from.invalid("has codes that do not ascend"));
        }
        codes.push(code);
    }
    from.end()?;
    Ok(codes)
}

/// The pages that begin `gap` pages behind `end`.
fn pages(from: &Reader<'_>, end: u64, gap: u64, count: u64) -> Result<PageRange, HeatError> {
    let start = end.checked_add(gap);
    let end = start.and_then(|start| start.checked_add(count)).filter(|end| *end <= PAGE_END);
    match (start, end) {
        (Some(start), Some(end)) if start < end => Ok(PageRange::new(start, end)),
        _ => Err(from.invalid("has a run of no pages or above 2^52")),
    }
}

fn read_layout(from: &mut Reader<'_>, keys: &Keys) -> Result<Layout, HeatError> {
    let run = RunId(from.number()?);
    let mut regions = Vec::new();
    let mut end = 0;
    for _ in 0..from.count()? {
        let (gap, count) = (from.number()?, from.number()?);
        let virtual_pages = pages(from, end, gap, count)?;
        let (key, first) = (keys.get(from)?, from.number()?);
        pages(from, 0, first, count)?;
        let (access, name) = (from.byte()?, from.bytes()?.to_vec());
        regions.push(Region { pages: virtual_pages, key, first, access, name });
        end = virtual_pages.end.0;
    }
    Ok(Layout::from_parts(run, regions))
}

fn read_order(bytes: &[u8], keys: &Keys) -> Result<Option<Order>, HeatError> {
    let mut from = Reader::new(bytes, ORDER.name);
    if from.is_empty() {
        return Ok(None);
    }
    let mut order = Order { window: (from.number()?, from.number()?), runs: BTreeMap::new() };
    while !from.is_empty() {
        let key = keys.get(&mut from)?;
        let mut runs = Vec::new();
        let mut end = 0;
        for _ in 0..from.count()? {
            let (gap, count) = (from.number()?, from.number_u32()?);
            let range = pages(&from, end, gap, u64::from(count))?;
            runs.push(OrderRun { start: range.start.0, pages: count, rank: from.number_u32()? });
            end = range.end.0;
        }
        if order.runs.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(from.invalid("has keys that do not ascend"));
        }
        order.runs.insert(key, runs);
    }
    Ok(Some(order))
}

fn read_timeline(bytes: &[u8], keys: &Keys) -> Result<Option<Timeline>, HeatError> {
    let mut from = Reader::new(bytes, TIMELINE.name);
    if from.is_empty() {
        return Ok(None);
    }
    let mut timeline =
        Timeline { window: (from.number()?, from.number()?), cells: BTreeMap::new() };
    while !from.is_empty() {
        let key = keys.get(&mut from)?;
        let mut cells = Vec::new();
        let mut chunk = 0_u64;
        for _ in 0..from.count()? {
            chunk = chunk.saturating_add(from.number()?);
            let mut small = || {
                let value = from.number()?;
                u16::try_from(value).map_err(|_| from.invalid("has a number above 16 bits"))
            };
            let cell = Cell { chunk, interval: small()?, reads: small()?, writes: small()? };
            let follows = |last: &Cell| (last.chunk, last.interval) < (cell.chunk, cell.interval);
            if !cells.last().is_none_or(follows) || chunk > PAGE_END {
                return Err(from.invalid("has cells that do not ascend"));
            }
            cells.push(cell);
        }
        if timeline.cells.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(from.invalid("has keys that do not ascend"));
        }
        timeline.cells.insert(key, cells);
    }
    Ok(Some(timeline))
}
