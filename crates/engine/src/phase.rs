//! The phase machine: every verb is a list of named phases, each with a time limit, a metric and
//! a stated undo.
//!
//! The undo itself is a guard value (`target::Frozen` thaws, a checkpoint writer abandons, a
//! half-built process is killed): it runs on every path, a panic included. What this module adds
//! is the order, the clock, the limits and the places where tests make a phase fail.

use std::time::{Duration, Instant};

use crate::events::Observer;

/// One phase of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The stable name used in JSON and messages.
    pub name: &'static str,
    /// The longest it may take, apart from the verb's own `--timeout`.
    pub limit: Duration,
    /// What happens to its effects when it or a later phase fails.
    pub undo: &'static str,
}

/// How long a phase took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseTime {
    /// The phase's name.
    pub name: &'static str,
    /// Wall time.
    pub elapsed: Duration,
}

/// Why a verb was given up at a phase boundary or inside long work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// The verb's time was up.
    #[error(
        "finish in time: {phase} was still running after {after_ms} ms; allow more with --timeout"
    )]
    TimedOut {
        /// The phase.
        phase: &'static str,
        /// The limit.
        after_ms: u128,
    },
    /// The user asked to stop.
    #[error("go on with {phase}: interrupted by signal {signal}")]
    Interrupted {
        /// The phase.
        phase: &'static str,
        /// The signal.
        signal: i32,
    },
    /// A test asked for this failure.
    #[error("go on with {phase}: a failure was asked for by REKINDLE_FAIL_PHASE")]
    Injected {
        /// The phase.
        phase: &'static str,
    },
}

/// Runs the phases of one verb and keeps their times.
pub struct Phases<'a> {
    observer: &'a dyn Observer,
    started: Instant,
    deadline: Option<Instant>,
    current: &'static str,
    times: Vec<PhaseTime>,
}

impl<'a> Phases<'a> {
    /// A machine whose phases all have to end within `timeout`.
    pub fn new(observer: &'a dyn Observer, timeout: Option<Duration>) -> Self {
        let started = Instant::now();
        Self {
            observer,
            started,
            deadline: timeout.map(|t| started + t),
            current: "start",
            times: Vec::new(),
        }
    }

    /// Runs one phase. `work` gets a [`Watch`] that long work asks whether to go on. Once it has
    /// succeeded nothing fails the phase any more, so that no finished work is thrown away.
    ///
    /// # Errors
    /// When `work` fails, or the phase may not begin because time is up, the user interrupted,
    /// or a test asked for a failure here.
    pub fn run<T, E: From<Stopped>>(
        &mut self,
        phase: Phase,
        work: impl FnOnce(&Watch) -> Result<T, E>,
    ) -> Result<T, E> {
        self.current = phase.name;
        self.observer.phase(phase.name);
        let begun = Instant::now();
        let watch = self.watch(phase);
        watch.check()?;
        fail_if_asked(phase.name)?;
        let span = tracing::info_span!("phase", name = phase.name);
        let result = span.in_scope(|| work(&watch));
        let elapsed = begun.elapsed();
        tracing::debug!(phase = phase.name, elapsed_us = elapsed.as_micros(), "phase ended");
        self.times.push(PhaseTime { name: phase.name, elapsed });
        result
    }

    /// What long work of `phase`, which is about to run, is to ask.
    pub fn watch(&self, phase: Phase) -> Watch {
        let begun = Instant::now();
        let limit = begun + phase.limit;
        Watch { phase: phase.name, begun, deadline: self.deadline.map_or(limit, |d| d.min(limit)) }
    }

    /// The times of the phases that ran, in order.
    pub fn times(&self) -> &[PhaseTime] {
        &self.times
    }

    /// Time since the verb began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The phase that runs or ran last.
    pub fn current(&self) -> &'static str {
        self.current
    }
}

/// Fails when a test asked for a failure at the beginning of `phase`.
///
/// # Errors
/// Then.
pub(crate) fn fail_if_asked(phase: &'static str) -> Result<(), Stopped> {
    match std::env::var_os("REKINDLE_FAIL_PHASE") {
        Some(asked) if asked == phase => Err(Stopped::Injected { phase }),
        _ => Ok(()),
    }
}

/// Stops this process where a test wants to look, or to kill somebody.
pub(crate) fn halt_if_asked(step: &'static str) {
    if std::env::var_os("REKINDLE_HALT_AT").is_some_and(|asked| asked == step) {
        let us = rustix::process::getpid();
        // It goes on here when it is let go on, or never.
        let _ = rustix::process::kill_process(us, rustix::process::Signal::STOP);
    }
}

/// Tells long work whether to go on. Shared with worker threads.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    phase: &'static str,
    begun: Instant,
    deadline: Instant,
}

impl Watch {
    /// Whether the work may go on.
    ///
    /// # Errors
    /// When time is up or the user interrupted.
    pub fn check(&self) -> Result<(), Stopped> {
        if let Some(signal) = sys::interrupt::interrupted_by() {
            return Err(Stopped::Interrupted { phase: self.phase, signal });
        }
        if Instant::now() >= self.deadline {
            let after_ms = self.begun.elapsed().as_millis();
            return Err(Stopped::TimedOut { phase: self.phase, after_ms });
        }
        Ok(())
    }

    /// The instant at which time is up.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silent;

    const QUICK: Phase =
        Phase { name: "quick", limit: Duration::from_secs(5), undo: "nothing to undo" };

    #[test]
    fn times_are_kept_in_order() {
        let mut phases = Phases::new(&Silent, None);
        let first = phases.run(QUICK, |_| Ok::<_, Stopped>(1));
        let second = phases.run(Phase { name: "second", ..QUICK }, |_| Ok::<_, Stopped>(2));
        assert_eq!((first, second), (Ok(1), Ok(2)));
        let names: Vec<_> = phases.times().iter().map(|t| t.name).collect();
        assert_eq!(names, ["quick", "second"]);
    }

    #[test]
    fn a_verb_out_of_time_starts_no_phase() {
        let mut phases = Phases::new(&Silent, Some(Duration::ZERO));
        let result = phases.run(QUICK, |_| Ok::<_, Stopped>(()));
        assert!(matches!(result, Err(Stopped::TimedOut { phase: "quick", .. })));
    }

    #[test]
    fn long_work_notices_that_its_phase_is_over() {
        let mut phases = Phases::new(&Silent, None);
        let short = Phase { limit: Duration::from_millis(5), ..QUICK };
        let result: Result<(), Stopped> = phases.run(short, |watch| {
            loop {
                watch.check()?;
                std::thread::yield_now();
            }
        });
        assert!(matches!(result, Err(Stopped::TimedOut { .. })));
    }
}
