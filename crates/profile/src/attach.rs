//! Getting the collectors ready that may be had.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sys::perf::{EventGroup, EventKind, PerfError, Scope};
use sys::task::Tid;
use target::{FreezeOptions, Tracker};

use crate::Profiler;
use crate::gauge::Gauge;
use crate::hints::Hints;
use crate::report::{Collector, Missing};
use crate::session::now_ns;
use crate::writes::Writes;

/// Data pages of the ring for faults of one CPU: 5,000 records.
const FAULT_RING_PAGES: usize = 256;
/// Data pages of the ring for clock samples of one CPU.
const CLOCK_RING_PAGES: usize = 32;
/// How long the one short stop may wait for a thread in uninterruptible sleep.
const STOP_WAIT: Duration = Duration::from_secs(2);

impl<'p> Profiler<'p> {
    pub(crate) fn open_events(&mut self) {
        match self.open_group(EventKind::PageFaults { period: 1 }, self.fault_ring_pages()) {
            Ok((group, scope)) => {
                self.faults = Some(group);
                if scope == Scope::UserOnly {
                    self.missing.push(Missing::kernel_faults());
                }
            }
            Err(cause) => self.missing.push(Missing::new(Collector::Faults, &cause)),
        }
        let clock = EventKind::CpuClock { hz: self.budget.clock_hz() };
        match self.open_group(clock, CLOCK_RING_PAGES) {
            Ok((group, _)) => self.clock = Some(group),
            Err(cause) => self.missing.push(Missing::new(Collector::Clock, &cause)),
        }
    }

    /// The exact mode brings tens of thousands of faults a second at times.
    const fn fault_ring_pages(&self) -> usize {
        FAULT_RING_PAGES * if self.options.exact { 8 } else { 1 }
    }

    /// Events for one of `period` page faults, on if the collectors are.
    pub(crate) fn open_faults(&self, period: u64) -> Result<EventGroup, PerfError> {
        let kind = EventKind::PageFaults { period };
        let (mut group, _) = self.open_group(kind, self.fault_ring_pages())?;
        if self.active {
            let leader = self.process.pid().main_thread();
            let failed = |cause| PerfError::Io { tid: leader.raw(), cause };
            group.set_enabled(true).map_err(failed)?;
        }
        Ok(group)
    }

    /// Opens events on all threads, with the kernel's own faults if that is permitted.
    fn open_group(&self, kind: EventKind, pages: usize) -> Result<(EventGroup, Scope), PerfError> {
        match self.open_group_of(kind, pages, Scope::UserAndKernel) {
            Ok(group) => Ok((group, Scope::UserAndKernel)),
            Err(cause) if cause.is_denied() => {
                let group = self.open_group_of(kind, pages, Scope::UserOnly)?;
                Ok((group, Scope::UserOnly))
            }
            Err(cause) => Err(cause),
        }
    }

    fn open_group_of(
        &self,
        kind: EventKind,
        pages: usize,
        scope: Scope,
    ) -> Result<EventGroup, PerfError> {
        let leader = self.process.pid().main_thread();
        let io = |cause| PerfError::Io { tid: leader.raw(), cause };
        let cpus = sys::perf::online_cpus().map_err(io)?;
        let mut group = EventGroup::new(kind, scope, leader, &cpus, pages)?;
        // A thread that starts while the list is gone through is found in the next round, or has
        // been followed from its parent; seen twice it is told apart by its records.
        for _ in 0..3 {
            let mut new = false;
            for tid in self.process.dir().tids().unwrap_or_default() {
                let Some(tid) = Tid::new(tid) else { continue };
                match group.follow(tid) {
                    Ok(added) => new |= added,
                    Err(cause) if cause.is_gone() => {}
                    // Threads enough to fill our table of descriptors: those there are do.
                    Err(PerfError::Descriptors { .. }) if group.threads() > 0 => return Ok(group),
                    Err(cause) => return Err(cause),
                }
            }
            if !new {
                break;
            }
        }
        Ok(group)
    }

    pub(crate) fn open_writes(&mut self, tracker: Option<&Arc<Tracker<'p>>>) {
        match self.try_open_writes(tracker) {
            Ok(writes) => self.writes = Some(writes),
            Err(reason) => {
                self.missing.push(Missing { collector: Collector::Writes, reason });
            }
        }
    }

    /// One short stop: the program opens a userfaultfd, which we take over; its mappings are taken
    /// in; and while it stands, where its threads keep their local memory is read.
    fn try_open_writes(
        &mut self,
        tracker: Option<&Arc<Tracker<'p>>>,
    ) -> Result<Writes<'p>, String> {
        let seccomp = self.process.status().is_ok_and(|s| s.seccomp_mode != 0);
        let deadline = Instant::now() + STOP_WAIT;
        let options = FreezeOptions { deadline, suspend_seccomp: seccomp };
        let mut frozen = self.process.freeze(options).map_err(|e| e.to_string())?;
        for thread in frozen.threads() {
            if let Ok(regs) = thread.regs() {
                self.code.set_fs_base(thread.tid().raw(), regs.fs_base);
            }
        }
        let from = self.options.writes_from;
        let writes = match tracker {
            Some(tracker) => Ok(Writes::shared(Arc::clone(tracker), from)),
            None => Writes::new(&mut frozen, from),
        };
        self.stop = frozen.thaw();
        let mut writes = writes.map_err(|e| e.to_string())?;
        writes.set_maps(&self.maps, false);
        Ok(writes)
    }

    /// The exact mode, when it was asked for. Without fault records it would show nothing.
    pub(crate) fn open_hints(&mut self) {
        if !self.options.exact {
            return;
        }
        let hints = match self.faults {
            Some(_) => Hints::new(self.process, now_ns()),
            None => Err("page faults cannot be recorded".to_owned()),
        };
        match hints {
            Ok(hints) => self.hints = Some(hints),
            Err(reason) => self.missing.push(Missing { collector: Collector::Hints, reason }),
        }
    }

    /// The Referenced bits, counted from now on if that is cheap enough.
    pub(crate) fn set_gauge(&mut self) {
        match Gauge::set(self.process, &self.costs, self.options.exact) {
            Ok((gauge, work)) => {
                self.budget.pay_to_set_gauge(work);
                self.gauge = Some(gauge);
            }
            Err(reason) => self.missing.push(Missing { collector: Collector::Gauge, reason }),
        }
    }

    /// What was touched since.
    pub(crate) fn read_gauge(&mut self) {
        let Some(gauge) = self.gauge.take() else { return };
        match gauge.read(self.process) {
            Ok((referenced, work)) => {
                self.budget.pay_to_read_gauge(work);
                self.referenced = referenced;
            }
            Err(reason) => self.missing.push(Missing { collector: Collector::Gauge, reason }),
        }
    }
}
