//! The heartbeat: a thread that ticks, and the longest time it could not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two ticks of a thread that nobody holds up.
const TICK: Duration = Duration::from_micros(500);

/// Longest time between two ticks, as felt inside the process.
///
/// The clock is `CLOCK_MONOTONIC`, which goes on while a process is frozen, so a freeze shows as a
/// gap of its length plus at most one tick and the scheduler's delay.
#[derive(Debug)]
pub struct Heartbeat {
    origin: Instant,
    /// Microseconds from the origin to the last tick, and the largest gap since the last ask.
    state: Mutex<(u64, u64)>,
    stop: AtomicBool,
    ticks: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            state: Mutex::new((0, 0)),
            stop: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    /// Ticks until [`Heartbeat::stop`]; runs in a thread of its own.
    pub fn run(&self) {
        self.restart();
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(TICK);
            self.tick();
        }
    }

    /// Ends [`Heartbeat::run`] at its next tick.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Largest gap between two ticks since the last call, in microseconds, a gap that is still
    /// open included.
    pub fn gap_us_max(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.now_us().saturating_sub(state.0);
        std::mem::take(&mut state.1).max(open)
    }

    /// Ticks so far.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn restart(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (self.now_us(), 0);
    }

    fn tick(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now_us();
        state.1 = state.1.max(now.saturating_sub(state.0));
        state.0 = now;
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_reported_once() {
        let heartbeat = Heartbeat::default();
        heartbeat.restart();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        heartbeat.tick();
        assert!(heartbeat.gap_us_max() >= 20_000);
        let after = Instant::now();
        let reported = heartbeat.gap_us_max();
        // Only what passed since the tick can be open now.
        assert!(reported <= 5_000 + u64::try_from(after.elapsed().as_micros()).unwrap());
    }

    #[test]
    fn an_open_gap_counts() {
        let heartbeat = Heartbeat::default();
        heartbeat.restart();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        assert!(heartbeat.gap_us_max() >= 5_000);
    }
}
