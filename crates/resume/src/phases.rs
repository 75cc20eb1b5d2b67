//! Running phases: told, timed, cancelled between.

use std::time::{Duration, Instant};

use crate::{Observer, Phase, PhaseTime, ResumeError};

/// The phases run so far.
pub(crate) struct Phases<'a> {
    observer: &'a dyn Observer,
    times: Vec<PhaseTime>,
}

impl<'a> Phases<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, times: Vec::new() }
    }

    /// Runs one phase. A phase that is run again adds to its time.
    pub(crate) fn run<T>(
        &mut self,
        phase: Phase,
        work: impl FnOnce(&'a dyn Observer) -> Result<T, ResumeError>,
    ) -> Result<T, ResumeError> {
        if let Some(why) = self.observer.cancelled() {
            return Err(ResumeError::Cancelled(why));
        }
        self.observer.phase_started(phase);
        let started = Instant::now();
        let result = work(self.observer)?;
        let took = started.elapsed();
        tracing::debug!(phase = phase.name(), us = took.as_micros(), "phase done");
        match self.times.iter_mut().find(|time| time.phase == phase) {
            Some(time) => time.took += took,
            None => self.times.push(PhaseTime { phase, took }),
        }
        self.observer.phase_finished(PhaseTime { phase, took });
        Ok(result)
    }

    /// Who looks on.
    pub(crate) fn observer(&self) -> &'a dyn Observer {
        self.observer
    }

    /// What each phase took.
    pub(crate) fn into_times(self) -> Vec<PhaseTime> {
        self.times
    }

    /// The sum of all.
    pub(crate) fn total(times: &[PhaseTime]) -> Duration {
        times.iter().map(|time| time.took).sum()
    }
}
