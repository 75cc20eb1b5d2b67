//! One profile of one program: collectors, their timetable, and what became of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heat::{Accumulator, INTERVAL_NS, Layout, Start};
use sys::perf::EventGroup;
use sys::proc::{ProcError, StatMemory};
use sys::remote::ProcMem;
use sys::task::Pid;
use target::{Process, Tracker};

use crate::budget::{Budget, Spent};
use crate::code::Code;
use crate::gauge::{Gauge, Referenced};
use crate::hints::Hints;
use crate::maps::Maps;
use crate::report::{Counts, Missing, Summary};
use crate::sink::{End, Out, Sink};
use crate::symbols::{Named, Names};
use crate::writes::Writes;
use crate::{Costs, Options, ProfileError};

/// How often rings are emptied: 5,000 records last 50 ms at 100,000 faults a second.
const TICK: Duration = Duration::from_millis(50);
/// How often the mappings are read again and the pace is looked at: once a second.
pub(crate) const LOOK_INTERVALS: u64 = 1_000_000_000 / INTERVAL_NS;
/// Log entries of a window before it is ended early: about 100 MB.
const ENTRIES_MAX: usize = 3 << 20;

/// A profile that is being taken. Dropping it lets go of everything.
#[derive(Debug)]
pub struct Profiler<'p> {
    pub(crate) process: &'p Process,
    pub(crate) options: Options,
    pub(crate) mem: ProcMem,
    pub(crate) maps: Maps,
    pub(crate) code: Code,
    pub(crate) layout: Layout,
    pub(crate) names: Names,
    pub(crate) budget: Budget,
    pub(crate) costs: Costs,
    pub(crate) faults: Option<EventGroup>,
    pub(crate) clock: Option<EventGroup>,
    pub(crate) writes: Option<Writes<'p>>,
    pub(crate) hints: Option<Hints>,
    pub(crate) gauge: Option<Gauge>,
    /// What the gauge read at the end.
    pub(crate) referenced: Vec<Referenced>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) counts: Counts,
    /// How long the program stood still for it: before it began, and in all.
    pub(crate) stop: Duration,
    pub(crate) later_stops: Duration,
    pub(crate) identity: StatMemory,
    pub(crate) fault_period: u64,
    pub(crate) active: bool,
    pub(crate) active_since_ns: u64,
    pub(crate) last_cpu_ns: u64,
    pub(crate) last_ns: u64,
}

impl<'p> Profiler<'p> {
    /// Gets every collector ready that may be had. Collectors that may not be had are no error:
    /// the others go on, and the summary says what is missing.
    ///
    /// # Errors
    /// When not even the program's mappings may be read, or no collector at all can be had.
    pub fn new(process: &'p Process, options: Options, costs: Costs) -> Result<Self, ProfileError> {
        Self::beside(process, options, costs, None)
    }

    /// The same, beside somebody who tracks the program's writes already: his tracker shows which
    /// pages are written, and is his to let go of.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn beside(
        process: &'p Process,
        options: Options,
        costs: Costs,
        tracker: Option<&Arc<Tracker<'p>>>,
    ) -> Result<Self, ProfileError> {
        let pid = process.pid().raw();
        let mem =
            ProcMem::open(process.pid()).map_err(|cause| ProfileError::Memory { pid, cause })?;
        let identity = process.stat()?.memory;
        let mut profiler = Self {
            process,
            options,
            mem,
            maps: Maps::default(),
            code: Code::default(),
            layout: Layout::default(),
            names: Names::default(),
            budget: Budget::new(options.slowdown_permille_max, costs),
            costs,
            faults: None,
            clock: None,
            writes: None,
            hints: None,
            gauge: None,
            referenced: Vec::new(),
            missing: Vec::new(),
            counts: Counts::default(),
            stop: Duration::ZERO,
            later_stops: Duration::ZERO,
            identity,
            fault_period: 1,
            active: false,
            active_since_ns: 0,
            last_cpu_ns: 0,
            last_ns: 0,
        };
        profiler.read_maps()?;
        profiler.open_events();
        profiler.open_writes(tracker);
        profiler.open_hints();
        if profiler.faults.is_none() && profiler.clock.is_none() && profiler.writes.is_none() {
            return Err(ProfileError::Nothing { pid, missing: profiler.missing });
        }
        Ok(profiler)
    }

    fn read_maps(&mut self) -> Result<bool, ProcError> {
        let Some(layout) = self.maps.refresh(self.process, &self.mem)? else { return Ok(false) };
        self.layout = layout;
        self.code.clear();
        Ok(true)
    }

    /// Collects until `deadline`, or `sink` says no, or the program is not there any more. May be
    /// called again, for the time after.
    ///
    /// # Errors
    /// When the program's mappings cannot be read for a reason other than its end.
    pub fn run(&mut self, deadline: Instant, sink: &mut dyn Sink) -> Result<End, ProfileError> {
        let start_ns = now_ns();
        self.last_ns = start_ns;
        self.last_cpu_ns = self.cpu_ns();
        let mut out = Out { window: self.new_window(start_ns), sink };
        if self.options.gauge {
            self.set_gauge();
        }
        let (mut interval, mut looked) = (0, 0);
        let end = loop {
            if Instant::now() >= deadline || !out.sink.go_on() {
                break End::Asked;
            }
            let wait = self.until_next_tick(start_ns).min(deadline - Instant::now().min(deadline));
            if self.process.pidfd().wait_ended(Instant::now() + wait).unwrap_or(true) {
                break End::Ended;
            }
            let now = now_ns();
            if self.drain(&mut out) || self.is_another_program() {
                break End::Executed;
            }
            let this = (now - start_ns) / INTERVAL_NS;
            if this == interval {
                continue;
            }
            interval = this;
            let active = out.sink.active(now);
            self.step(&mut out, now, active);
            self.adapt(&mut out, interval - looked);
            if interval - looked >= LOOK_INTERVALS {
                looked = interval;
                match self.read_maps() {
                    Ok(true) => out.window.set_layout(self.layout.clone()),
                    Ok(false) => {}
                    Err(cause) if cause.is_gone() => break End::Ended,
                    Err(cause) => return Err(cause.into()),
                }
                self.take_in_new_mappings();
                self.end_round(&mut out, now);
            }
            if out.window.is_full(now + INTERVAL_NS) || out.window.entries() > ENTRIES_MAX {
                self.close_sampled(&mut out, now);
                self.active_since_ns = now;
                let whole = std::mem::replace(&mut out.window, self.new_window(now));
                out.sink.window(whole, now);
            }
        };
        let now = now_ns();
        if end == End::Asked {
            self.read_gauge();
        }
        self.drain(&mut out);
        self.read_writes(&mut out);
        self.set_active(false, &mut out, now);
        self.earn(now);
        out.sink.window(out.window, now);
        Ok(end)
    }

    fn new_window(&self, now: u64) -> Accumulator {
        let realtime = u64::try_from(sys::clock::read().realtime_ns).unwrap_or_default();
        let start = Start {
            id: self.options.window_id ^ now.rotate_left(32),
            clock_ns: now,
            realtime_ns: realtime,
            ordered: false,
        };
        Accumulator::new(start, self.layout.clone())
    }

    fn until_next_tick(&self, start_ns: u64) -> Duration {
        let tick = u64::try_from(TICK.as_nanos()).unwrap_or(1);
        Duration::from_nanos(tick - (now_ns() - start_ns) % tick)
    }

    /// What happens once in an interval: the slice of memory goes on.
    fn step(&mut self, out: &mut Out<'_>, now: u64, active: bool) {
        self.read_writes(out);
        self.earn(now);
        if active != self.active {
            self.set_active(active, out, now);
        }
        if self.active
            && let Some(writes) = &mut self.writes
        {
            writes.arm(self.budget.write_faults(), now_ns());
        }
    }

    fn earn(&mut self, now: u64) {
        let cpu = self.cpu_ns();
        let used = cpu.saturating_sub(self.last_cpu_ns);
        if self.active {
            self.budget.earn(used, now - self.last_ns);
        }
        (self.last_cpu_ns, self.last_ns) = (cpu, now);
    }

    fn cpu_ns(&self) -> u64 {
        sys::clock::process_cpu_ns(self.process.pid()).unwrap_or(self.last_cpu_ns)
    }

    fn set_active(&mut self, on: bool, out: &mut Out<'_>, now: u64) {
        if on == self.active {
            return;
        }
        self.active = on;
        for group in [&mut self.faults, &mut self.clock].into_iter().flatten() {
            if let Err(cause) = group.set_enabled(on) {
                tracing::warn!(%cause, on, "events could not be switched");
            }
        }
        if on {
            self.active_since_ns = now;
        } else {
            self.counts.active_ns += now - self.active_since_ns;
            self.close_sampled(out, now);
        }
    }

    /// Tells the window since when clock samples were taken.
    fn close_sampled(&mut self, out: &mut Out<'_>, now: u64) {
        if self.clock.is_some() {
            out.window.sampled(self.active_since_ns, now);
        }
    }

    /// Mappings that came since are tracked, too, if a stop may be paid for.
    fn take_in_new_mappings(&mut self) {
        let Some(writes) = &mut self.writes else { return };
        let may_stop = self.active && self.budget.has_means();
        let stop = writes.set_maps(&self.maps, may_stop);
        self.budget.pay_stop(stop);
        self.later_stops += stop;
    }

    /// Whether the memory is no longer that of the program the profile began with: a thread
    /// other than the first may execute another program without a record for it.
    fn is_another_program(&self) -> bool {
        // A program that is just ending has no memory at all any more.
        self.process
            .stat()
            .is_ok_and(|stat| stat.memory != self.identity && stat.memory != StatMemory::default())
    }

    /// Lets go of the program and says what every collector saw, lost and cost.
    pub fn finish(mut self) -> Summary {
        let mut summary = Summary {
            hint_rounds: self.hints.as_ref().map(Hints::rounds),
            counts: self.counts,
            spent: self.budget.spent(),
            cpu_ns: self.budget.cpu_ns(),
            overhead_permille: self.budget.permille_spent(),
            clock_hz: self.budget.clock_hz(),
            stop: self.stop,
            later_stops: self.later_stops,
            missing: std::mem::take(&mut self.missing),
            referenced: std::mem::take(&mut self.referenced),
            write_passes: 0,
            armed_pages: 0,
            untracked_bytes: 0,
            huge_bytes: 0,
            lock_max: Duration::ZERO,
        };
        if let Some(writes) = self.writes.take() {
            (summary.write_passes, summary.armed_pages) = writes.progress();
            summary.untracked_bytes = writes.untracked_bytes();
            summary.huge_bytes = writes.huge_bytes();
            let (lock_max, stop) = writes.finish();
            summary.lock_max = lock_max;
            summary.later_stops += stop;
        }
        summary
    }

    /// Gives names to the code and the variables that `heat` knows, as far as they lie in the
    /// program as it is now.
    pub fn name(&self, heat: &mut heat::Heat) {
        let Self { process, layout, maps, mem, .. } = self;
        self.names.name(heat, Named { process, layout, maps, mem });
    }

    /// What the collectors have cost the program so far, in nanoseconds of its time, and the CPU time
    /// that it has used meanwhile.
    pub fn account(&self) -> (Spent, u64) {
        (self.budget.spent(), self.budget.cpu_ns())
    }

    /// Collectors that could not be had.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Where tracking of writes is on its round over memory.
    pub fn writes_at(&self) -> u64 {
        self.writes.as_ref().map_or(0, Writes::cursor)
    }

    /// Pages that were seen to be written so far.
    pub fn written_pages(&self) -> u64 {
        self.counts.written
    }

    /// How long the program stood still for the profile so far.
    pub fn stops(&self) -> Duration {
        self.stop + self.later_stops
    }

    /// The process that is profiled.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The program's mappings as they were read last.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of all samples.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(sys::clock::read().monotonic_ns).unwrap_or_default()
}
