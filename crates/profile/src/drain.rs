//! From what the collectors brought to samples in the window.

use heat::{INTERVAL_NS, Sample, Source, Watched};

use crate::session::LOOK_INTERVALS;
use crate::sink::Out;
use crate::{Profiler, convert};

impl Profiler<'_> {
    /// Empties the rings. Says whether the program executes another one.
    pub(crate) fn drain(&mut self, out: &mut Out<'_>) -> bool {
        self.drain_faults(out) | self.drain_clock(out)
    }

    fn drain_faults(&mut self, out: &mut Out<'_>) -> bool {
        let Some(mut group) = self.faults.take() else { return false };
        let (mut armed, mut own) = (0, 0);
        let mut twice = convert::Twice::default();
        let drained = group.drain(|record| {
            if twice.is_repeated(record) {
                return;
            }
            let page = record.addr.page();
            if self.writes.as_ref().is_some_and(|w| w.is_armed(page)) {
                armed += 1;
            } else {
                own += 1;
            }
            let sample =
                convert::fault(record, &mut self.code, &self.maps, &self.mem, self.writes.as_ref());
            match (sample, &mut self.hints) {
                (Some(sample), None) => out.add(&sample),
                (Some(sample), Some(hints)) => {
                    out.hint(&Sample { source: Source::Hint, ..sample }, hints.touched(page));
                }
                (None, _) => self.counts.unplaced += 1,
            }
        });
        self.faults = Some(group);
        self.counts.faults += drained.samples;
        self.counts.own_faults += own * self.fault_period;
        self.counts.second_faults += own * self.fault_period;
        self.counts.armed_faults += armed;
        self.counts.faults_lost += drained.lost;
        if self.hints.is_some() {
            self.budget.pay_hints(own)
        } else {
            self.budget.pay_faults(own)
        }
        drained.exec
    }

    fn drain_clock(&mut self, out: &mut Out<'_>) -> bool {
        let Some(mut group) = self.clock.take() else { return false };
        let mut accesses = Vec::new();
        let drained = group.drain(|record| {
            accesses.clear();
            self.code.accesses(&self.maps, &self.mem, record, &mut accesses);
            self.counts.clock_useful += u64::from(!accesses.is_empty());
            for access in &accesses {
                let added = convert::clock(record, access, &self.maps, |sample| out.add(sample));
                if added { self.counts.accesses += 1 } else { self.counts.unplaced += 1 }
            }
        });
        self.clock = Some(group);
        self.counts.clock_samples += drained.samples;
        self.counts.clock_lost += drained.lost;
        self.counts.throttled += drained.throttled;
        self.budget.pay_clock(drained.samples);
        drained.exec
    }

    /// Reads the armed slice back into the window.
    pub(crate) fn read_writes(&mut self, out: &mut Out<'_>) {
        // What was written has its records in the ring; they say more, so they come first.
        self.drain_faults(out);
        let Some(writes) = &mut self.writes else { return };
        let step = writes.read_back();
        // Exactly one interval: the one in which the slice was armed.
        let (from, until) = (step.armed_ns, step.armed_ns + INTERVAL_NS);
        let kinds = Watched { reads: false, writes: true };
        for pages in &step.watched {
            out.window.watched(*pages, kinds, from, until);
        }
        let written = step.written.count().0;
        for run in step.written.runs() {
            for page in run.start.0..run.end.0 {
                out.add(&Sample {
                    page: mem::PageIndex(page),
                    kind: heat::AccessKind::Write,
                    weight: 1,
                    instruction: None,
                    operand: heat::Operand::UNKNOWN,
                    thread: 0,
                    time_ns: from + 1,
                    source: Source::WriteTracking,
                });
            }
        }
        self.counts.written += written;
        self.budget.pay_writes(written, self.faults.is_some());
    }

    /// How many of the program's own faults are recorded: looked at in every interval, of which
    /// `intervals` have passed since the count began, and counted anew once in a second. Within a
    /// second it only becomes fewer, so that a program that begins to fault is not dear for long.
    /// Events are opened anew for it: a new period reaches the threads of the beginning only, not
    /// those that came since, and with them the kernel swaps events.
    pub(crate) fn adapt(&mut self, out: &mut Out<'_>, intervals: u64) {
        // In the exact mode every fault is wanted, whatever it costs.
        if self.hints.is_some() || self.faults.is_none() {
            return;
        }
        let whole = intervals >= LOOK_INTERVALS;
        let a_second = self.counts.second_faults * LOOK_INTERVALS / intervals.max(1);
        if whole {
            self.counts.second_faults = 0;
        }
        let period = self.budget.fault_period(a_second);
        let is_due = period >= 2 * self.fault_period || (whole && 2 * period <= self.fault_period);
        if is_due && let Ok(group) = self.open_faults(period) {
            self.drain_faults(out);
            self.faults = Some(group);
            self.fault_period = period;
            self.counts.fault_period_max = self.counts.fault_period_max.max(period);
        }
    }

    /// In the exact mode: what was not touched while the kernel went through all memory.
    pub(crate) fn end_round(&mut self, out: &mut Out<'_>, now: u64) {
        let Some(hints) = &mut self.hints else { return };
        let Some(untouched) = hints.round(self.process, &self.maps, now) else { return };
        let kinds = Watched { reads: true, writes: true };
        for pages in untouched.pages {
            out.window.watched(pages, kinds, untouched.from_ns, untouched.until_ns);
        }
    }
}
