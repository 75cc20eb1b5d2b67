//! What code used memory, and as what: sums by piece and over all.

use std::collections::{BTreeMap, HashMap};

use heat::{Heat, MappingKey, Operand, OperandClass, Region};

use crate::map::{CodeSite, Detail, as_f64};
use crate::names::{key_name, place_name, text};

/// Top code sites kept for a piece.
const CODES_OF_DETAIL: usize = 4;

/// What code used one piece, while it is being collected.
#[derive(Default)]
pub(crate) struct Piece {
    pub(crate) mapping: u32,
    pub(crate) number: u64,
    pub(crate) codes: HashMap<u32, u64>,
}

impl Piece {
    pub(crate) fn flush(
        &mut self,
        grain: u64,
        region: &Region,
        details: &mut Vec<Detail>,
        heat: &Heat,
    ) {
        if self.codes.is_empty() {
            return;
        }
        let mut codes: Vec<(u32, u64)> = self.codes.drain().collect();
        codes.sort_unstable_by_key(|(code, weight)| (std::cmp::Reverse(*weight), *code));
        let mut operands: BTreeMap<Operand, u64> = BTreeMap::new();
        for (code, weight) in &codes {
            if let Some(code) = at(heat.codes(), *code) {
                *operands.entry(code.operand).or_default() += weight;
            }
        }
        let mut operands: Vec<_> = operands.into_iter().collect();
        operands.sort_by_key(|(operand, weight)| (std::cmp::Reverse(*weight), *operand));
        let weight = codes.iter().map(|(_, weight)| weight).sum();
        codes.truncate(CODES_OF_DETAIL);
        let start = (self.number * grain).max(region.pages.start.0);
        let end = ((self.number + 1) * grain).min(region.pages.end.0);
        let pages = end - start;
        details.push(Detail { mapping: self.mapping, start, pages, codes, operands, weight });
    }
}

/// Sums over all memory, by the heat's code numbers.
#[derive(Default)]
pub(crate) struct CodeSums(HashMap<u32, CodeSum>);

#[derive(Default)]
struct CodeSum {
    reads: u64,
    writes: u64,
    pages: u64,
    mappings: BTreeMap<u32, u64>,
}

impl CodeSums {
    pub(crate) fn add(&mut self, code: u32, mapping: u32, pages: u64, reads: u64, writes: u64) {
        let sum = self.0.entry(code).or_default();
        sum.reads = sum.reads.saturating_add(reads);
        sum.writes = sum.writes.saturating_add(writes);
        sum.pages += pages;
        *sum.mappings.entry(mapping).or_default() += reads + writes;
    }

    /// The sites, heaviest first; details are renumbered to match.
    pub(crate) fn into_sites(self, heat: &Heat, details: &mut [Detail]) -> Vec<CodeSite> {
        let mut sums: Vec<(u32, CodeSum)> = self.0.into_iter().collect();
        sums.sort_by_key(|(code, sum)| {
            (std::cmp::Reverse(sum.reads.saturating_add(sum.writes)), *code)
        });
        let numbers: HashMap<u32, u32> = sums.iter().map(|(c, _)| *c).zip(0..).collect();
        for (code, _) in details.iter_mut().flat_map(|d| &mut d.codes) {
            *code = numbers.get(code).copied().unwrap_or(u32::MAX);
        }
        sums.into_iter().filter_map(|(code, sum)| site(heat, code, &sum)).collect()
    }
}

fn site(heat: &Heat, code: u32, sum: &CodeSum) -> Option<CodeSite> {
    let code = at(heat.codes(), code)?;
    let mapping = sum.mappings.iter().max_by_key(|(_, weight)| **weight);
    let mut site = CodeSite {
        operand: operand_name(code.operand),
        reads: sum.reads,
        writes: sum.writes,
        pages: sum.pages,
        mapping: mapping.map_or(0, |(mapping, _)| *mapping),
        ..CodeSite::default()
    };
    if let Some(place) = &code.place {
        site.name = place_name(heat, place);
        site.module = match &place.key {
            MappingKey::Anonymous { .. } => "[generated code]".to_owned(),
            key => key_name(heat, key),
        };
        if let Some(symbol) = heat.symbol(place) {
            site.source = symbol.source.as_ref().map(|(file, line)| (text(file.as_bytes()), *line));
            site.instruction = text(symbol.instruction.as_bytes());
        }
    }
    Some(site)
}

fn at<T>(all: &[T], number: u32) -> Option<&T> {
    all.get(usize::try_from(number).ok()?)
}

/// `f64`, `vector of f32, 32 bytes`.
pub(crate) fn operand_name(operand: Operand) -> String {
    let is_vector = (OperandClass::VectorU8..=OperandClass::Vector).contains(&operand.class)
        || operand.class == OperandClass::Other;
    match operand.class.name() {
        name if is_vector && operand.width_bytes > 0 => {
            format!("{name}, {} bytes", operand.width_bytes)
        }
        name => name.to_owned(),
    }
}

/// `f32 97%, u8 3%`: the shares of operand classes, up to three.
pub(crate) fn verdict(operands: &[(Operand, u64)]) -> String {
    let mut classes: BTreeMap<OperandClass, u64> = BTreeMap::new();
    for (operand, weight) in operands {
        *classes.entry(operand.class).or_default() += weight;
    }
    classes.remove(&OperandClass::Unknown);
    let all: u64 = classes.values().sum();
    let mut classes: Vec<_> = classes.into_iter().filter(|(_, weight)| *weight > 0).collect();
    classes.sort_by_key(|(class, weight)| (std::cmp::Reverse(*weight), *class));
    let share = |weight: u64| crate::names::percent(as_f64(weight) / as_f64(all.max(1)));
    let parts: Vec<String> = classes
        .iter()
        .take(3)
        .map(|(class, weight)| format!("{} {}", class.name(), share(*weight)))
        .collect();
    parts.join(", ")
}
