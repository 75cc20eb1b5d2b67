//! One period: what was seen becomes a division of the memory.

use std::time::{Duration, Instant};

use heat::{Accumulator, Heat};
use mem::{MemoryId, PageSet};
use partition::{
    Adaptive, Budget, Drift, FaultLog, HeatRuns, HeatView, HostCosts, Input, Inventory, Move,
    Policy,
};
use plan::{Plan, Planned};
use profile::Sink;
use target::Process;

use super::notify::Notify;
use crate::loan::Lender;
use crate::plan_verb::{PlanVerbError, inventory};

/// How busy the program is as a rule, to tell when it is idle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Busy {
    /// CPU time in a second, in microseconds; the most of the last hours, slowly fading.
    usual: u64,
}

impl Busy {
    /// A period has ended in which the program used `cpu` while it was watched for `watched`. Says
    /// whether it was idle: an eighth of the usual, or less.
    pub(super) fn was_idle(&mut self, cpu: Duration, watched: Duration) -> bool {
        const FADES_BY: u64 = 256;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let now = micros(cpu).saturating_mul(1_000_000) / micros(watched).max(1);
        self.usual = now.max(self.usual - self.usual / FADES_BY);
        now.saturating_mul(8) <= self.usual
    }
}

/// Takes what a profile brings until somebody wants something else.
pub(super) struct Gather<'a> {
    pub(super) lender: &'a Lender,
    pub(super) notify: &'a mut Notify,
    pub(super) heat: &'a mut Heat,
}

impl Sink for Gather<'_> {
    fn go_on(&mut self) -> bool {
        self.notify.alive();
        sys::interrupt::interrupted_by().is_none() && !self.lender.is_asked()
    }

    fn window(&mut self, window: Accumulator, end_ns: u64) {
        *self.heat = self.heat.merged(&window.finish(end_ns));
    }
}

/// A division, and how it came to be.
pub(super) struct Divided {
    pub(super) planned: Planned,
    pub(super) moves: Vec<Move>,
    pub(super) layout: heat::Layout,
    pub(super) looked_pages: u64,
}

/// Divides the memory of `process` by `heat`, which is that of the period alone. Of a period in
/// which the program was idle only what it did use counts: what it left alone says nothing of what
/// it needs when it works.
pub(super) fn divide(
    process: &Process,
    (heat, is_idle): (&Heat, bool),
    drift: &mut Drift,
    (held, faults): (Option<&Plan>, &[FaultLog]),
) -> Result<Divided, PlanVerbError> {
    let begun = Instant::now();
    let (layout, inventory) = inventory(process)?;
    let view = HeatRuns::of_private(heat, &layout);
    let planned = Adaptive.plan(&Input {
        inventory: &inventory,
        heat: &view,
        costs: &HostCosts::default(),
        budget: Budget::default(),
        previous: held,
        faults,
    });
    let looked = looked(&inventory, &view, is_idle);
    let looked_pages = looked.iter().map(|(_, pages)| pages.count().0).sum();
    let (plan, moves) = drift.step(&planned.plan, &looked);
    tracing::debug!(
        extents = plan.extents.len(),
        moves = moves.len(),
        drift_bytes = drift.memory_bytes(),
        elapsed_us = begun.elapsed().as_micros(),
        "memory divided"
    );
    let planned = Planned { plan, policy: "watch".to_owned(), ..planned };
    Ok(Divided { planned, moves, layout, looked_pages })
}

/// The pages of which `view` knows whether they were used; those that were, of a program that was
/// idle.
fn looked(inventory: &Inventory, view: &HeatRuns, is_idle: bool) -> Vec<(MemoryId, PageSet)> {
    let of = |(memory, pages): &(MemoryId, PageSet)| {
        let mut looked = PageSet::new();
        for run in pages.runs() {
            view.visit(*memory, *run, &mut |run, heat| {
                let was_used = heat.sampled > 0 || heat.access_count.is_some_and(|count| count > 0);
                if was_used || (heat.chances > 0 && !is_idle) {
                    looked.insert(run);
                }
            });
        }
        (*memory, looked)
    };
    inventory.memories().iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_idle_beside_what_it_is_as_a_rule() {
        let mut busy = Busy::default();
        let second = Duration::from_secs(1);
        let ms = Duration::from_millis;
        assert!(!busy.was_idle(ms(10), second), "as busy as ever");
        assert!(!busy.was_idle(ms(800), second));
        assert!(busy.was_idle(ms(90), second));
        assert!(!busy.was_idle(ms(200), second));
        // What it did once fades.
        for _ in 0..2000 {
            busy.was_idle(ms(20), second);
        }
        assert!(!busy.was_idle(ms(20), second));
    }
}
