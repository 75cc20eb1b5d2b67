//! Timer descriptors.

use super::timers::{Countdown, DAYS, HOUR, Ticks};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::{ensure, no_variant, raw, same, sys};
use std::os::fd::RawFd;
use std::time::Duration;

/// Timer descriptors: ticking, long, expired and unread, disarmed.
struct Descriptors {
    ticking: RawFd,
    ticks: Ticks,
    long: Vec<(RawFd, u64, Countdown)>,
    unread: RawFd,
    disarmed: RawFd,
}

const DESCRIPTOR_PERIOD: Duration = Duration::from_millis(110);
const UNREAD: u64 = 1;

fn descriptor(clock: i32) -> Outcome<RawFd> {
    Ok(sys!(libc::timerfd_create(clock, libc::TFD_NONBLOCK))? as RawFd)
}

fn arm(fd: RawFd, flags: i32, first: Duration, period: Duration) -> Outcome {
    let time =
        libc::itimerspec { it_interval: raw::timespec(period), it_value: raw::timespec(first) };
    sys!(libc::timerfd_settime(fd, flags, &time, std::ptr::null_mut()))?;
    Ok(())
}

fn left(fd: RawFd) -> Outcome<(u64, u64)> {
    // SAFETY: a zeroed value is valid.
    let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
    sys!(libc::timerfd_gettime(fd, &mut time))?;
    Ok((raw::nanos(&time.it_value), raw::nanos(&time.it_interval)))
}

/// Ticks that can be read; zero when there are none.
fn read_ticks(fd: RawFd) -> Outcome<u64> {
    let mut ticks = 0u64;
    match sys!(libc::read(fd, (&raw mut ticks).cast(), 8)) {
        Ok(_) => Ok(ticks),
        Err(failed) if failed.errno == libc::EAGAIN => Ok(0),
        Err(failed) => Err(failed.into()),
    }
}

/// Sets up the timer descriptors.
pub fn set_up(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let mut long = Vec::new();
    let monotonic = descriptor(libc::CLOCK_MONOTONIC)?;
    arm(monotonic, 0, Duration::from_nanos(3 * DAYS), Duration::from_nanos(HOUR))?;
    let boot = descriptor(libc::CLOCK_BOOTTIME)?;
    arm(boot, 0, Duration::from_nanos(4 * DAYS), Duration::ZERO)?;
    let absolute = descriptor(libc::CLOCK_REALTIME)?;
    let at = raw::clock(libc::CLOCK_REALTIME) + 5 * DAYS;
    arm(absolute, libc::TFD_TIMER_ABSTIME, Duration::from_nanos(at), Duration::ZERO)?;
    for (fd, period) in [(monotonic, HOUR), (boot, 0), (absolute, 0)] {
        let since = raw::mono();
        long.push((fd, period, Countdown::new(since, left(fd)?.0, 1)));
    }
    let unread = descriptor(libc::CLOCK_MONOTONIC)?;
    arm(unread, 0, Duration::from_nanos(1), Duration::ZERO)?;
    let disarmed = descriptor(libc::CLOCK_MONOTONIC)?;
    let ticking = descriptor(libc::CLOCK_MONOTONIC)?;
    let ticks = Ticks::new(DESCRIPTOR_PERIOD);
    arm(ticking, 0, DESCRIPTOR_PERIOD, DESCRIPTOR_PERIOD)?;
    raw::sleep(Duration::from_millis(5))?;
    Ok(Box::new(Descriptors { ticking, ticks, long, unread, disarmed }))
}

impl Descriptors {
    fn check_unread(&self) -> Outcome {
        let mut poll = libc::pollfd { fd: self.unread, events: libc::POLLIN, revents: 0 };
        same!("an expired timer polls", 1, sys!(libc::poll(&mut poll, 1, 0))?);
        let text = raw::read_text(&format!("/proc/self/fdinfo/{}", self.unread))?;
        let ticks = text.lines().find_map(|line| line.strip_prefix("ticks: "));
        same!("unread ticks", Some(UNREAD), ticks.and_then(|text| text.parse().ok()));
        Ok(())
    }
}

impl Kind for Descriptors {
    fn check(&mut self) -> Outcome<Pass> {
        let (remaining, period) = left(self.ticking)?;
        same!("period of the timer descriptor", DESCRIPTOR_PERIOD.as_nanos() as u64, period);
        ensure!(remaining <= period, "the timer descriptor has {remaining} ns left");
        self.ticks.saw("the timer descriptor", read_ticks(self.ticking)?)?;
        for (fd, expected, countdown) in &mut self.long {
            let since = raw::mono();
            let (remaining, period) = left(*fd)?;
            same!(format!("period of timer descriptor {fd}"), *expected, period);
            countdown.follow(&format!("timer descriptor {fd}"), since, remaining)?;
        }
        same!("the disarmed timer descriptor", (0, 0), left(self.disarmed)?);
        self.check_unread()?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        if step.is_multiple_of(7) {
            // The unread one is read, and expires again.
            same!("unread ticks, read", UNREAD, read_ticks(self.unread)?);
            arm(self.unread, 0, Duration::from_nanos(1), Duration::ZERO)?;
            raw::sleep(Duration::from_millis(2))?;
        }
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "read" => drop(read_ticks(self.unread)?),
            "reset" => arm(self.long[1].0, 0, Duration::from_nanos(8 * DAYS), Duration::ZERO)?,
            "silent" => arm(self.ticking, 0, Duration::ZERO, Duration::ZERO)?,
            "armed" => arm(self.disarmed, 0, Duration::from_secs(99), Duration::ZERO)?,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
