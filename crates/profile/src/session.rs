//! One profile of one program: collectors, their timetable, and what became of each.

use std::time::{Duration, Instant};

use heat::{Accumulator, INTERVAL_NS, Layout, Sample, Source, Start, Watched};
use sys::perf::{EventGroup, EventKind, PerfError, Scope};
use sys::proc::{ProcError, StatMemory};
use sys::remote::ProcMem;
use sys::task::{Pid, Tid};
use sys::userfault::Kind;
use target::{FreezeOptions, Process};

use crate::budget::Budget;
use crate::code::Code;
use crate::convert;
use crate::hints::Hints;
use crate::maps::Maps;
use crate::report::{Collector, Counts, Missing, Summary};
use crate::writes::Writes;
use crate::{Costs, Options, ProfileError};

/// Data pages of the ring for faults of one CPU: 5,000 records.
const FAULT_RING_PAGES: usize = 256;
/// Data pages of the ring for clock samples of one CPU.
const CLOCK_RING_PAGES: usize = 32;
/// How often rings are emptied: 5,000 records last 50 ms at 100,000 faults a second.
const TICK: Duration = Duration::from_millis(50);
/// How often the mappings are read again, in intervals.
const MAPS_INTERVALS: u64 = 10;
/// How long the one short stop may wait for a thread in uninterruptible sleep.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// Log entries of a window before it is ended early: about 100 MB.
const ENTRIES_MAX: usize = 3 << 20;

/// Why a profile came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was up, or the caller said so.
    Asked,
    /// The program has ended.
    Ended,
    /// The program executes another one.
    Executed,
}

/// Takes what a profile brings.
pub trait Sink {
    /// Whether to go on. Asked every few dozen milliseconds.
    fn go_on(&mut self) -> bool;

    /// Whether collectors are to be on at `now_ns` (`CLOCK_MONOTONIC`). For measuring what they
    /// cost; else always.
    fn active(&mut self, _now_ns: u64) -> bool {
        true
    }

    /// One sample, as it goes into the window.
    fn sample(&mut self, _sample: &Sample) {}

    /// A window is complete; it ended at `end_ns`.
    fn window(&mut self, window: Accumulator, end_ns: u64);
}

/// Where samples go while a profile runs.
struct Out<'s> {
    window: Accumulator,
    sink: &'s mut dyn Sink,
}

impl Out<'_> {
    fn add(&mut self, sample: &Sample) {
        self.window.add(sample);
        self.sink.sample(sample);
    }
}

impl Out<'_> {
    /// A touch that the exact mode saw: the page was watched until then, if not from
    /// `untouched_since` on, at least in the interval of the touch itself.
    fn hint(&mut self, sample: &Sample, untouched_since: Option<u64>) {
        let kinds = Watched { reads: true, writes: true };
        let pages = mem::PageRange { start: sample.page, end: sample.page.offset(1) };
        let interval = sample.time_ns.saturating_sub(INTERVAL_NS);
        let from = untouched_since.unwrap_or(interval).min(interval);
        self.window.watched(pages, kinds, from, sample.time_ns);
        self.add(sample);
    }
}

/// A profile that is being taken. Dropping it lets go of everything.
#[derive(Debug)]
pub struct Profiler<'p> {
    process: &'p Process,
    options: Options,
    mem: ProcMem,
    maps: Maps,
    code: Code,
    layout: Layout,
    budget: Budget,
    faults: Option<EventGroup>,
    clock: Option<EventGroup>,
    writes: Option<Writes>,
    hints: Option<Hints>,
    missing: Vec<Missing>,
    counts: Counts,
    /// How long the program stood still for it.
    stop: Duration,
    identity: StatMemory,
    fault_period: u64,
    active: bool,
    active_since_ns: u64,
    last_cpu_ns: u64,
    last_ns: u64,
}

impl<'p> Profiler<'p> {
    /// Gets every collector ready that may be had. Collectors that may not be had are no error:
    /// the others go on, and the summary says what is missing.
    ///
    /// # Errors
    /// When not even the program's mappings may be read, or no collector at all can be had.
    pub fn new(process: &'p Process, options: Options, costs: Costs) -> Result<Self, ProfileError> {
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
            budget: Budget::new(options.slowdown_permille_max, costs),
            faults: None,
            clock: None,
            writes: None,
            hints: None,
            missing: Vec::new(),
            counts: Counts::default(),
            stop: Duration::ZERO,
            identity,
            fault_period: 1,
            active: false,
            active_since_ns: 0,
            last_cpu_ns: 0,
            last_ns: 0,
        };
        profiler.read_maps()?;
        profiler.open_events();
        profiler.open_writes();
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

    fn open_events(&mut self) {
        let faults = EventKind::PageFaults { period: 1 };
        // The exact mode brings tens of thousands of faults a second at times.
        let ring_pages = FAULT_RING_PAGES * if self.options.exact { 8 } else { 1 };
        match self.open_group(faults, ring_pages) {
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

    fn open_writes(&mut self) {
        match self.try_open_writes() {
            Ok(writes) => self.writes = Some(writes),
            Err(reason) => {
                self.missing.push(Missing { collector: Collector::Writes, reason });
            }
        }
    }

    /// One short stop: the program opens a userfaultfd, which we take over; and while it stands,
    /// where its threads keep their local memory is read.
    fn try_open_writes(&mut self) -> Result<Writes, String> {
        let text = |cause: &dyn std::error::Error| cause.to_string();
        let pagemap = sys::pagemap::Pagemap::open(self.process.dir()).map_err(|e| text(&e))?;
        let seccomp = self.process.status().is_ok_and(|s| s.seccomp_mode != 0);
        let deadline = Instant::now() + STOP_WAIT;
        let options = FreezeOptions { deadline, suspend_seccomp: seccomp };
        let mut frozen = self.process.freeze(options).map_err(|e| text(&e))?;
        for thread in frozen.threads() {
            if let Ok(regs) = thread.regs() {
                self.code.set_fs_base(thread.tid().raw(), regs.fs_base);
            }
        }
        let userfault = frozen.open_userfault(Kind::UserModeOnly);
        self.stop = frozen.thaw();
        let mut writes =
            Writes::new(userfault.map_err(|e| text(&e))?, pagemap).map_err(|e| text(&e))?;
        writes.set_maps(&self.maps);
        Ok(writes)
    }

    /// The exact mode, when it was asked for. Without fault records it would show nothing.
    fn open_hints(&mut self) {
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

    /// Collects until `deadline`, or `sink` says no, or the program is not there any more.
    ///
    /// # Errors
    /// When the program's mappings cannot be read for a reason other than its end.
    pub fn run(&mut self, deadline: Instant, sink: &mut dyn Sink) -> Result<End, ProfileError> {
        let start_ns = now_ns();
        self.last_ns = start_ns;
        self.last_cpu_ns = self.cpu_ns();
        let mut out = Out { window: self.new_window(start_ns), sink };
        let mut interval = 0;
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
            if interval.is_multiple_of(MAPS_INTERVALS) {
                match self.read_maps() {
                    Ok(true) => self.maps_changed(&mut out),
                    Ok(false) => {}
                    Err(cause) if cause.is_gone() => break End::Ended,
                    Err(cause) => return Err(cause.into()),
                }
                self.adapt();
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

    fn maps_changed(&mut self, out: &mut Out<'_>) {
        if let Some(writes) = &mut self.writes {
            writes.set_maps(&self.maps);
        }
        out.window.set_layout(self.layout.clone());
    }

    /// Empties the rings. Says whether the program executes another one.
    fn drain(&mut self, out: &mut Out<'_>) -> bool {
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
    fn read_writes(&mut self, out: &mut Out<'_>) {
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

    /// Once a second: how many of the program's own faults are recorded.
    fn adapt(&mut self) {
        let a_second = std::mem::take(&mut self.counts.second_faults);
        // In the exact mode every fault is wanted, whatever it costs.
        if self.hints.is_some() {
            return;
        }
        let period = self.budget.fault_period(a_second);
        if period != self.fault_period
            && let Some(group) = &mut self.faults
            && group.set_period(period).is_ok()
        {
            self.fault_period = period;
            self.counts.fault_period_max = self.counts.fault_period_max.max(period);
        }
    }

    /// In the exact mode: what was not touched while the kernel went through all memory.
    fn end_round(&mut self, out: &mut Out<'_>, now: u64) {
        let Some(hints) = &mut self.hints else { return };
        let Some(untouched) = hints.round(self.process, &self.maps, now) else { return };
        let kinds = Watched { reads: true, writes: true };
        for pages in untouched.pages {
            out.window.watched(pages, kinds, untouched.from_ns, untouched.until_ns);
        }
    }

    /// Whether the memory is no longer that of the program the profile began with: a thread
    /// other than the first may execute another program without a record for it.
    fn is_another_program(&self) -> bool {
        self.process.stat().is_ok_and(|stat| stat.memory != self.identity)
    }

    /// Lets go of the program and says what every collector saw, lost and cost.
    pub fn finish(mut self) -> Summary {
        let writes = self.writes.take().map(|writes| {
            let (passes, armed) = writes.progress();
            let tracked = writes.tracked_bytes();
            let refused = writes.refused().cloned();
            (passes, armed, tracked, refused, writes.finish())
        });
        Summary {
            hint_rounds: self.hints.as_ref().map(Hints::rounds),
            counts: self.counts,
            spent: self.budget.spent(),
            cpu_ns: self.budget.cpu_ns(),
            overhead_permille: self.budget.permille_spent(),
            clock_hz: self.budget.clock_hz(),
            stop: self.stop,
            missing: std::mem::take(&mut self.missing),
            write_passes: writes.as_ref().map_or(0, |w| w.0),
            armed_pages: writes.as_ref().map_or(0, |w| w.1),
            tracked_bytes: writes.as_ref().map_or(0, |w| w.2),
            refused: writes.as_ref().and_then(|w| w.3.clone()),
            lock_max: writes.as_ref().map_or(Duration::ZERO, |w| w.4),
        }
    }

    /// Gives names to the code and the variables that `heat` knows, as far as they lie in the
    /// program as it is now.
    pub fn name(&self, heat: &mut heat::Heat) {
        let pid = self.process.pid().raw().unsigned_abs();
        crate::symbols::name(heat, &self.layout, &self.maps, &self.mem, pid);
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
