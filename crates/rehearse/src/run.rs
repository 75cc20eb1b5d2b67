//! The clone runs, and every call of it is decided.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use process::Instance;
use sys::ptrace::{PtraceError, Resume, Stop, StoppedThread};
use sys::receive::Receipt;
use target::Process;

use crate::calls::{Caller, Cause, Done, Sleep};
use crate::fork::fit;
use crate::life::Life;
use crate::pages::Pages;
use crate::serve::serve;
use crate::{Bounds, Fork, Rehearsal, RehearseError, prepare, threads};

/// Threads of a program that is rehearsed at most.
const THREADS_MAX: usize = 128;
/// How long nothing may happen before we look again.
const NAP: Duration = Duration::from_micros(20);
/// How often the clone's CPU time is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Fork {
    /// Runs the clone of `instance`, whose state at the fork it is, within `bounds`, and ends it.
    /// `process` is the instance: files that it has open are read through it. Whenever all of the
    /// clone's threads wait it gets more of `input`, what the instance received before. It ends
    /// early when `may_go_on` says no, which is asked every millisecond.
    ///
    /// # Errors
    /// When the clone could not be made ready or led. It has ended then, too.
    pub fn rehearse(
        self,
        process: &Process,
        instance: &Instance,
        bounds: &Bounds,
        input: &[Receipt],
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<Rehearsal, RehearseError> {
        let begun = Instant::now();
        let group = fit(instance)?;
        if group.threads.len() > THREADS_MAX {
            let count = group.threads.len();
            let why = format!("it has {count} threads, more than {THREADS_MAX}");
            return Err(RehearseError::Unfit(why));
        }
        let mut settled = self.settle(group.threads.len())?;
        threads::forget_rseq(&mut settled.stub)?;
        let pid = settled.life.pid;
        let (pages, unwatched) = prepare::take_away(&mut settled.stub, pid, instance, group)?;
        let made = threads::make(settled.stub, group, &settled.siblings, &pages)?;
        let prepared = begun.elapsed();
        let over = AtomicBool::new(false);
        let mut clone = Led { life: settled.life, threads: Vec::new() };
        clone.threads.extend(made.into_iter().map(|thread| Member { thread, state: State::New }));
        let tids = clone.threads.iter().map(|member| member.thread.tid().raw()).collect();
        let mut caller = Caller::new(&pages, process, instance, group, bounds.added_bytes);
        caller.number(tids);
        caller.hear(input);
        let mut run =
            Run { clone, pages: &pages, caller, bounds, calls: 0, skipped_ns: 0, seen: 0 };
        let (ended, served) = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let served = serve(&pages, &over);
                over.store(true, Ordering::Relaxed);
                served
            });
            let ended = run.lead(&over, may_go_on);
            // Dead before its pages are nobody's any more: what is missing would be zero.
            let killed = run.clone.end();
            over.store(true, Ordering::Relaxed);
            let served = server.join().unwrap_or(Ok(()));
            (ended.and_then(|ended| killed.map(|cpu| (ended, cpu))), served)
        });
        served?;
        let ((why, ran), cpu) = ended?;
        let threads = group.threads.len();
        let (calls, played) = (run.calls, run.caller.played);
        let touches = pages.touches();
        Ok(Rehearsal { touches, ended: why, prepared, ran, cpu, calls, threads, unwatched, played })
    }
}

/// A clone that runs, or is about to.
struct Led {
    life: Life,
    threads: Vec<Member>,
}

struct Member {
    thread: StoppedThread,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Running,
    Asleep(Sleep),
    Over,
}

impl Led {
    /// Ends it; gives the CPU time it used.
    fn end(&mut self) -> Result<Duration, RehearseError> {
        let cpu = self.cpu();
        self.life.kill()?;
        let threads = self.threads.iter_mut().map(|member| &mut member.thread);
        Life::wait(threads.rev())?;
        Ok(cpu)
    }

    fn cpu(&self) -> Duration {
        Duration::from_nanos(sys::clock::process_cpu_ns(self.life.pid).unwrap_or(0))
    }
}

/// A rehearsal that goes on.
struct Run<'a> {
    clone: Led,
    pages: &'a Pages,
    caller: Caller<'a>,
    bounds: &'a Bounds,
    calls: u64,
    /// Waiting that nobody waited for.
    skipped_ns: u64,
    /// The changes of descriptors that threads which wait have been asked about.
    seen: u64,
}

/// Why a rehearsal is over.
type Ended = String;

impl Run<'_> {
    /// Leads the clone until it is over: why, and how long it ran.
    fn lead(
        &mut self,
        over: &AtomicBool,
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<(Ended, Duration), RehearseError> {
        let begun = self.pages.begin();
        for at in 0..self.clone.threads.len() {
            self.go_on(at)?;
        }
        let used_before = self.clone.cpu();
        let mut looked = begun;
        loop {
            let mut is_idle = true;
            for at in 0..self.clone.threads.len() {
                if self.clone.threads[at].state != State::Running {
                    continue;
                }
                match self.clone.threads[at].thread.try_wait() {
                    Ok(None) => {}
                    Ok(Some(stop)) => {
                        is_idle = false;
                        if let Some(why) = self.stopped(at, stop, begun)? {
                            return Ok((why, begun.elapsed()));
                        }
                    }
                    Err(PtraceError::Ended { .. } | PtraceError::Gone { .. }) => {
                        return Ok(("the clone ended".to_owned(), begun.elapsed()));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some(why) = self.tell(begun)? {
                return Ok((why, begun.elapsed()));
            }
            if let Some(why) = self.wake(begun)? {
                return Ok((why, begun.elapsed()));
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                if !may_go_on() {
                    return Ok(("it was told to stop".to_owned(), begun.elapsed()));
                }
                let used = self.clone.cpu().saturating_sub(used_before);
                if let Some(why) = self.is_over(begun, used, over) {
                    return Ok((why, begun.elapsed()));
                }
            }
            if is_idle {
                std::thread::sleep(NAP);
            }
        }
    }

    /// Whether a bound is reached.
    fn is_over(&self, begun: Instant, used: Duration, over: &AtomicBool) -> Option<Ended> {
        if used >= self.bounds.time {
            return Some(format!("its {} ms were over", self.bounds.time.as_millis()));
        }
        if begun.elapsed() >= self.bounds.wall {
            return Some(format!("{} ms had passed", self.bounds.wall.as_millis()));
        }
        if self.pages.count() >= self.bounds.pages {
            return Some(format!("it had touched {} pages", self.bounds.pages));
        }
        // Set by the server when it fails.
        over.load(Ordering::Relaxed).then(|| "its pages could not be served".to_owned())
    }

    /// Lets a thread run to its next call.
    fn go_on(&mut self, at: usize) -> Result<(), RehearseError> {
        let member = &mut self.clone.threads[at];
        member.thread.resume(Resume::Emulate(0))?;
        member.state = State::Running;
        Ok(())
    }

    /// Deals with a stop; says when that is the end.
    fn stopped(
        &mut self,
        at: usize,
        stop: Stop,
        begun: Instant,
    ) -> Result<Option<Ended>, RehearseError> {
        match stop {
            Stop::Syscall => {}
            Stop::Signal(signal) => {
                self.clone.threads[at].thread.discard_signal();
                self.clone.threads[at].state = State::Over;
                return Ok(Some(format!("signal {signal}")));
            }
            _ => return self.go_on(at).map(|()| None),
        }
        self.calls += 1;
        self.deal(at, begun, None)
    }

    /// Deals with the call before which a thread stands, once more when it waits; says when that is
    /// the end. `waited`: how it has waited so far, and whether its time is over.
    fn deal(
        &mut self,
        at: usize,
        begun: Instant,
        waited: Option<(Sleep, bool)>,
    ) -> Result<Option<Ended>, RehearseError> {
        let now_ns = self.now_ns(begun);
        let is_late = waited.is_some_and(|(_, late)| late);
        let done = self.caller.call(&mut self.clone.threads[at].thread, now_ns, is_late)?;
        match done {
            Done::GoesOn => self.go_on(at)?,
            Done::Sleeps(sleep) => {
                // One that waits on does so until the time that was said first.
                let sleep = waited.map_or(sleep, |(first, _)| first);
                self.clone.threads[at].state = State::Asleep(sleep);
            }
            Done::Wakes { at: word, count, bits } => {
                let woken = self.wake_waiters(word, count, bits)?;
                self.answer(at, i64::try_from(woken).unwrap_or(0))?;
            }
            Done::ThreadEnds => self.clone.threads[at].state = State::Over,
            Done::Over(why) => {
                self.clone.threads[at].state = State::Over;
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// Asks threads that wait for descriptors again when something has come.
    fn tell(&mut self, begun: Instant) -> Result<Option<Ended>, RehearseError> {
        while self.seen != self.caller.descriptors.changes {
            self.seen = self.caller.descriptors.changes;
            for at in 0..self.clone.threads.len() {
                let State::Asleep(sleep) = self.clone.threads[at].state else { continue };
                if sleep.cause == Cause::Descriptors
                    && let Some(why) = self.deal(at, begun, Some((sleep, false)))?
                {
                    return Ok(Some(why));
                }
            }
        }
        Ok(None)
    }

    /// A thread's call, which was not made, returns `value`.
    fn answer(&mut self, at: usize, value: i64) -> Result<(), RehearseError> {
        let thread = &self.clone.threads[at].thread;
        let mut regs = thread.regs()?;
        regs.rax = value.cast_unsigned();
        thread.set_regs(&regs)?;
        self.go_on(at)
    }

    /// Threads that wait for the word at `word` go on, at most `count`.
    fn wake_waiters(&mut self, word: u64, count: u64, bits: u32) -> Result<u64, RehearseError> {
        let mut woken = 0;
        for at in 0..self.clone.threads.len() {
            let State::Asleep(sleep) = self.clone.threads[at].state else { continue };
            let is_meant =
                matches!(sleep.cause, Cause::Word(at, mask) if at == word && mask & bits != 0);
            if woken < count && is_meant {
                self.answer(at, 0)?;
                woken += 1;
            }
        }
        Ok(woken)
    }

    /// Threads whose time has come go on. When none runs, the time is that of the next.
    fn wake(&mut self, begun: Instant) -> Result<Option<Ended>, RehearseError> {
        let sleeping = |member: &Member| match member.state {
            State::Asleep(sleep) => sleep.until_ns,
            _ => None,
        };
        let running = self.clone.threads.iter().any(|member| member.state == State::Running);
        let next = self.clone.threads.iter().filter_map(sleeping).min();
        if !running {
            if self.caller.play() {
                return self.tell(begun);
            }
            let Some(next) = next else {
                let last = self.caller.last_wait();
                return Ok(Some(format!("every thread waits, the last one in {last}")));
            };
            self.skipped_ns += next.saturating_sub(self.now_ns(begun));
        }
        let now_ns = self.now_ns(begun);
        if next.is_none_or(|next| next > now_ns) {
            return Ok(None);
        }
        for at in 0..self.clone.threads.len() {
            let State::Asleep(sleep) = self.clone.threads[at].state else { continue };
            if sleep.until_ns.is_none_or(|until| until > now_ns) {
                continue;
            }
            if sleep.cause != Cause::Descriptors {
                self.answer(at, sleep.told)?;
            } else if let Some(why) = self.deal(at, begun, Some((sleep, true)))? {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// The clone's own time.
    fn now_ns(&self, begun: Instant) -> u64 {
        let passed = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        passed.saturating_add(self.skipped_ns)
    }
}
