//! From records of the kernel's to samples of heat.

use std::collections::HashMap;

use heat::{AccessKind, Operand, Source};
use mem::{PAGE_SIZE, PageIndex, VirtAddr};
use sys::perf::Sample as Record;
use sys::remote::ProcMem;

use crate::code::Code;
use crate::decode::Access;
use crate::maps::Maps;
use crate::writes::Writes;

/// Records of one fault that a thread followed twice may come as; they are this close together.
const TWICE_NS: u64 = 5_000;
/// Pages that one access of a string instruction is told as, at most.
const PAGES_MAX: usize = 64;

/// Tells the second record of one fault.
#[derive(Debug, Default)]
pub(crate) struct Twice {
    last: HashMap<i32, (u64, u64, u64)>,
}

impl Twice {
    /// Whether the record before it of the same thread tells of the same fault.
    pub(crate) fn is_repeated(&mut self, record: &Record) -> bool {
        let now = (record.ip.0, record.addr.0, record.time_ns);
        let last = self.last.insert(record.tid, now);
        last.is_some_and(|(ip, addr, time)| {
            (ip, addr) == (now.0, now.1) && now.2.saturating_sub(time) < TWICE_NS
        })
    }
}

/// A page fault as a sample; none when nothing is mapped there, or when what the fault was about
/// cannot be told.
pub(crate) fn fault(
    record: &Record,
    code: &mut Code,
    maps: &Maps,
    mem: &ProcMem,
    writes: Option<&Writes>,
) -> Option<heat::Sample> {
    let page = record.addr.page();
    let mapped = maps.find_page(page)?;
    let armed = writes.is_some_and(|w| w.is_armed(page));
    let decoded = if record.in_user { code.operand(maps, mem, record) } else { None };
    let (kind, operand) = match decoded {
        Some(known) => known,
        // A page that is there and armed faults only when written. Elsewhere a fault that the
        // kernel or an unreadable instruction made tells that the page was touched.
        None if armed => (AccessKind::Write, Operand::UNKNOWN),
        None => (AccessKind::Read, Operand::UNKNOWN),
    };
    if kind.writes() && !mapped.write {
        return None;
    }
    // In a system call the instruction is the one behind it.
    let instruction = match (record.in_user, &record.regs) {
        (true, _) => Some(record.ip),
        (false, Some(regs)) => Some(VirtAddr(regs.rip)),
        (false, None) => None,
    };
    Some(heat::Sample {
        page,
        kind,
        weight: 1,
        instruction,
        operand,
        thread: u32::try_from(record.tid).unwrap_or_default(),
        time_ns: record.time_ns,
        source: Source::Fault,
    })
}

/// An access found round a clock sample, as one sample for each page. Says whether its memory is
/// mapped so that the access can be.
pub(crate) fn clock(
    record: &Record,
    access: &Access,
    maps: &Maps,
    mut add: impl FnMut(&heat::Sample),
) -> bool {
    let Some(mapped) = maps.find(access.addr) else { return false };
    if access.kind.writes() && !mapped.write {
        return false;
    }
    let first = access.addr / PAGE_SIZE;
    let last = (access.addr + u64::from(access.bytes.max(1)) - 1) / PAGE_SIZE;
    let inside = mapped.range.end.0.div_ceil(PAGE_SIZE);
    for page in (first..=last).take_while(|p| *p < inside).take(PAGES_MAX) {
        add(&heat::Sample {
            page: PageIndex(page),
            kind: access.kind,
            weight: 1,
            instruction: Some(VirtAddr(access.instruction)),
            operand: access.operand,
            thread: u32::try_from(record.tid).unwrap_or_default(),
            time_ns: record.time_ns,
            source: Source::Clock,
        });
    }
    true
}
