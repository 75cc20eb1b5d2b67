//! The program's code, decoded where samples lie and kept.

use std::collections::HashMap;
use std::rc::Rc;

use mem::{AddrRange, VirtAddr};
use sys::perf::{Sample, UserRegs};
use sys::remote::ProcMem;

use crate::decode::{Access, Block, Values, accesses_around, operand_at};
use crate::maps::Maps;

/// Instructions kept before everything is thrown away and decoded anew: about 100 MB.
const LINES_MAX: usize = 1 << 20;
/// Bytes looked at before and behind an instruction of no known function.
const AROUND_BYTES: u64 = 96;

/// Decoded code by address.
#[derive(Debug, Default)]
pub(crate) struct Code {
    blocks: HashMap<u64, Rc<Kept>>,
    by_ip: HashMap<u64, Rc<Kept>>,
    lines: usize,
    /// Bases of thread-local memory by thread.
    fs_bases: HashMap<i32, u64>,
}

/// A decoded run of code with the bytes it was made of.
#[derive(Debug)]
struct Kept {
    block: Block,
    range: AddrRange,
    bytes: Vec<u8>,
    /// Whether the bytes may change: code that is not a file's.
    fleeting: bool,
}

impl Code {
    /// Notes where a thread's local memory lies.
    pub(crate) fn set_fs_base(&mut self, tid: i32, base: u64) {
        self.fs_bases.insert(tid, base);
    }

    /// Forgets all code: the mappings have changed.
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.by_ip.clear();
        self.lines = 0;
    }

    /// Every access round a sample whose address can be worked out.
    pub(crate) fn accesses(
        &mut self,
        maps: &Maps,
        mem: &ProcMem,
        sample: &Sample,
        found: &mut Vec<Access>,
    ) {
        let Some(regs) = &sample.regs else { return };
        let values = self.values(sample.tid, regs);
        if let Some(kept) = self.at(maps, mem, sample.ip.0) {
            accesses_around(&kept.block, sample.ip.0, &values, found);
        }
    }

    /// What the instruction at a faulting sample does to the address it faulted on.
    pub(crate) fn operand(
        &mut self,
        maps: &Maps,
        mem: &ProcMem,
        sample: &Sample,
    ) -> Option<(heat::AccessKind, heat::Operand)> {
        let values = sample.regs.as_ref().map(|regs| self.values(sample.tid, regs));
        let kept = self.at(maps, mem, sample.ip.0)?;
        operand_at(&kept.block, sample.ip.0, values.as_ref(), sample.addr.0)
    }

    fn values(&self, tid: i32, regs: &UserRegs) -> Values {
        Values::of_sample(regs, self.fs_bases.get(&tid).copied())
    }

    fn at(&mut self, maps: &Maps, mem: &ProcMem, ip: u64) -> Option<Rc<Kept>> {
        if let Some(kept) = self.by_ip.get(&ip)
            && (!kept.fleeting || is_unchanged(kept, mem))
        {
            return Some(kept.clone());
        }
        let mapped = maps.find(ip).filter(|m| m.exec)?;
        let fleeting = mapped.file.is_none() && !mapped.is_special() || mapped.write;
        let function = maps.function(ip);
        let range = function.unwrap_or_else(|| {
            let start = ip.saturating_sub(AROUND_BYTES).max(mapped.range.start.0);
            AddrRange::new(start, ip.saturating_add(AROUND_BYTES).min(mapped.range.end.0))
        });
        let known = self.blocks.get(&range.start.0).filter(|k| !k.fleeting && function.is_some());
        let kept = match known {
            Some(kept) => kept.clone(),
            None => {
                let bytes = read(mem, range)?;
                let block = if function.is_some() {
                    Block::decode(range.start.0, &bytes)
                } else {
                    Block::decode_around(range.start.0, &bytes, ip)
                };
                self.lines += block.len();
                Rc::new(Kept { block, range, bytes, fleeting })
            }
        };
        if self.lines > LINES_MAX {
            self.clear();
        }
        if function.is_some() {
            self.blocks.insert(range.start.0, kept.clone());
        }
        self.by_ip.insert(ip, kept.clone());
        Some(kept)
    }
}

fn read(mem: &ProcMem, range: AddrRange) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.len()).ok()?];
    let got = mem.read(VirtAddr(range.start.0), &mut bytes).ok()?;
    bytes.truncate(got);
    Some(bytes)
}

fn is_unchanged(kept: &Kept, mem: &ProcMem) -> bool {
    read(mem, kept.range).is_some_and(|bytes| bytes == kept.bytes)
}
