//! Interval timers and POSIX timers; timer descriptors are in [`super::timer_fds`].
//!
//! A long timer may neither go back to its full time nor fall faster than the clock: after a
//! resume it may have stood still or have gone on. A short timer must go on ticking and may not
//! tick more often than the clock allows.

use crate::board;
use crate::crew::{Crew, Member};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind};
use crate::raw::{self, signal};
use crate::{ensure, no_variant, same, sys, wrong};
use std::time::Duration;

pub(super) const HOUR: u64 = 3_600_000_000_000;
/// Long enough that no run of the witness sees one of the long timers end.
pub(super) const DAYS: u64 = 10 * 24 * HOUR;
/// Clocks of CPU time and setitimer round by a tick (at most 10 ms).
const SLACK: u64 = 25_000_000;
/// A ticking timer that is silent for so long is dead.
const SILENCE_MS: u64 = 10_000;

/// What is left of a long timer, seen again and again.
#[derive(Debug)]
pub(super) struct Countdown {
    pub left: u64,
    /// When the clock was read before it: a stop may lie between the two.
    since: u64,
    /// CPU time can pass on several CPUs at once.
    speed: u64,
}

impl Countdown {
    /// `since`: the clock, read before `left`.
    pub fn new(since: u64, left: u64, speed: u64) -> Self {
        Self { left, since, speed }
    }

    pub fn follow(&mut self, what: &str, since: u64, left: u64) -> Outcome {
        let passed = (raw::mono() - self.since) * self.speed + SLACK;
        ensure!(left <= self.left + SLACK, "{what} went up from {} to {left} ns", self.left);
        let least = self.left.saturating_sub(passed);
        ensure!(left >= least, "{what} fell from {} to {left} ns in {passed} ns", self.left);
        (self.left, self.since) = (left, since);
        Ok(())
    }
}

/// Ticks of a short timer.
#[derive(Debug)]
pub(super) struct Ticks {
    period: u64,
    begin: u64,
    count: u64,
    last_ms: u64,
}

impl Ticks {
    pub fn new(period: Duration) -> Self {
        Self { period: period.as_nanos() as u64, begin: raw::mono(), count: 0, last_ms: 0 }
    }

    pub fn saw(&mut self, what: &str, ticks: u64) -> Outcome {
        if ticks > 0 {
            self.last_ms = board::running_ms();
        }
        self.count += ticks;
        let most = (raw::mono() - self.begin) / self.period + 2;
        ensure!(self.count <= most, "{what} ticked {} times, at most {most} fit", self.count);
        let silent = board::running_ms() - self.last_ms;
        ensure!(silent < SILENCE_MS, "{what} has not ticked for {silent} ms");
        Ok(())
    }
}

fn itimer(which: libc::c_int) -> Outcome<(u64, u64)> {
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut value = libc::itimerval { it_interval: zero, it_value: zero };
    sys!(libc::syscall(libc::SYS_getitimer, which, &mut value))?;
    let nanos = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000;
    Ok((nanos(value.it_value), nanos(value.it_interval)))
}

fn set_itimer(which: libc::c_int, period: Duration) -> Outcome {
    let time = libc::timeval {
        tv_sec: period.as_secs() as i64,
        tv_usec: i64::from(period.subsec_micros()),
    };
    let value = libc::itimerval { it_interval: time, it_value: time };
    let none = std::ptr::null_mut::<libc::itimerval>();
    sys!(libc::syscall(libc::SYS_setitimer, which, &value, none))?;
    Ok(())
}

fn alarm_is_pending() -> Outcome<bool> {
    let mut pending = 0u64;
    sys!(libc::syscall(libc::SYS_rt_sigpending, &mut pending, 8usize))?;
    Ok(pending >> (libc::SIGALRM - 1) & 1 == 1)
}

/// The three interval timers: the real one ticks, the others count CPU time down.
struct Interval {
    ticks: Ticks,
    cpu: [(i32, Countdown); 2],
}

const REAL_PERIOD: Duration = Duration::from_millis(130);
const CPU_PERIOD: Duration = Duration::from_secs(5000 * 3600);
const REAL: i32 = 0;
const VIRTUAL: i32 = 1;
const PROF: i32 = 2;

extern "C" fn tick(_signal: i32) {}

/// Sets up the interval timers.
pub fn interval(_context: &Context) -> Outcome<Box<dyn Kind>> {
    raw::on_signal(libc::SIGALRM, tick, 0)?;
    let make = |_| {
        let ticks = Ticks::new(REAL_PERIOD);
        set_itimer(REAL, REAL_PERIOD)?;
        let mut cpu = Vec::new();
        for which in [VIRTUAL, PROF] {
            set_itimer(which, CPU_PERIOD)?;
            let since = raw::mono();
            cpu.push((which, Countdown::new(since, itimer(which)?.0, 64)));
        }
        let Ok(cpu) = cpu.try_into() else {
            wrong!("two timers make two countdowns");
        };
        Ok(Interval { ticks, cpu })
    };
    Crew::start("interval-timers", 1, &[], make)?.boxed()
}

impl Member for Interval {
    fn verify(&mut self, _round: u64) -> Outcome {
        let (left, period) = itimer(REAL)?;
        same!("period of ITIMER_REAL", REAL_PERIOD.as_nanos() as u64, period);
        // Between its expiry and the delivery of its signal the kernel shows no time left.
        ensure!(left > 0 || alarm_is_pending()?, "ITIMER_REAL is disarmed");
        ensure!(left <= period + SLACK, "ITIMER_REAL has {left} ns left of {period}");
        for (which, countdown) in &mut self.cpu {
            let since = raw::mono();
            let (left, period) = itimer(*which)?;
            same!("period of a CPU timer", CPU_PERIOD.as_nanos() as u64, period);
            countdown.follow(&format!("interval timer {which}"), since, left)?;
        }
        // The handler runs inside sigsuspend only; the mask of set-up blocks SIGALRM.
        let open = raw::quiet_mask(&[libc::SIGALRM]);
        match sys!(libc::sigsuspend(&open)) {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => wrong!("sigsuspend said {other:?}"),
        }
        self.ticks.saw("ITIMER_REAL", 1)
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "real" => set_itimer(REAL, Duration::from_millis(131)),
            "disarmed" => set_itimer(REAL, Duration::ZERO),
            "virtual" => set_itimer(VIRTUAL, CPU_PERIOD / 2),
            "prof" => {
                std::thread::sleep(Duration::from_millis(10));
                set_itimer(PROF, Duration::ZERO)
            }
            "faster" => (0..10).try_for_each(|_| {
                let (pid, tid) = (raw::getpid(), raw::gettid());
                sys!(libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGALRM))?;
                self.verify(0)
            }),
            _ => no_variant!(variant),
        }
    }

    fn rest(&self) -> Option<Duration> {
        None
    }
}

/// POSIX timers by kernel id, with deleted ones between them.
struct Posix {
    ticking: i32,
    ticks: Ticks,
    value: u64,
    long: Vec<(i32, u64, Countdown)>,
    disarmed: i32,
    deleted: Vec<i32>,
}

const POSIX_PERIOD: Duration = Duration::from_millis(170);

fn timer_create(clock: i32, notify: i32, value: u64, tid: i32) -> Outcome<i32> {
    // SAFETY: a zeroed event is valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = notify;
    event.sigev_signo = raw::rt(signal::TIMER);
    event.sigev_value.sival_ptr = value as *mut libc::c_void;
    event.sigev_notify_thread_id = tid;
    let mut id = 0i32;
    sys!(libc::syscall(libc::SYS_timer_create, clock, &event, &mut id))?;
    Ok(id)
}

fn timer_set(id: i32, first: Duration, period: Duration) -> Outcome {
    let time =
        libc::itimerspec { it_interval: raw::timespec(period), it_value: raw::timespec(first) };
    let none = std::ptr::null_mut::<libc::itimerspec>();
    sys!(libc::syscall(libc::SYS_timer_settime, id, 0, &time, none))?;
    Ok(())
}

fn timer_get(id: i32) -> Result<(u64, u64), raw::Failed> {
    // SAFETY: a zeroed value is valid.
    let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
    sys!(libc::syscall(libc::SYS_timer_gettime, id, &mut time))?;
    Ok((raw::nanos(&time.it_value), raw::nanos(&time.it_interval)))
}

/// Sets up the POSIX timers.
pub fn posix(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let make = |_| {
        let (none, thread) = (libc::SIGEV_NONE, libc::SIGEV_THREAD_ID);
        let mut deleted = vec![timer_create(libc::CLOCK_REALTIME, none, 0, 0)?];
        let mut long = Vec::new();
        let clocks = [
            (libc::CLOCK_MONOTONIC, 5 * DAYS, 0, 1),
            (libc::CLOCK_REALTIME, 6 * DAYS, HOUR, 1),
            (libc::CLOCK_BOOTTIME, 7 * DAYS, 0, 1),
            (libc::CLOCK_PROCESS_CPUTIME_ID, 80 * DAYS, HOUR, 64),
        ];
        for (clock, first, period, speed) in clocks {
            let notify = if period == 0 { none } else { libc::SIGEV_SIGNAL };
            let id = timer_create(clock, notify, 0xfeed, 0)?;
            timer_set(id, Duration::from_nanos(first), Duration::from_nanos(period))?;
            let since = raw::mono();
            long.push((id, period, Countdown::new(since, timer_get(id)?.0, speed)));
            deleted.push(timer_create(libc::CLOCK_MONOTONIC, none, 0, 0)?);
        }
        let value = 0x1234_5678_9abc_def0;
        let ticking = timer_create(libc::CLOCK_MONOTONIC, thread, value, raw::gettid())?;
        let disarmed = timer_create(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, 5, 0)?;
        for id in &deleted {
            sys!(libc::syscall(libc::SYS_timer_delete, *id))?;
        }
        let ticks = Ticks::new(POSIX_PERIOD);
        timer_set(ticking, POSIX_PERIOD, POSIX_PERIOD)?;
        Ok(Posix { ticking, ticks, value, long, disarmed, deleted })
    };
    Crew::start("posix-timers", 1, &[], make)?.boxed()
}

/// The beginning of a `siginfo_t` of `SI_TIMER`.
#[repr(C)]
struct TimerInfo {
    numbers: [i32; 4],
    timer: i32,
    overrun: i32,
    value: u64,
}

impl Posix {
    fn wait_for_tick(&mut self) -> Outcome {
        let set = raw::sigset(&[raw::rt(signal::TIMER)]);
        let info = loop {
            match raw::take_signal(&set, Some(Duration::from_millis(900))) {
                Ok(info) => break info,
                Err(failed) if failed.errno == libc::EAGAIN => {
                    return self.ticks.saw("the POSIX timer", 0);
                }
                // This call is ended by any stop; what it must not lose is the timer.
                Err(failed) if failed.errno == libc::EINTR => {}
                Err(failed) => return Err(failed.into()),
            }
        };
        // SAFETY: both describe the kernel's 128 bytes.
        let timer: TimerInfo = unsafe { std::mem::transmute_copy(&info) };
        same!("code of a timer signal", libc::SI_TIMER, info.si_code);
        same!("timer id in a signal", self.ticking, timer.timer);
        same!("timer value in a signal", self.value, timer.value);
        ensure!(timer.overrun >= 0, "overrun is {}", timer.overrun);
        self.ticks.saw("the POSIX timer", 1 + timer.overrun as u64)
    }
}

impl Member for Posix {
    fn verify(&mut self, _round: u64) -> Outcome {
        let (left, period) = timer_get(self.ticking)?;
        same!("period of the POSIX timer", POSIX_PERIOD.as_nanos() as u64, period);
        ensure!(left <= period, "the POSIX timer has {left} ns left of {period}");
        for (id, expected, countdown) in &mut self.long {
            let since = raw::mono();
            let (left, period) = timer_get(*id)?;
            same!(format!("period of timer {id}"), *expected, period);
            countdown.follow(&format!("timer {id}"), since, left)?;
        }
        same!("the disarmed timer", (0, 0), timer_get(self.disarmed)?);
        for id in &self.deleted {
            match timer_get(*id) {
                Err(failed) if failed.errno == libc::EINVAL => {}
                other => wrong!("deleted timer {id} said {other:?}"),
            }
        }
        self.wait_for_tick()
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        let (long, period) = (self.long[0].0, self.long[1].1);
        match variant {
            "deleted" => drop(sys!(libc::syscall(libc::SYS_timer_delete, long))?),
            "reset" => {
                // Seen once more first, so that it has fallen by more than the slack.
                self.verify(0)?;
                self.verify(0)?;
                timer_set(long, Duration::from_nanos(5 * DAYS), Duration::ZERO)?;
            }
            "period" => timer_set(
                self.long[1].0,
                Duration::from_nanos(self.long[1].2.left),
                Duration::from_nanos(period + 1),
            )?,
            "armed" => timer_set(self.disarmed, Duration::from_secs(9), Duration::ZERO)?,
            "silent" => timer_set(self.ticking, Duration::ZERO, Duration::ZERO)?,
            _ => no_variant!(variant),
        }
        Ok(())
    }

    fn rest(&self) -> Option<Duration> {
        None
    }
}
