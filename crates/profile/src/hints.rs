//! Exact reads: the kernel's own NUMA balancing takes the pages of a program away for a moment,
//! one after the other, and gives each back on its next touch. Every such fault is recorded with
//! its address and instruction. It works on hosts with a single node, needs nothing in the
//! program, and no data is at risk: it is the kernel's ordinary business.
//!
//! The switch is the whole host's: it is put back, also when we are killed. The kernel leaves
//! the pages of a program alone that runs on one thread, so its memory is held a second time.

use std::path::Path;

use mem::{PageRange, PageSet, VirtAddr};
use sys::hold::MemoryHold;
use sys::switch::Switch;
use target::Process;

use crate::maps::{Mapped, Maps};

const SWITCH: &str = "/proc/sys/kernel/numa_balancing";
/// Ordinary balancing; 2 would also move pages between tiers of memory.
const ON: &str = "1";

/// The exact mode, on until dropped.
#[derive(Debug)]
pub(crate) struct Hints {
    _switch: Switch,
    _hold: MemoryHold,
    /// How often the kernel has gone through the program's memory.
    passes_seen: u64,
    /// Full rounds since the beginning.
    rounds: u64,
    /// When the round before this one, and this one, began.
    round_began_ns: u64,
    /// Pages touched in the last round and in this one.
    before: PageSet,
    now: PageSet,
}

/// What is known at the end of a round: these pages were not touched in this time.
#[derive(Debug)]
pub(crate) struct Untouched {
    pub(crate) pages: Vec<PageRange>,
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
}

impl Hints {
    /// Turns it on.
    pub(crate) fn new(process: &Process, now_ns: u64) -> Result<Self, String> {
        let here = process.stat().map_err(|e| e.to_string())?.memory.start_stack;
        let hold = MemoryHold::new(process.pid(), VirtAddr(here))
            .map_err(|e| format!("hold the program's memory: {e}"))?;
        let switch = Path::new(SWITCH);
        if !switch.exists() {
            return Err(format!("{SWITCH}: a kernel with CONFIG_NUMA_BALANCING is needed"));
        }
        // Where it is on anyway, too: it may be on for another profile only, until that one ends.
        let switch = Switch::set(switch, ON).map_err(|e| e.to_string())?;
        Ok(Self {
            _switch: switch,
            _hold: hold,
            passes_seen: passes(process).unwrap_or(0),
            rounds: 0,
            round_began_ns: now_ns,
            before: PageSet::new(),
            now: PageSet::new(),
        })
    }

    /// A page was touched. When it was not touched in the round before this one it had been
    /// taken away before this round began: nobody touched it from then, which is said, on.
    pub(crate) fn touched(&mut self, page: mem::PageIndex) -> Option<u64> {
        let first = !self.now.contains(page);
        if first {
            self.now.insert(PageRange { start: page, end: page.offset(1) });
        }
        (first && self.rounds >= 2 && !self.before.contains(page)).then_some(self.round_began_ns)
    }

    /// Looks whether the kernel has begun another round. A page that was touched neither in the
    /// round that has just ended nor in the one before it was taken away before the round began
    /// and never given back: nobody touched it in all of this round.
    pub(crate) fn round(
        &mut self,
        process: &Process,
        maps: &Maps,
        now_ns: u64,
    ) -> Option<Untouched> {
        let passes = passes(process)?;
        if passes == self.passes_seen {
            return None;
        }
        self.passes_seen = passes;
        self.rounds += 1;
        let before = std::mem::replace(&mut self.before, std::mem::take(&mut self.now));
        let from_ns = std::mem::replace(&mut self.round_began_ns, now_ns);
        // The first round has none before it.
        if self.rounds < 3 {
            return None;
        }
        let mut pages = Vec::new();
        for mapped in maps.list().iter().filter(|m| is_gone_through(m)) {
            let whole = mapped.range.pages();
            let mut left: PageSet = [whole].into_iter().collect();
            before.within(whole).for_each(|run| left.remove(run));
            self.before.within(whole).for_each(|run| left.remove(run));
            pages.extend_from_slice(left.runs());
        }
        Some(Untouched { pages, from_ns, until_ns: now_ns })
    }

    /// How often the kernel has gone through all memory since the beginning.
    pub(crate) const fn rounds(&self) -> u64 {
        self.rounds
    }
}

/// What the kernel takes pages away from: not from special mappings, and not from files that are
/// only read, because other programs may share them.
fn is_gone_through(mapped: &Mapped) -> bool {
    !mapped.is_special() && (mapped.write || mapped.file.is_none())
}

/// How often the kernel has gone through the program's memory (`/proc/PID/sched`).
fn passes(process: &Process) -> Option<u64> {
    let mut text = Vec::new();
    process.dir().read("sched", &mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.starts_with("mm->numa_scan_seq"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}
