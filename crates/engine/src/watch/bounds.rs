//! What the watch costs: the program, and of what it may use itself, with what becomes of it when that
//! is too little.

use std::time::{Duration, Instant};
use store::Listed;

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
        let (since, cpu) = (Instant::now(), sys::clock::own_cpu());
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
        let cpu = sys::clock::own_cpu();
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

/// What a checkpoint takes in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// As it is.
    pub(super) stored_bytes: u64,
    /// At most, when it is made independent.
    pub(super) whole_bytes: u64,
    /// Others hold pages of it.
    pub(super) has_parent: bool,
}

impl Size {
    pub(super) fn of(listed: &Listed) -> Self {
        Self {
            stored_bytes: listed.stored_bytes,
            whole_bytes: listed.page_bytes + listed.referenced_bytes,
            has_parent: listed.parent.is_some(),
        }
    }
}

/// How many of the newest of `sizes`, the newest first, are to stay so that they take at most
/// `bytes_max`; `None` when nothing is to go, or would help.
///
/// To let one go that others build on is to write those anew, so it is made worth it: a quarter of
/// the room is free afterwards where that can be had.
pub(super) fn newest_within(sizes: &[Size], keep: usize, bytes_max: u64) -> Option<usize> {
    let total: u64 = sizes.iter().map(|size| size.stored_bytes).sum();
    if total <= bytes_max {
        return None;
    }
    // What was stored whole says better than the pages how small a whole one gets.
    let whole = sizes.iter().filter(|size| !size.has_parent).map(|size| size.stored_bytes).max();
    let after = |newest: usize| {
        let (oldest, younger) = sizes[..newest].split_last()?;
        let independent = match (oldest.has_parent, whole) {
            (false, _) => oldest.stored_bytes,
            (true, Some(whole)) => whole.min(oldest.whole_bytes),
            (true, None) => oldest.whole_bytes,
        };
        Some(younger.iter().map(|size| size.stored_bytes).sum::<u64>() + independent)
    };
    let fits = |newest: &usize, most: u64| after(*newest).is_some_and(|bytes| bytes <= most);
    let most = keep.min(sizes.len());
    (1..=most)
        .rev()
        .find(|newest| fits(newest, bytes_max / 4 * 3))
        .or_else(|| Some(1).filter(|newest| fits(newest, bytes_max)))
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

    /// A chain of `count` increments of 6 on a whole one of 100, newest first.
    fn chain(count: usize) -> Vec<Size> {
        let increment = Size { stored_bytes: 6, whole_bytes: 180, has_parent: true };
        let first = Size { stored_bytes: 100, whole_bytes: 180, has_parent: false };
        std::iter::repeat_n(increment, count).chain([first]).collect()
    }

    #[test]
    fn what_is_kept_fits_and_is_not_rewritten_at_every_turn() {
        // 130 in all: nothing has to go.
        assert_eq!(newest_within(&chain(5), 10, 130), None);
        // 136: a whole one and as many increments as fit in three quarters of 160.
        assert_eq!(newest_within(&chain(11), 12, 160), Some(4));
        // Less room than that: one, whole.
        assert_eq!(newest_within(&chain(5), 10, 120), Some(1));
        // A whole one does not fit: to write it would not help.
        assert_eq!(newest_within(&chain(5), 10, 99), None);
        assert_eq!(newest_within(&[], 10, 0), None);
        // Those that stay by themselves cost nothing to keep.
        let whole = Size { stored_bytes: 100, whole_bytes: 180, has_parent: false };
        assert_eq!(newest_within(&[whole; 5], 5, 420), Some(3));
    }

    /// Every checkpoint adds 6 and the room is 160: how often is everything written anew?
    #[test]
    fn in_the_long_run_a_rewrite_is_rare() {
        let (mut sizes, mut rewrites) = (chain(0), 0);
        for _ in 0..100 {
            sizes.insert(0, Size { stored_bytes: 6, whole_bytes: 180, has_parent: true });
            if let Some(newest) = newest_within(&sizes, 100, 160) {
                sizes.truncate(newest);
                let oldest = sizes.last_mut().unwrap();
                *oldest = Size { stored_bytes: 100, has_parent: false, ..*oldest };
                rewrites += 1;
            }
            assert!(sizes.iter().map(|size| size.stored_bytes).sum::<u64>() <= 160);
        }
        assert!((5..=20).contains(&rewrites), "{rewrites}");
    }
}
