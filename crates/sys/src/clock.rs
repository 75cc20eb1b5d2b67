//! The system's clocks, see `clock_gettime(2)`.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One reading of each clock that programs tell time by, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_REALTIME`.
    pub realtime_ns: i128,
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: i128,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: i128,
}

/// Reads the clocks of the caller's time namespace.
pub fn read() -> Reading {
    let now = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    Reading {
        realtime_ns: now(ClockId::Realtime),
        monotonic_ns: now(ClockId::Monotonic),
        boottime_ns: now(ClockId::Boottime),
    }
}

/// The CPU time that the calling thread has used.
pub fn thread_cpu() -> Duration {
    since_start(ClockId::ThreadCPUTime)
}

/// The CPU time that all threads of this process have used.
pub fn own_cpu() -> Duration {
    since_start(ClockId::ProcessCPUTime)
}

fn since_start(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// The CPU time that all threads of process `pid` have used, in nanoseconds
/// (`clock_getcpuclockid(3)`). Needs no privilege.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn process_cpu_ns(pid: crate::task::Pid) -> std::io::Result<u64> {
    let mut clock = 0;
    // SAFETY: the clock's number goes to a live clockid_t.
    let error = unsafe { libc::clock_getcpuclockid(pid.raw(), &raw mut clock) };
    if error != 0 {
        return Err(std::io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time goes to a live timespec.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).map_err(std::io::Error::other)?;
    let rest = u64::try_from(time.tv_nsec).map_err(std::io::Error::other)?;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Pid;

    #[test]
    fn our_own_cpu_time_grows_as_we_work() {
        let before = process_cpu_ns(Pid::current()).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 20 {
            std::hint::spin_loop();
        }
        let used = process_cpu_ns(Pid::current()).unwrap() - before;
        assert!(used > 1_000_000, "{used} ns for 20 ms of spinning");
    }
}
