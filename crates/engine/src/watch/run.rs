//! The loop of a watch.

use std::fs;
use std::time::{Duration, Instant};

use heat::Heat;
use partition::Drift;
use plan::Planned;
use process::InstanceId;
use profile::{Costs, End, Options, Profiler};
use rustix::process::Signal;
use store::Store;

use super::bounds::{Bounds, Cost};
use super::events::{Happened, WatchEvent, WatchLog};
use super::notify::Notify;
use super::period::{Busy, Gather};
use super::status::WatchStatus;
use super::{OnTerm, WatchError, WatchRequest};
use crate::checkpoint::Carried;
use crate::loan::{Borrower, Lender, Told};
use crate::registry::{InstanceLock, Registry, RegistryError};
use crate::report::{Outcome, micros};
use crate::settings::Settings;
use crate::target_name::{Found, TargetError, find};

/// How often somebody who has the program is looked after.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// How often a program that has ended is looked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How long before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A watch at work.
pub(super) struct Watcher<'a> {
    pub(super) settings: &'a Settings,
    pub(super) request: &'a WatchRequest,
    pub(super) registry: &'a Registry,
    pub(super) log: &'a dyn WatchLog,
    pub(super) instance: InstanceId,
    pub(super) store: Store,
    pub(super) costs: Costs,
    pub(super) told: Told,
    pub(super) lender: Lender,
    pub(super) notify: Notify,
    pub(super) status: WatchStatus,
    pub(super) bounds: Bounds,
    pub(super) drift: Drift,
    /// The division that holds.
    pub(super) held: Option<Planned>,
    /// What was seen since the last division.
    pub(super) fresh: Heat,
    /// What was seen since the store was told.
    pub(super) unsaved: Heat,
    /// How long the program was watched in this period.
    pub(super) watched: Duration,
    pub(super) written_pages: u64,
    /// CPU time that it used meanwhile.
    pub(super) cpu: Duration,
    /// Where tracking of writes goes on.
    pub(super) writes_at: u64,
    pub(super) busy: Busy,
    pub(super) cost: Cost,
    /// When the profile of now began.
    pub(super) attached: Instant,
    pub(super) until: Option<Instant>,
    pub(super) period_end: Instant,
    pub(super) checkpoint_at: Option<Instant>,
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

/// How a session with a process ended.
enum Session {
    /// The process, or another of the instance, is to be looked for.
    Again,
    /// The time of the watch is over.
    Over,
    /// Somebody wants the watch to end.
    Asked,
    /// The same, and a last checkpoint was taken.
    Saved,
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
        let costs = crate::host_costs::read_or_measure(settings, &store).unwrap_or(Costs::ASSUMED);
        let now = Instant::now();
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
            drift: drift(request.every),
            held: None,
            fresh: Heat::default(),
            unsaved: Heat::default(),
            watched: Duration::ZERO,
            written_pages: 0,
            cpu: Duration::ZERO,
            writes_at: 0,
            busy: Busy::default(),
            cost: Cost::default(),
            attached: now,
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
                    if self.request.follow && self.await_resume() {
                        continue;
                    }
                    return self.end("the program has ended", Outcome::Stopped);
                }
                Err(error) => return Err(error.into()),
            };
            let Some(lock) = self.own()? else {
                sys::interrupt::take_interrupt();
                let why = "it was asked to end while another verb had the program";
                return self.end(why, Outcome::Running);
            };
            match self.session(&found, lock)? {
                Session::Again => {}
                Session::Over => return self.end("its time is over", Outcome::Running),
                Session::Asked => return self.end("it was asked to end", Outcome::Running),
                Session::Saved => {
                    let why = "it was asked to end, and took a last checkpoint";
                    return self.end(why, Outcome::Running);
                }
            }
        }
    }

    /// Waits until a process of the instance runs again; `false` when the watch is to end first.
    fn await_resume(&mut self) -> bool {
        let text = format!(
            "the program has ended; `rekindle resume latest:{}` brings it back, and the watch goes \
             on",
            self.instance
        );
        self.event(Happened::Away { text });
        self.tell_state("away", None);
        let mut looked = Instant::now();
        loop {
            self.notify.alive();
            // Whoever asks takes the instance's lock, which nobody has.
            while let Some(borrower) = self.lender.next() {
                drop(borrower);
            }
            if sys::interrupt::take_interrupt().is_some()
                || self.until.is_some_and(|until| Instant::now() >= until)
            {
                return false;
            }
            // To look at every process takes longer than to wait.
            if looked.elapsed() >= FOLLOW_EVERY {
                looked = Instant::now();
                if find(self.instance.as_str(), self.registry).is_ok() {
                    return true;
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Watches a process that is locked, until it is another's or no more.
    fn session(&mut self, found: &Found, lock: InstanceLock) -> Result<Session, WatchError> {
        let mut carried = None;
        loop {
            match self.attend(found, carried.as_ref())? {
                Next::Lend(borrower) => {
                    let userfault = self.give_up(found, carried.take(), &borrower);
                    drop(lock);
                    self.lend(&borrower, userfault);
                    return Ok(Session::Again);
                }
                Next::Checkpoint => {
                    // Whatever becomes of it was told; the next is due in its time.
                    let _ = self.checkpoint(found, &mut carried);
                }
                Next::Signal(signal) => {
                    sys::interrupt::take_interrupt();
                    self.notify.stopping();
                    let is_term = signal != Signal::INT.as_raw();
                    if !is_term || self.request.on_term == OnTerm::Leave {
                        return Ok(Session::Asked);
                    }
                    self.checkpoint(found, &mut carried)?;
                    return Ok(Session::Saved);
                }
                Next::Over => return Ok(Session::Over),
                Next::Executed => {
                    self.forget();
                    return Ok(Session::Again);
                }
                Next::Gone => return Ok(Session::Again),
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
    fn attend(&mut self, found: &Found, carried: Option<&Carried<'_>>) -> Result<Next, WatchError> {
        let options = Options {
            slowdown_permille_max: self.request.slowdown_permille_max,
            exact: self.request.exact,
            gauge: false,
            writes_from: self.writes_at,
            window_id: crate::profile::window_id(found),
        };
        let tracker = carried.map(|carried| &carried.tracker);
        let profiler = Profiler::beside(&found.process, options, self.costs, tracker);
        let mut profiler = match profiler {
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
        self.attached = Instant::now();
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
        self.account(&profiler, true);
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

    /// What is known of its memory is of another program.
    fn forget(&mut self) {
        self.drift = drift(self.request.every);
        self.held = None;
        self.fresh = Heat::default();
    }

    fn end(mut self, why: &str, outcome: Outcome) -> Result<(), WatchError> {
        self.unsaved = self.unsaved.merged(&std::mem::take(&mut self.fresh));
        self.save();
        // Not there when none was written.
        let _ = fs::remove_file(self.registry.watched_plan(&self.instance));
        self.event(Happened::Ended { text: why.to_owned(), outcome });
        Ok(())
    }

    pub(super) fn tell_state(&mut self, state: &str, verb: Option<&str>) {
        self.status.state = state.to_owned();
        self.status.verb = verb.map(str::to_owned);
        self.status.tell(&self.told);
    }

    /// Tells what does not work, once.
    pub(super) fn trouble(&mut self, text: &str) {
        if self.status.trouble.as_deref() != Some(text) {
            self.status.trouble = Some(text.to_owned());
            self.event(Happened::Trouble { text: text.to_owned() });
        }
        self.status.tell(&self.told);
    }

    pub(super) fn event(&self, what: Happened) {
        tell(self.log, &self.instance, what);
    }
}

/// Nothing is known yet, in periods of `every`.
fn drift(every: Duration) -> Drift {
    const HOUR: Duration = Duration::from_secs(3600);
    let periods = HOUR.as_micros() / every.as_micros().max(1);
    Drift::new(u16::try_from(periods).unwrap_or(u16::MAX))
}

pub(super) fn tell(log: &dyn WatchLog, instance: &InstanceId, what: Happened) {
    let time_ns = crate::heat_map::realtime_ns();
    let instance = instance.to_string();
    log.event(&WatchEvent { schema: "rekindle.watch/1", time_ns, instance, what });
}
