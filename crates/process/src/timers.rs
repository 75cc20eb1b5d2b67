//! Timers.

/// Time left and interval of a timer. The time left counts from the freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerSetting {
    /// Time to the next expiry in nanoseconds; 0 is disarmed.
    pub value_ns: u64,
    /// Time between expiries in nanoseconds; 0 is one-shot.
    pub interval_ns: u64,
}

/// A timer of setitimer(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntervalTimer {
    /// What getitimer(2) gave.
    pub setting: TimerSetting,
}

/// A timer of timer_create(2), from `/proc/PID/timers` and timer_gettime(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PosixTimer {
    /// The kernel's id of it, which the program holds.
    pub id: i32,
    /// `CLOCK_*` it runs on.
    pub clock: i32,
    /// How expiries are told.
    pub notify: PosixTimerNotify,
    /// The signal it sends.
    pub signal: i32,
    /// `sigev_value` as a word.
    pub value: u64,
    /// Time left and interval.
    pub setting: TimerSetting,
    /// timer_getoverrun(2).
    pub overrun: i32,
}

/// `sigev_notify` of timer_create(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PosixTimerNotify {
    /// `SIGEV_NONE`.
    None,
    /// `SIGEV_SIGNAL` to the process.
    Process,
    /// `SIGEV_THREAD_ID`: to the thread with this id, as the instance sees it.
    Thread(i32),
}
