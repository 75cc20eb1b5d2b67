//! The loop of a watch.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use heat::Heat;
use partition::Drift;
use plan::Planned;
use process::InstanceId;
use profile::{Costs, End, Options, Profiler};
use rustix::process::Signal;
use store::{Keep, Store};

use super::bounds::Bounds;
use super::events::{CheckpointRow, Happened, PeriodRow, WatchEvent, WatchLog};
use super::notify::Notify;
use super::period::{Busy, Divided, Gather, divide};
use super::status::WatchStatus;
use super::{OnTerm, WatchError, WatchRequest, moves};
use crate::checkpoint::{CheckpointRequest, PlanChoice, checkpoint, fault_logs};
use crate::events::Observer;
use crate::loan::{Borrower, Lender, Told};
use crate::registry::{InstanceLock, Registry, RegistryError};
use crate::report::{Outcome, micros};
use crate::settings::Settings;
use crate::target_name::{Found, TargetError, find};

/// Periods after which what was learned goes to the store.
const SAVED_EVERY: u64 = 5;
/// How often somebody who has the program is looked after.
const LOOK: Duration = Duration::from_millis(100);
/// How long before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);

/// A watch at work.
pub(super) struct Watcher<'a> {
    settings: &'a Settings,
    request: &'a WatchRequest,
    registry: &'a Registry,
    log: &'a dyn WatchLog,
    instance: InstanceId,
    store: Store,
    costs: Costs,
    told: Told,
    lender: Lender,
    notify: Notify,
    status: WatchStatus,
    bounds: Bounds,
    drift: Drift,
    /// The division that holds.
    held: Option<Planned>,
    /// What was seen since the last division.
    fresh: Heat,
    /// What was seen since the store was told.
    unsaved: Heat,
    /// How long the program was watched in this period.
    watched: Duration,
    written_pages: u64,
    /// CPU time that it used meanwhile.
    cpu: Duration,
    /// Where tracking of writes goes on.
    writes_at: u64,
    busy: Busy,
    until: Option<Instant>,
    period_end: Instant,
    checkpoint_at: Option<Instant>,
}

/// Why the program was let go.
enum Next {
    /// Another verb wants it.
    Lend(Borrower),
    /// A checkpoint is due.
    Checkpoint,
    /// Somebody wants the watch to end.
    Signal(i32),
    /// Its time is over.
    Over,
    /// It executes another program: what is known of its memory is of no use any more.
    Executed,
    /// It is gone, or cannot be watched now.
    Gone,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        request: &'a WatchRequest,
        registry: &'a Registry,
        log: &'a dyn WatchLog,
        (instance, store): (InstanceId, Store),
        (told, lender): (Told, Lender),
    ) -> Self {
        let costs = crate::host_costs::read(&store).unwrap_or(Costs::ASSUMED);
        let now = Instant::now();
        let hour = HOUR.as_micros() / request.every.as_micros().max(1);
        let status = WatchStatus {
            instance: instance.to_string(),
            watch_pid: std::process::id(),
            state: "starting".to_owned(),
            plan_every: 1,
            ..WatchStatus::default()
        };
        Self {
            settings,
            request,
            registry,
            log,
            instance,
            store,
            costs,
            told,
            lender,
            notify: Notify::default(),
            status,
            bounds: Bounds::new(),
            drift: Drift::new(u16::try_from(hour).unwrap_or(u16::MAX)),
            held: None,
            fresh: Heat::default(),
            unsaved: Heat::default(),
            watched: Duration::ZERO,
            written_pages: 0,
            cpu: Duration::ZERO,
            writes_at: 0,
            busy: Busy::default(),
            until: request.time.map(|time| now + time),
            period_end: now + request.every,
            checkpoint_at: request.checkpoint_every.map(|every| now + every),
        }
    }

    /// Watches to the end.
    pub(super) fn run(mut self) -> Result<(), WatchError> {
        loop {
            let found = match find(self.instance.as_str(), self.registry) {
                Ok(found) => found,
                Err(TargetError::NotRunning(_)) => {
                    return self.end("the program has ended", Outcome::Stopped);
                }
                Err(error) => return Err(error.into()),
            };
            let Some(lock) = self.own()? else {
                return self.leave(sys::interrupt::take_interrupt());
            };
            let next = self.attend(&found)?;
            drop(lock);
            match next {
                Next::Lend(borrower) => self.lend(&borrower),
                Next::Checkpoint => {
                    // Whatever becomes of it was told; the next is due in its time.
                    let _ = self.checkpoint();
                }
                Next::Signal(signal) => {
                    sys::interrupt::take_interrupt();
                    return self.leave(Some(signal));
                }
                Next::Over => return self.end("its time is over", Outcome::Running),
                Next::Executed => self.forget(),
                Next::Gone => {}
            }
        }
    }

    /// Takes the instance's lock, after whoever has it; `None` when somebody wants us to end.
    fn own(&mut self) -> Result<Option<InstanceLock>, WatchError> {
        let mut is_told = false;
        loop {
            match self.registry.lock_as_watch(&self.instance) {
                Ok(lock) => return Ok(Some(lock)),
                Err(RegistryError::Busy { holder, .. }) => {
                    if !is_told {
                        is_told = true;
                        self.tell_state("waiting", Some(&holder));
                    }
                }
                Err(error) => return Err(error.into()),
            }
            self.notify.alive();
            if sys::interrupt::interrupted_by().is_some() {
                return Ok(None);
            }
            // Who asked while another has it asks that one by finding its lock.
            while let Some(borrower) = self.lender.next() {
                drop(borrower);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Watches until there is something else to do.
    fn attend(&mut self, found: &Found) -> Result<Next, WatchError> {
        let options = Options {
            slowdown_permille_max: self.request.slowdown_permille_max,
            exact: self.request.exact,
            gauge: false,
            writes_from: self.writes_at,
            window_id: crate::profile::window_id(found),
        };
        let mut profiler = match Profiler::new(&found.process, options, self.costs) {
            Ok(profiler) => profiler,
            Err(error) if self.status.periods == 0 && self.status.loans == 0 => {
                return Err(error.into());
            }
            Err(error) => {
                // Gone, or in the hands of somebody who does not ask us.
                self.trouble(&format!("failed to {error}; it is tried again"));
                return Ok(self.rest(found));
            }
        };
        let missing = profiler.missing().iter().map(ToString::to_string).collect();
        let stop_us = micros(profiler.stops());
        self.event(Happened::Attached { pid: found.line.pid, stop_us, missing });
        self.status.pid = found.line.pid;
        self.notify.ready();
        self.tell_state("watching", None);
        let next = loop {
            let deadline = [Some(self.period_end), self.checkpoint_at, self.until];
            let deadline = deadline.into_iter().flatten().min().unwrap_or(self.period_end);
            let (begun, written) = (Instant::now(), profiler.written_pages());
            let (_, cpu_ns) = profiler.account();
            let mut seen = Heat::default();
            let mut gather =
                Gather { lender: &self.lender, notify: &mut self.notify, heat: &mut seen };
            let end = profiler.run(deadline, &mut gather)?;
            self.watched += begun.elapsed();
            self.written_pages += profiler.written_pages() - written;
            self.cpu += Duration::from_nanos(profiler.account().1.saturating_sub(cpu_ns));
            self.fresh = self.fresh.merged(&seen);
            match end {
                End::Asked => {}
                End::Ended => break Next::Gone,
                End::Executed => break Next::Executed,
            }
            if let Some(next) = self.wanted() {
                break next;
            }
            if Instant::now() >= self.period_end {
                self.end_period(found, &profiler);
            }
        };
        self.account(&profiler);
        self.writes_at = profiler.writes_at();
        drop(profiler.finish());
        Ok(next)
    }

    /// Waits a while, for what cannot be done now to be possible again.
    fn rest(&mut self, found: &Found) -> Next {
        let until = Instant::now() + AGAIN;
        while Instant::now() < until {
            self.notify.alive();
            if let Some(next) = self.wanted() {
                return next;
            }
            if found.process.pidfd().wait_ended(Instant::now() + LOOK).unwrap_or(true) {
                break;
            }
        }
        Next::Gone
    }

    /// What somebody wants of us, or the clock.
    fn wanted(&self) -> Option<Next> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| Instant::now() >= at);
        if let Some(signal) = sys::interrupt::interrupted_by() {
            return Some(Next::Signal(signal));
        }
        if let Some(borrower) = self.lender.next() {
            return Some(Next::Lend(borrower));
        }
        if is_due(self.until) {
            return Some(Next::Over);
        }
        is_due(self.checkpoint_at).then_some(Next::Checkpoint)
    }

    fn account(&mut self, profiler: &Profiler<'_>) {
        let (spent, cpu_ns) = profiler.account();
        self.status.slowdown_permille = (spent.total_ns() * 1000).div_ceil(cpu_ns.max(1));
    }

    /// The end of a period: the memory is divided anew.
    fn end_period(&mut self, found: &Found, profiler: &Profiler<'_>) {
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
        self.account(profiler);
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
            self.event(Happened::Trouble {
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
    fn save(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved.windows().next().is_none() {
            return;
        }
        if let Err(error) = crate::heat_map::learn(&self.store, &self.instance, &unsaved) {
            self.trouble(&format!("failed to keep what was learned: {error}; it is tried again"));
            self.unsaved = unsaved;
        }
    }

    /// Writes down how the memory is divided, for whoever takes the next checkpoint.
    fn write_plan(&mut self) -> Option<PathBuf> {
        let path = self.registry.watched_plan(&self.instance);
        let written = match &self.held {
            None => return None,
            Some(held) => held.to_file().map_err(|error| error.to_string()).and_then(|bytes| {
                crate::heat_map::write_output(&path, &bytes).map_err(|error| error.to_string())
            }),
        };
        match written {
            Ok(()) => Some(path),
            Err(error) => {
                self.trouble(&format!("failed to write the plan down: {error}"));
                // An old one is not to be taken for it.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    fn lend(&mut self, borrower: &Borrower) {
        self.save();
        self.write_plan();
        if !borrower.lend() {
            return;
        }
        let begun = Instant::now();
        let verb = borrower.verb.clone();
        self.status.loans += 1;
        self.event(Happened::Lent { verb: verb.clone() });
        self.tell_state("lent", Some(&verb));
        while !borrower.is_done(LOOK) {
            self.notify.alive();
            if sys::interrupt::interrupted_by().is_some() {
                break;
            }
        }
        self.event(Happened::Returned { verb, lent_us: micros(begun.elapsed()) });
    }

    /// Takes a checkpoint, and removes those that are too many.
    fn checkpoint(&mut self) -> Result<(), WatchError> {
        self.save();
        let plan = PlanChoice { watched: self.write_plan(), ..PlanChoice::default() };
        self.tell_state("checkpoint", None);
        let request = self.request;
        let wanted = CheckpointRequest {
            target: self.instance.to_string(),
            stop: false,
            parent: "latest".to_owned(),
            max_pause: request.max_pause,
            tcp_close: request.tcp_close,
            plan,
            rehearse: request.rehearse,
            twins: request.twins.clone(),
            external: request.external.clone(),
        };
        let (begun, cpu) = (Instant::now(), crate::host::own_cpu_time());
        let taken = checkpoint(
            self.settings,
            &wanted,
            self.registry,
            &Talk { log: self.log, instance: &self.instance },
        );
        self.checkpoint_at = request.checkpoint_every.map(|every| Instant::now() + every);
        let result = match taken {
            Ok(report) => {
                let mut row = CheckpointRow {
                    id: report.id.unwrap_or_default(),
                    parent: report.parent,
                    pause_us: report.pause_us.unwrap_or_default(),
                    pause_max_us: report.pause_max_us.unwrap_or_default(),
                    stored_bytes: report.stored_bytes,
                    took_us: micros(begun.elapsed()),
                    removed: Vec::new(),
                };
                let status = &mut self.status;
                status.checkpoints += 1;
                status.checkpoint = Some(row.id.clone());
                status.checkpoint_ns = crate::heat_map::realtime_ns();
                status.checkpoint_pause_us = row.pause_max_us;
                status.checkpoint_stored_bytes = row.stored_bytes;
                status.trouble = None;
                row.removed = self.prune();
                self.event(Happened::Checkpointed(row));
                Ok(())
            }
            Err(error) => {
                self.status.failures += 1;
                self.trouble(&format!("failed to {error}"));
                Err(error.into())
            }
        };
        self.bounds.leave_out(crate::host::own_cpu_time().saturating_sub(cpu));
        result
    }

    /// Removes the instance's oldest checkpoints, and makes those that stay independent of them.
    fn prune(&mut self) -> Vec<String> {
        let keep = Keep { newest: Some(self.request.keep), consolidate: true };
        match self.store.prune_instance(&self.instance, keep) {
            Ok(pruned) => pruned.removed.iter().map(ToString::to_string).collect(),
            Err(error) => {
                self.trouble(&format!("failed to {error}; older checkpoints stay for now"));
                Vec::new()
            }
        }
    }

    /// What is known of its memory is of another program.
    fn forget(&mut self) {
        let hour = HOUR.as_micros() / self.request.every.as_micros().max(1);
        self.drift = Drift::new(u16::try_from(hour).unwrap_or(u16::MAX));
        self.held = None;
        self.fresh = Heat::default();
    }

    /// Somebody wants us to end.
    fn leave(mut self, signal: Option<i32>) -> Result<(), WatchError> {
        self.notify.stopping();
        let is_term = signal.is_some_and(|signal| signal != Signal::INT.as_raw());
        if !is_term || self.request.on_term == OnTerm::Leave {
            return self.end("it was asked to end", Outcome::Running);
        }
        self.checkpoint()?;
        self.end("it was asked to end, and took a last checkpoint", Outcome::Running)
    }

    fn end(mut self, why: &str, outcome: Outcome) -> Result<(), WatchError> {
        self.unsaved = self.unsaved.merged(&std::mem::take(&mut self.fresh));
        self.save();
        // Not there when none was written.
        let _ = fs::remove_file(self.registry.watched_plan(&self.instance));
        self.event(Happened::Ended { text: why.to_owned(), outcome });
        Ok(())
    }

    fn tell_state(&mut self, state: &str, verb: Option<&str>) {
        self.status.state = state.to_owned();
        self.status.verb = verb.map(str::to_owned);
        self.status.tell(&self.told);
    }

    /// Tells what does not work, once.
    fn trouble(&mut self, text: &str) {
        if self.status.trouble.as_deref() != Some(text) {
            self.status.trouble = Some(text.to_owned());
            self.event(Happened::Trouble { text: text.to_owned() });
        }
        self.status.tell(&self.told);
    }

    fn event(&self, what: Happened) {
        tell(self.log, &self.instance, what);
    }
}

fn tell(log: &dyn WatchLog, instance: &InstanceId, what: Happened) {
    let time_ns = crate::heat_map::realtime_ns();
    let instance = instance.to_string();
    log.event(&WatchEvent { schema: "rekindle.watch/1", time_ns, instance, what });
}

/// Passes on what a checkpoint warns of.
struct Talk<'a> {
    log: &'a dyn WatchLog,
    instance: &'a InstanceId,
}

impl Observer for Talk<'_> {
    fn note(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn warn(&self, text: &str) {
        tell(self.log, self.instance, Happened::Trouble { text: text.to_owned() });
    }
}
