//! The walk through a block, both ways from a sample.

use heat::{AccessKind, Operand};

use super::{Block, Values};

/// Instructions followed backwards. 91% of clock samples stand right behind the load that was
/// waited for, so a few are enough.
const BACKWARDS_MAX: usize = 8;
/// Instructions followed forwards.
const FORWARDS_MAX: usize = 8;

/// Where the instruction lies with respect to the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It had been executed.
    Before,
    /// The sample stands at it.
    At,
    /// It was about to be executed.
    Behind,
}

/// One access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The instruction.
    pub instruction: u64,
    /// The first byte touched.
    pub addr: u64,
    /// How many bytes.
    pub bytes: u32,
    /// What is done.
    pub kind: AccessKind,
    /// To what kind of value.
    pub operand: Operand,
    /// Before or behind the sample.
    pub place: Place,
}

/// Every access round the instruction at `ip` whose address can be worked out from `values`, the
/// registers as they are before that instruction is executed.
pub fn accesses_around(block: &Block, ip: u64, values: &Values, found: &mut Vec<Access>) {
    let Some(index) = block.index_of(ip) else { return };
    collect(block, index, values, Place::At, found);
    let (mut at, mut known) = (index, *values);
    for _ in 0..BACKWARDS_MAX {
        let Some(before) = block.before(at) else { break };
        let Some(line) = block.line(before) else { break };
        line.backwards(&mut known);
        collect(block, before, &known, Place::Before, found);
        at = before;
    }
    let (mut at, mut known) = (index, *values);
    for _ in 0..FORWARDS_MAX {
        let Some(line) = block.line(at) else { break };
        let Some(behind) = block.behind(at) else { break };
        line.forwards(&mut known);
        collect(block, behind, &known, Place::Behind, found);
        at = behind;
    }
}

fn collect(block: &Block, index: usize, values: &Values, place: Place, found: &mut Vec<Access>) {
    let Some(line) = block.line(index) else { return };
    for operand in &line.operands {
        if let Some((addr, bytes)) = operand.place(values) {
            found.push(Access {
                instruction: line.ip,
                addr,
                bytes,
                kind: operand.kind,
                operand: operand.operand,
                place,
            });
        }
    }
}

/// What the instruction at `ip` does to the byte at `addr`, which it is known to touch: the
/// operand that covers it, or the only one that there is.
pub fn operand_at(
    block: &Block,
    ip: u64,
    values: Option<&Values>,
    addr: u64,
) -> Option<(AccessKind, Operand)> {
    let line = block.line(block.index_of(ip)?)?;
    let covers = |place: Option<(u64, u32)>| {
        place.is_some_and(|(start, bytes)| (start..start + u64::from(bytes.max(1))).contains(&addr))
    };
    let fits = line.operands.iter().find(|o| values.is_some_and(|v| covers(o.place(v))));
    let only = match &*line.operands {
        [only] => Some(only),
        _ => None,
    };
    fits.or(only).map(|o| (o.kind, o.operand))
}
