//! From the moment in which the program stands still: the new process is built, and takes over.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ::resume::{Built, HandOver, Lazy, Request, Resumed, Takeover};
use capture::Captured;
use process::{Change, LineIdentity};
use store::Checkpoint;
use target::{Frozen, OpenError, Process};

use super::after_run::AfterRun;
use super::error::UpdateError;
use super::old_memory::OldMemory;
use super::phases::{ARRANGE, BUILD, COMMIT, COMPARE, END_LIMIT, LET_GO, OPEN, PREPARE};
use super::surroundings::Chosen;
use super::{UpdateRequest, all_there, compare, gone_by_itself};
use crate::agent::AgentLink;
use crate::checkpoint::{Standing, give_back_huge_pages};
use crate::events::Observer;
use crate::phase::Phases;
use crate::registry::Registry;
use crate::report::{SurroundingRow, TimeReport, micros};
use crate::resume::{Bridge, Inner, Later, Load};
use crate::settings::{Settings, workers};
use crate::target_name::Found;
use crate::{PidPolicy, ResumeOptions};

/// One update, from the moment in which the program stands still.
pub(super) struct Update<'a> {
    pub(super) settings: &'a Settings,
    pub(super) request: &'a UpdateRequest,
    pub(super) registry: &'a Registry,
    pub(super) observer: &'a dyn Observer,
    pub(super) found: &'a Found,
    pub(super) chosen: Chosen,
    /// The checkpoint's id.
    pub(super) id: &'a str,
}

/// How it came out.
pub(super) struct Ended {
    /// The instance as the process that runs it.
    pub(super) line: LineIdentity,
    pub(super) pid_inside: i32,
    pub(super) pause: Duration,
    /// `None`: it was a dry run.
    pub(super) started_at: Option<Instant>,
    pub(super) changed: Vec<Change>,
    pub(super) loaded_bytes: u64,
    pub(super) compared_pages: u64,
    pub(super) surroundings: Vec<SurroundingRow>,
    pub(super) after_run: AfterRun,
    pub(super) rows: Vec<TimeReport>,
}

impl Update<'_> {
    /// Builds the new process and hands the program over to it.
    pub(super) fn replace(
        &self,
        standing: Standing<'_>,
        agent: Option<AgentLink>,
        phases: &mut Phases<'_>,
    ) -> Result<Ended, UpdateError> {
        let Standing { mut frozen, captured, copying, checkpoint } = standing;
        frozen.make_calm();
        let since = frozen.since();
        let mut frozen = Some(frozen);
        let result = self.hand_over(&mut frozen, &captured, (&checkpoint, agent), phases);
        match frozen {
            // It was not decided: it goes on where it is.
            Some(frozen) => {
                frozen.thaw();
                let pause = since.elapsed();
                if let Some(released) = copying.release() {
                    give_back_huge_pages(&self.found.process, &released.split, self.observer);
                }
                if !self.found.process.is_alive().unwrap_or(true) {
                    let (pid, id) = (self.found.line.pid, self.id.to_owned());
                    return Err(UpdateError::Killed { pid, id });
                }
                result.map(|ended| Ended { pause, ..ended })
            }
            None => result.map(|ended| {
                let pause = ended.started_at.map_or(ended.pause, |at| at - since);
                Ended { pause, ..ended }
            }),
        }
    }

    /// As [`replace`](Self::replace). `frozen` is taken when it was decided that the new one lives.
    fn hand_over(
        &self,
        frozen: &mut Option<Frozen<'_>>,
        captured: &Captured,
        (checkpoint, agent): (&Checkpoint, Option<AgentLink>),
        phases: &mut Phases<'_>,
    ) -> Result<Ended, UpdateError> {
        let old = frozen.as_ref().ok_or_else(gone_by_itself)?;
        compare::refuse_late(captured, self.found.line.pid, old.was_stopped())?;
        let options = ResumeOptions {
            detach: true,
            pid: PidPolicy::OwnNamespace,
            workers: workers(),
            ..ResumeOptions::default()
        };
        let (objects, later) = phases.run(OPEN, |_| self.open(captured, checkpoint, agent))?;
        let lazy = later.as_ref().map(|later| Lazy { loader: &later.agent, first: &later.first });
        let mut instance = checkpoint.instance().clone();
        let surroundings = self.chosen.apply(&mut instance);
        let source = OldMemory { checkpoint, memory: &captured.memory };
        let request = Request {
            instance: &instance,
            source: &source,
            order: Some(checkpoint.plan()),
            lazy,
            takeover: Some(Takeover { old: &self.found.process, objects: &objects }),
            options: &options,
        };
        let inner = Inner::default();
        let watch = phases.watch(BUILD);
        let bridge = Bridge::new(self.observer, watch, &inner);
        let build = |_: &_| {
            let built = ::resume::build(request, &bridge);
            built.and_then(Built::loosen).map_err(|error| UpdateError::from(bridge.explain(error)))
        };
        let mut new: HandOver<'_> = phases.run(BUILD, build)?;
        let compared_pages = phases.run(COMPARE, |_| {
            self.chosen.verify(new.pid())?;
            compare::pages(captured, checkpoint, new.pid())
        })?;
        phases.run(PREPARE, |_| new.prepare(old).map_err(UpdateError::from))?;
        if self.settings.dry_run {
            return Ok(Ended {
                line: self.found.line.clone(),
                pid_inside: captured.instance.groups.first().map_or(0, |group| group.pid),
                pause: Duration::ZERO,
                started_at: None,
                changed: new.changed().to_vec(),
                loaded_bytes: 0,
                compared_pages,
                surroundings,
                after_run: AfterRun::default(),
                rows: inner.rows(),
            });
        }
        let line = &self.found.line;
        let next = self.line_of(new.pid());
        let decided = phases.run(COMMIT, |_| {
            self.registry.record_both(line, &next, self.id)?;
            new.decide(old, |old| nothing_came(old, captured)).map_err(UpdateError::from)
        });
        if let Err(error) = decided {
            if let Err(error) = self.registry.record_old(line) {
                self.observer
                    .warn(&format!("what is written down of it is not put right: {error}"));
            }
            return Err(error);
        }
        let old = frozen.take().ok_or_else(gone_by_itself)?;
        let begun = Instant::now();
        let resumed = new.let_go(old, begun + END_LIMIT)?;
        if let Some(later) = &later {
            later.agent.runs();
        }
        // Both stand there; whoever reads it finds the one that lives.
        if let Err(error) = self.registry.record(&next, self.id) {
            self.observer.warn(&format!("what is written down of it is not put right: {error}"));
        }
        let mut rows = inner.rows();
        rows.push(TimeReport { name: LET_GO, us: micros(resumed.started_at - begun) });
        let after_run = self.chosen.after_run(captured, checkpoint.plan());
        Ok(ended((next, resumed), compared_pages, (surroundings, after_run), rows))
    }

    /// What the new process needs beside the checkpoint. An agent may have been started.
    fn open(
        &self,
        captured: &Captured,
        checkpoint: &Checkpoint,
        agent: Option<AgentLink>,
    ) -> Result<(Vec<OwnedFd>, Option<Later>), UpdateError> {
        let objects = compare::objects(captured)?;
        let later = match self.request.load {
            Load::Eager => None,
            load => Some(Later::begin(self.settings, checkpoint, (load, agent), self.registry)?),
        };
        Ok((objects, later))
    }

    /// Waits until the new process, which runs, is all there, and arranges its pages.
    pub(super) fn arrange(
        &self,
        (line, wanted): (&LineIdentity, &AfterRun),
        phases: &mut Phases<'_>,
    ) -> Result<Vec<SurroundingRow>, UpdateError> {
        let process = running(line).map_err(crate::TargetError::from)?;
        let Some(process) = process else { return Ok(Vec::new()) };
        phases.run(ARRANGE, |watch| {
            all_there(line, ARRANGE.limit, self.registry, self.observer, watch)?;
            let failed = |cause| UpdateError::Io { step: "arrange its pages", cause };
            wanted.carry_out(&process).map_err(failed)
        })
    }

    /// The instance as the process `pid`.
    fn line_of(&self, pid: i32) -> LineIdentity {
        let start_time_ticks = sys::proc::running_since(pid).unwrap_or_default();
        LineIdentity { pid, start_time_ticks, ..self.found.line.clone() }
    }
}

/// The process that `line` names, unless it has ended: its number alone may be another's by now.
pub(super) fn running(line: &LineIdentity) -> Result<Option<Process>, OpenError> {
    let is_there = || sys::proc::running_since(line.pid) == Some(line.start_time_ticks);
    match Process::open(line.pid) {
        Ok(process) => {
            Ok(Some(process).filter(|new| new.start_time_ticks() == line.start_time_ticks))
        }
        Err(error) if is_there() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Signals that came to the old process since it was read would be lost.
fn nothing_came(old: &Frozen<'_>, captured: &Captured) -> std::io::Result<()> {
    let came = capture::signals_since(old, &captured.instance).map_err(std::io::Error::other)?;
    match came.first() {
        None => Ok(()),
        Some(signal) => {
            let why = format!("signal {signal} has come to the program; try again");
            Err(std::io::Error::other(why))
        }
    }
}

fn ended(
    (line, resumed): (LineIdentity, Resumed),
    compared_pages: u64,
    (surroundings, after_run): (Vec<SurroundingRow>, AfterRun),
    rows: Vec<TimeReport>,
) -> Ended {
    Ended {
        line,
        pid_inside: resumed.pid_inside,
        pause: Duration::ZERO,
        started_at: Some(resumed.started_at),
        changed: resumed.changed,
        loaded_bytes: resumed.loaded_bytes,
        compared_pages,
        surroundings,
        after_run,
        rows,
    }
}

#[cfg(test)]
mod tests {
    use process::InstanceId;

    use super::*;

    #[test]
    fn a_number_that_is_anothers_by_now_names_nobody() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start_time_ticks = sys::proc::running_since(pid).unwrap();
        let instance = InstanceId::from_hash(&[0; 32]);
        let boot_id = String::new();
        let line = LineIdentity { instance, boot_id, pid_namespace: 1, pid, start_time_ticks };
        assert_eq!(running(&line).unwrap().unwrap().pid().raw(), pid);
        let before = LineIdentity { start_time_ticks: start_time_ticks - 1, ..line.clone() };
        assert!(running(&before).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(running(&line).unwrap().is_none());
    }
}
