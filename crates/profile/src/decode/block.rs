//! A run of decoded code: a function, or the surroundings of an instruction.

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory};

use super::{Flow, Line};

/// Offsets that are tried as beginnings when no function is known.
const TRIES: usize = 32;
/// How many of them must lead to the instruction, and agree, to be believed.
const AGREE_MIN: usize = 8;

/// Decoded code without gaps.
#[derive(Clone, Debug)]
pub struct Block {
    lines: Vec<Line>,
    /// Sorted addresses that a direct branch inside leads to.
    joins: Vec<u64>,
}

impl Block {
    /// Decodes `bytes`, which begin with an instruction at `start`: a whole function, or code
    /// from an instruction on. Ends before the first byte that is no instruction.
    pub fn decode(start: u64, bytes: &[u8]) -> Self {
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let mut factory = InstructionInfoFactory::new();
        let mut instruction = Instruction::default();
        let mut lines: Vec<Line> = Vec::new();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                break;
            }
            lines.push(Line::new(&instruction, &mut factory));
        }
        let mut joins: Vec<u64> = lines.iter().filter_map(|line| line.target).collect();
        joins.sort_unstable();
        joins.dedup();
        Self { lines, joins }
    }

    /// Decodes round the instruction at `ip` where no function is known: `bytes` begin at `start`
    /// at or before it. Code that can be read in several ways is left out: only what all
    /// beginnings that lead to `ip` agree on is kept.
    pub fn decode_around(start: u64, bytes: &[u8], ip: u64) -> Self {
        let Some(offset) = ip.checked_sub(start).and_then(|o| usize::try_from(o).ok()) else {
            return Self { lines: Vec::new(), joins: Vec::new() };
        };
        let before = bytes.get(..offset).unwrap_or_default();
        let agreed = agreed_start(start, before).unwrap_or(offset);
        let begin = start + u64::try_from(agreed).unwrap_or_default();
        Self::decode(begin, bytes.get(agreed..).unwrap_or_default())
    }

    /// The place of the instruction at `ip` in the block.
    pub(crate) fn index_of(&self, ip: u64) -> Option<usize> {
        self.lines.binary_search_by_key(&ip, |line| line.ip).ok()
    }

    pub(crate) fn line(&self, index: usize) -> Option<&Line> {
        self.lines.get(index)
    }

    /// How many instructions there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no instruction.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The instruction that was executed before the one at `index`, when there is no doubt: the
    /// one in front of it, if nothing jumps here and it does not jump away.
    pub(crate) fn before(&self, index: usize) -> Option<usize> {
        let line = self.lines.get(index)?;
        if self.joins.binary_search(&line.ip).is_ok() {
            return None;
        }
        let before = index.checked_sub(1)?;
        matches!(self.lines[before].flow, Flow::Next | Flow::Branch).then_some(before)
    }

    /// The instruction that will be executed behind the one at `index`, when there is no doubt.
    pub(crate) fn behind(&self, index: usize) -> Option<usize> {
        match self.lines.get(index)?.flow {
            Flow::Next => Some(index + 1).filter(|next| *next < self.lines.len()),
            Flow::Jump(target) => self.index_of(target),
            Flow::Branch | Flow::Elsewhere => None,
        }
    }
}

/// The earliest offset in `before` that every beginning which decodes up to its very end agrees
/// is the start of an instruction, as are all later ones it passes.
fn agreed_start(start: u64, before: &[u8]) -> Option<usize> {
    let mut chains: Vec<Vec<usize>> = Vec::new();
    let mut instruction = Instruction::default();
    for first in 0..TRIES.min(before.len()) {
        let ip = start + u64::try_from(first).ok()?;
        let mut decoder = Decoder::with_ip(64, &before[first..], ip, DecoderOptions::NONE);
        let mut chain = Vec::new();
        while decoder.can_decode() {
            chain.push(first + decoder.position());
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                chain.clear();
                break;
            }
        }
        if !chain.is_empty() {
            chains.push(chain);
        }
    }
    if chains.len() < AGREE_MIN {
        return None;
    }
    // Walk all chains back from the end as long as they name the same offsets.
    let mut agreed = None;
    for back in 1.. {
        let at = |chain: &Vec<usize>| chain.len().checked_sub(back).map(|i| chain[i]);
        let Some(offset) = chains.first().and_then(at) else { break };
        if chains.iter().any(|chain| at(chain) != Some(offset)) {
            break;
        }
        agreed = Some(offset);
    }
    agreed
}
