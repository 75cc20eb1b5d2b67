//! The end of a period: the memory is divided anew, and what was learned is kept.

use std::time::{Duration, Instant};

use profile::Profiler;

use super::bounds::Cost;
use super::events::{Happened, PeriodRow};
use super::moves;
use super::period::{Divided, divide};
use super::run::Watcher;
use crate::checkpoint::fault_logs;
use crate::report::micros;
use crate::target_name::Found;

/// Periods after which what was learned goes to the store.
const SAVED_EVERY: u64 = 5;

impl Watcher<'_> {
    /// Works out what the watch has cost the program so far, `profiler`'s part included, which stays
    /// when it is `over`.
    pub(super) fn account(&mut self, profiler: &Profiler<'_>, over: bool) {
        /// A program that mostly waits counts as one that uses a twentieth of a processor, as it
        /// does for what may be spent on it.
        const IDLE_SHARE: u32 = 20;
        let (spent, cpu_ns) = profiler.account();
        let floor_us = micros(self.attached.elapsed() / IDLE_SHARE);
        let spent_us = self.cost.spent_us + spent.total_ns() / 1000;
        let program_us = self.cost.program_us + (cpu_ns / 1000).max(floor_us);
        self.status.slowdown_permille = (spent_us * 1000).div_ceil(program_us.max(1));
        if over {
            self.cost = Cost { spent_us, program_us };
        }
    }

    /// The end of a period: the memory is divided anew.
    pub(super) fn end_period(&mut self, found: &Found, profiler: &Profiler<'_>) {
        self.status.periods += 1;
        let begun = Instant::now();
        let is_planned = self.status.periods.is_multiple_of(self.bounds.plan_every());
        let mut row = PeriodRow {
            period: self.status.periods,
            watched_us: micros(self.watched),
            ..PeriodRow::default()
        };
        if is_planned {
            self.tell_state("planning", None);
            self.divide(found, profiler, &mut row);
        }
        row.plan_us = micros(begun.elapsed());
        self.account(profiler, false);
        let watched_us = micros(self.watched).max(1);
        let written = std::mem::take(&mut self.written_pages);
        self.status.written_pages_a_second = written.saturating_mul(1_000_000) / watched_us;
        (self.watched, self.cpu) = (Duration::ZERO, Duration::ZERO);
        let resident_pages = found.process.stat().map_or(0, |stat| stat.resident_pages);
        let (own, changed) = self.bounds.end_period(resident_pages.saturating_mul(mem::PAGE_SIZE));
        if self.status.periods.is_multiple_of(SAVED_EVERY) || own.is_over_memory {
            self.save();
        }
        if let Some(every) = changed {
            self.status.plan_every = every;
            let cpu = own.cpu_permille;
            self.event(Happened::Degraded {
                text: format!(
                    "the watch used {cpu} thousandths of a processor: memory is divided every \
                     {every} periods from now on"
                ),
            });
        }
        row.written_pages_a_second = self.status.written_pages_a_second;
        row.slowdown_permille = self.status.slowdown_permille;
        row.own_cpu_permille = own.cpu_permille;
        row.own_memory_bytes = own.memory_bytes;
        let bytes = |pages: u64| pages.saturating_mul(mem::PAGE_SIZE);
        row.critical_bytes = bytes(self.status.critical_pages);
        row.warm_bytes = bytes(self.status.warm_pages);
        row.cold_bytes = bytes(self.status.cold_pages);
        row.expected_pause_us = self.status.expected_pause_us;
        self.status.own_cpu_permille = own.cpu_permille;
        self.status.own_memory_bytes = own.memory_bytes;
        self.notify.status(&format!(
            "period {}: {} MB critical, {} MB warm, {} MB cold",
            row.period,
            row.critical_bytes >> 20,
            row.warm_bytes >> 20,
            row.cold_bytes >> 20
        ));
        self.event(Happened::Period(row));
        self.tell_state("watching", None);
        // A period that was missed is not made up for.
        self.period_end = Instant::now() + self.request.every;
    }

    fn divide(&mut self, found: &Found, profiler: &Profiler<'_>, row: &mut PeriodRow) {
        let mut seen = std::mem::take(&mut self.fresh);
        let faults = fault_logs(&self.store, &self.instance, &crate::events::Silent);
        let held = self.held.as_ref().map(|held| &held.plan);
        let is_idle = self.busy.was_idle(self.cpu, self.watched);
        let divided = divide(&found.process, (&seen, is_idle), &mut self.drift, (held, &faults));
        let Divided { planned, moves, layout, looked_pages } = match divided {
            Ok(divided) => divided,
            Err(error) => {
                self.trouble(&format!("failed to {error}; the division before holds"));
                self.unsaved = self.unsaved.merged(&seen);
                return;
            }
        };
        let sums = moves::sums(&moves);
        row.looked_pages = looked_pages;
        row.moves = moves.len() as u64;
        row.promoted_bytes = sums.promoted * mem::PAGE_SIZE;
        row.demoted_bytes = sums.demoted * mem::PAGE_SIZE;
        if !moves.is_empty() {
            profiler.name(&mut seen);
        }
        for moved in moves::rows(moves, &seen, &layout) {
            self.event(Happened::Moved(moved));
        }
        self.unsaved = self.unsaved.merged(&seen);
        let status = &mut self.status;
        status.promoted_pages += sums.promoted;
        status.demoted_pages += sums.demoted;
        [status.critical_pages, status.warm_pages, status.cold_pages] = self.drift.pages();
        status.expected_pause_us = planned.predictions.pause_us;
        self.held = Some(planned);
    }

    /// Gives what was learned to the line.
    pub(super) fn save(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved.windows().next().is_none() {
            return;
        }
        if let Err(error) = crate::heat_map::learn(&self.store, &self.instance, &unsaved) {
            self.trouble(&format!("failed to keep what was learned: {error}; it is tried again"));
            self.unsaved = unsaved;
        }
    }
}
