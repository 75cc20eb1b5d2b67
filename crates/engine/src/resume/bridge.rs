//! Between the builder and the verb: its phases, its news, and when it is to give up.

use std::sync::Mutex;

use ::resume::ResumeError;

use super::ResumeVerbError;
use crate::events::Observer;
use crate::phase::{Stopped, Watch, fail_if_asked, halt_if_asked};
use crate::report::{TimeReport, micros};

/// The times of the builder's own phases.
#[derive(Default)]
pub(crate) struct Inner(Mutex<Vec<::resume::PhaseTime>>);

impl Inner {
    pub(crate) fn rows(&self) -> Vec<TimeReport> {
        let times = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        times.iter().map(|t| TimeReport { name: inner_name(t.phase), us: micros(t.took) }).collect()
    }
}

/// The builder's phases as phases of the verb.
fn inner_name(phase: ::resume::Phase) -> &'static str {
    match phase {
        ::resume::Phase::Check => "build.check",
        ::resume::Phase::Stub => "build.stub",
        ::resume::Phase::Mappings => "build.mappings",
        ::resume::Phase::Memory => "build.memory",
        ::resume::Phase::Process => "build.process",
        ::resume::Phase::Threads => "build.threads",
        ::resume::Phase::Finish => "build.finish",
        ::resume::Phase::Verify => "build.verify",
        ::resume::Phase::Start => "build.start",
    }
}

/// Passes the builder's news on.
pub(crate) struct Bridge<'a> {
    observer: &'a dyn Observer,
    watch: Watch,
    inner: &'a Inner,
    /// Why the builder was told to give up.
    stopped: Mutex<Option<Stopped>>,
}

impl<'a> Bridge<'a> {
    pub(crate) fn new(observer: &'a dyn Observer, watch: Watch, inner: &'a Inner) -> Self {
        Self { observer, watch, inner, stopped: Mutex::new(None) }
    }
}

impl Bridge<'_> {
    fn stop(&self, stopped: Stopped) -> String {
        let text = stopped.to_string();
        *self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(stopped);
        text
    }

    /// A builder that was told to give up failed for our reason, not for one of its own.
    pub(crate) fn explain(&self, error: ResumeError) -> ResumeVerbError {
        let stopped = self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match (error, stopped) {
            (ResumeError::Cancelled(_), Some(stopped)) => stopped.into(),
            (error, _) => error.into(),
        }
    }
}

impl ::resume::Observer for Bridge<'_> {
    fn phase_started(&self, phase: ::resume::Phase) {
        self.observer.phase(phase.name());
        if let Err(stopped) = fail_if_asked(inner_name(phase)) {
            self.stop(stopped);
        }
    }

    fn phase_finished(&self, time: ::resume::PhaseTime) {
        self.inner.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(time);
    }

    fn loaded(&self, done_bytes: u64, total_bytes: u64) {
        self.observer.progress(done_bytes, total_bytes);
    }

    fn reached(&self, step: &'static str) {
        halt_if_asked(step);
    }

    fn cancelled(&self) -> Option<String> {
        let asked = self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let stopped = asked.or_else(|| self.watch.check().err())?;
        Some(self.stop(stopped))
    }
}
