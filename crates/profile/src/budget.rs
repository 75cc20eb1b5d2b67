//! How much of the program's time may be spent, and what was.
//!
//! The program earns its profiler a share of the CPU time it uses; every collector pays from it
//! with what its work costs on this host. Pure: times are passed in.

use std::time::Duration;

use crate::Costs;

/// Of the whole budget clock samples get this share, in permille; the rest is for faults.
const CLOCK_SHARE: u64 = 300;
/// Samples a second that are asked for when they are cheap: no divisor of common timers.
const CLOCK_HZ_MAX: u64 = 97;
/// Below this many a second clock samples say nothing in the time people wait for.
const CLOCK_HZ_MIN: u64 = 11;
/// What may be saved up while the program sleeps: this much of its CPU time, in nanoseconds.
const SAVINGS_CPU_NS: u64 = 500_000_000;
/// At least one of so many faults is recorded.
const FAULT_PERIOD_MAX: u64 = 10_000;
/// CPU time that a program counts as using in a second at least, so that one that mostly waits is
/// still seen: 5%.
const IDLE_FLOOR_PERMILLE: u64 = 50;

/// What the collectors have cost the program so far, in nanoseconds of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Write faults that we made, their records included.
    pub writes_ns: u64,
    /// Records of faults that the program makes by itself.
    pub faults_ns: u64,
    /// Clock samples.
    pub clock_ns: u64,
    /// Hint faults of the exact mode, their records included.
    pub hints_ns: u64,
    /// Stops while it was watched.
    pub stops_ns: u64,
    /// Clearing and counting Referenced bits: time that the lock of its memory was held.
    pub gauge_ns: u64,
}

impl Spent {
    /// The sum.
    pub const fn total_ns(&self) -> u64 {
        self.writes_ns
            + self.faults_ns
            + self.clock_ns
            + self.hints_ns
            + self.stops_ns
            + self.gauge_ns
    }
}

/// The controller.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    permille: u64,
    costs: Costs,
    spent: Spent,
    /// What may still be spent; negative when too much was.
    tokens_ns: i64,
    /// Taken from the tokens for what has to be paid at the end.
    kept_ns: u64,
    cpu_ns: u64,
    wall_ns: u64,
}

impl Budget {
    /// A budget of `permille` of the program's CPU time.
    pub(crate) fn new(permille: u32, costs: Costs) -> Self {
        let permille = u64::from(permille.max(1));
        let spent = Spent::default();
        Self { permille, costs, spent, tokens_ns: 0, kept_ns: 0, cpu_ns: 0, wall_ns: 0 }
    }

    /// Clock samples a second for each running thread.
    pub(crate) fn clock_hz(&self) -> u64 {
        let share_ns = self.permille * 1_000_000 * CLOCK_SHARE / 1000;
        (share_ns / self.costs.clock_sample_ns.max(1)).clamp(CLOCK_HZ_MIN, CLOCK_HZ_MAX)
    }

    /// The program has used `cpu_ns` of CPU in `wall_ns` of time.
    pub(crate) fn earn(&mut self, cpu_ns: u64, wall_ns: u64) {
        self.cpu_ns += cpu_ns;
        self.wall_ns += wall_ns;
        let counted = cpu_ns.max(wall_ns * IDLE_FLOOR_PERMILLE / 1000);
        let earned = i64::try_from(counted * self.permille / 1000).unwrap_or(i64::MAX);
        let most = i64::try_from(SAVINGS_CPU_NS * self.permille / 1000).unwrap_or(i64::MAX);
        self.tokens_ns = self.tokens_ns.saturating_add(earned).min(most);
    }

    /// So many armed pages were written.
    pub(crate) fn pay_writes(&mut self, faults: u64, recorded: bool) {
        let each = self.costs.write_fault_ns + if recorded { self.costs.fault_event_ns } else { 0 };
        self.spent.writes_ns += self.pay(faults * each);
    }

    /// So many faults of the program's own were recorded.
    pub(crate) fn pay_faults(&mut self, records: u64) {
        self.spent.faults_ns += self.pay(records * self.costs.fault_event_ns);
    }

    /// So many hint faults were taken. They come on top of the budget: whoever asks for the
    /// exact mode wants them all.
    pub(crate) fn pay_hints(&mut self, faults: u64) {
        let each = self.costs.hint_fault_ns + self.costs.fault_event_ns;
        self.spent.hints_ns += faults * each;
    }

    /// So many clock samples were taken.
    pub(crate) fn pay_clock(&mut self, samples: u64) {
        self.spent.clock_ns += self.pay(samples * self.costs.clock_sample_ns);
    }

    /// The program stood still for so long.
    pub(crate) fn pay_stop(&mut self, stop: Duration) {
        self.spent.stops_ns += self.pay(nanos(stop));
    }

    /// To clear Referenced bits was so much work under the lock of the program's memory. To count them
    /// at the end takes about as long: that much is kept for it from now on.
    pub(crate) fn pay_to_set_gauge(&mut self, work: Duration) {
        self.kept_ns = nanos(work);
        self.spent.gauge_ns += self.pay(nanos(work));
        self.pay(self.kept_ns);
    }

    /// To count the bits was so much work.
    pub(crate) fn pay_to_read_gauge(&mut self, work: Duration) {
        let kept = std::mem::take(&mut self.kept_ns);
        self.tokens_ns = self.tokens_ns.saturating_add_unsigned(kept);
        self.spent.gauge_ns += self.pay(nanos(work));
    }

    /// Whether there is anything left to spend.
    pub(crate) const fn has_means(&self) -> bool {
        self.tokens_ns > 0
    }

    fn pay(&mut self, ns: u64) -> u64 {
        self.tokens_ns = self.tokens_ns.saturating_sub_unsigned(ns);
        ns
    }

    /// How many armed pages may be written in the next step.
    pub(crate) fn write_faults(&self) -> u64 {
        let each = self.costs.write_fault_ns + self.costs.fault_event_ns;
        u64::try_from(self.tokens_ns).unwrap_or(0) / each.max(1)
    }

    /// Of the faults that the program makes by itself, `a_second` of them, every how many-th to
    /// record: so that records stay below a third of what may be spent.
    pub(crate) fn fault_period(&self, a_second: u64) -> u64 {
        let busy = (self.cpu_ns * 1000).checked_div(self.wall_ns).unwrap_or(1000);
        let cpu_ns = busy.max(IDLE_FLOOR_PERMILLE) * 1_000_000;
        let third_ns = cpu_ns * self.permille / 1000 / 3;
        let cost_ns = a_second.saturating_mul(self.costs.fault_event_ns);
        cost_ns.div_ceil(third_ns.max(1)).clamp(1, FAULT_PERIOD_MAX)
    }

    /// What was spent.
    pub(crate) const fn spent(&self) -> Spent {
        self.spent
    }

    /// The CPU time that the program used while it was watched.
    pub(crate) const fn cpu_ns(&self) -> u64 {
        self.cpu_ns
    }

    /// What was spent as a share of the program's CPU time, rounded up.
    pub(crate) fn permille_spent(&self) -> u64 {
        (self.spent.total_ns() * 1000).div_ceil(self.cpu_ns.max(1))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clocks_are_slow_where_samples_are_dear() {
        let dear = Budget::new(10, Costs::ASSUMED);
        assert_eq!(dear.clock_hz(), 66);
        let cheap = Budget::new(10, Costs { clock_sample_ns: 2_000, ..Costs::ASSUMED });
        assert_eq!(cheap.clock_hz(), 97);
        assert_eq!(Budget::new(1, Costs::ASSUMED).clock_hz(), CLOCK_HZ_MIN);
    }

    #[test]
    fn a_program_that_faults_a_lot_is_recorded_in_part() {
        let mut budget = Budget::new(10, Costs::ASSUMED);
        budget.earn(1_000_000_000, 1_000_000_000);
        assert_eq!(budget.fault_period(100), 1);
        // 100,000 faults a second cost 170 ms of a second, a third of the budget is 3.3 ms.
        assert_eq!(budget.fault_period(100_000), 52);
    }

    /// What is to be paid at the end is not there to be spent before.
    #[test]
    fn counting_referenced_bits_is_saved_up_for() {
        let mut budget = Budget::new(10, Costs::ASSUMED);
        let lock = Duration::from_millis(3);
        budget.pay_to_set_gauge(lock);
        for _ in 0..50 {
            budget.earn(100_000_000, 100_000_000);
            budget.pay_writes(budget.write_faults(), true);
        }
        budget.pay_to_read_gauge(lock);
        assert_eq!(budget.spent().gauge_ns, 6_000_000);
        assert!(budget.permille_spent() <= 10, "{:?}", budget.spent());
        assert!(budget.permille_spent() >= 9, "what was kept is there to be spent: {budget:?}");
    }

    proptest! {
        /// Whatever the load, a caller that arms only what it is allowed to stays within the
        /// budget, up to one step's allowance.
        #[test]
        fn the_asked_slowdown_is_kept(
            permille in 1u32..100,
            steps in proptest::collection::vec((0u64..400_000_000, 0u64..50, 0u64..1000), 1..200),
        ) {
            let mut budget = Budget::new(permille, Costs::ASSUMED);
            let mut earned = 0;
            for (cpu_ns, own_faults, taken_permille) in steps {
                budget.earn(cpu_ns, 100_000_000);
                earned += cpu_ns.max(5_000_000) * u64::from(permille) / 1000;
                budget.pay_writes(budget.write_faults() * taken_permille / 1000, true);
                let before = budget.spent().total_ns();
                prop_assert!(before <= earned + 50 * 200 * 1_700, "{before} of {earned}");
                budget.pay_faults(own_faults.min(earned / 1_700 / 1000));
            }
        }
    }
}
