//! The system's clocks, see `clock_gettime(2)`.

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
