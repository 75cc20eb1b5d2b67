//! What the watch costs: the program, and of what it may use itself, with what becomes of it when that
//! is too little.

use std::time::{Duration, Instant};

/// Of one processor, in thousandths.
const CPU_PERMILLE_MAX: u64 = 30;
/// Below this the watch does more again.
const CPU_PERMILLE_LOW: u64 = 10;
/// Planning is done at least once in so many periods.
const PLAN_EVERY_MAX: u64 = 16;
/// Beside a hundredth of the program's memory.
const MEMORY_BYTES: u64 = 100 << 20;

/// Our own CPU time and memory, from period to period.
#[derive(Debug)]
pub(super) struct Bounds {
    since: Instant,
    cpu: Duration,
    /// CPU time of checkpoints since then, which was asked for.
    beside: Duration,
    plan_every: u64,
}

/// What earlier profiles cost the program, and the CPU time it had meanwhile, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) spent_us: u64,
    pub(super) program_us: u64,
}

/// What a period took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) cpu_permille: u64,
    pub(super) memory_bytes: u64,
    /// More than may be used.
    pub(super) is_over_memory: bool,
}

impl Bounds {
    pub(super) fn new() -> Self {
        let (since, cpu) = (Instant::now(), crate::host::own_cpu_time());
        Self { since, cpu, beside: Duration::ZERO, plan_every: 1 }
    }

    /// So much of our CPU time went into something that was asked for.
    pub(super) fn leave_out(&mut self, cpu: Duration) {
        self.beside += cpu;
    }

    /// Planning is done once in so many periods.
    pub(super) const fn plan_every(&self) -> u64 {
        self.plan_every
    }

    /// A period has ended, of a program of `resident_bytes`. Says how often planning is done from
    /// now on when that changes.
    pub(super) fn end_period(&mut self, resident_bytes: u64) -> (Own, Option<u64>) {
        let cpu = crate::host::own_cpu_time();
        let used = cpu.saturating_sub(self.cpu).saturating_sub(self.beside);
        let passed = self.since.elapsed().as_micros().max(1);
        let cpu_permille = u64::try_from(used.as_micros() * 1000 / passed).unwrap_or(u64::MAX);
        (self.since, self.cpu, self.beside) = (Instant::now(), cpu, Duration::ZERO);
        let every = plan_every(self.plan_every, cpu_permille);
        let changed = (every != self.plan_every).then_some(every);
        self.plan_every = every;
        let memory_bytes = own_memory_bytes();
        let is_over_memory = memory_bytes > MEMORY_BYTES + resident_bytes / 100;
        (Own { cpu_permille, memory_bytes, is_over_memory }, changed)
    }
}

/// How often planning is done after a period that took `cpu_permille`.
fn plan_every(before: u64, cpu_permille: u64) -> u64 {
    if cpu_permille > CPU_PERMILLE_MAX {
        (before * 2).min(PLAN_EVERY_MAX)
    } else if cpu_permille < CPU_PERMILLE_LOW {
        (before / 2).max(1)
    } else {
        before
    }
}

/// Our resident memory (proc_pid_statm(5)).
fn own_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * mem::PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planning_gives_way_to_the_bound_and_comes_back() {
        assert_eq!(plan_every(1, 31), 2);
        assert_eq!(plan_every(16, 500), 16);
        assert_eq!(plan_every(4, 20), 4);
        assert_eq!(plan_every(4, 5), 2);
        assert_eq!(plan_every(1, 0), 1);
    }

    #[test]
    fn our_own_memory_is_known() {
        assert!(own_memory_bytes() > 1 << 20);
    }
}
