//! The end of a checkpoint: published, and what becomes of the program.

use std::time::Duration;

use capture::Captured;
use image::Summary;
use mem::PageSet;
use process::Change;
use store::{Checkpoint, CheckpointWriter, Published, Store};
use target::{Frozen, Process};

use super::copying::Copied;
use super::error::CheckpointError;
use super::lossy;
use super::missing::Elsewhere;
use super::phases::{END, PUBLISH, REAP, SYNC};
use super::planning::Chosen;
use super::rehearsal::Rehearsed;
use super::take::{Complete, Done, Run, Stop};
use crate::events::Observer;
use crate::phase::{Phases, Watch};
use crate::reap;
use crate::settings::Settings;

/// Why pages are warm that the plan does not name.
const UNNAMED: &str = "nothing is known of it";

/// Huge pages that a write `split` while they were tracked become huge again. What becomes of the
/// checkpoint is decided by now: this cannot fail it.
pub(crate) fn give_back_huge_pages(
    process: &Process,
    split: &PageSet,
    observer: &dyn Observer,
) -> Option<Duration> {
    const BUDGET: Duration = Duration::from_secs(2);
    if split.is_empty() {
        return None;
    }
    let given = capture::give_back_huge_pages(process, split, BUDGET);
    if given.left_bytes > 0 {
        let megabytes = given.left_bytes.div_ceil(1 << 20);
        observer.warn(&format!(
            "{megabytes} MB of the program's memory are in small pages now that were in huge ones"
        ));
    }
    Some(given.took)
}

impl Run<'_, '_> {
    /// With `--stop` the instance stands still until its checkpoint is published, and then ends.
    pub(super) fn publish_and_end(
        &self,
        complete: Complete,
        frozen: Frozen<'_>,
        stops: Vec<Stop>,
        phases: &mut Phases<'_>,
    ) -> Result<Done, CheckpointError> {
        self.refer(&complete, phases)?;
        phases.run(SYNC, |_| self.sync_files(&frozen))?;
        let (mut done, ..) = phases.run(PUBLISH, |_| self.publish(complete, stops))?;
        done.safe = phases.elapsed();
        let since = frozen.since();
        // From here on the checkpoint stays, whatever happens.
        let ended = phases.run(END, |watch| self.end(frozen, watch, &done.published));
        ended.map_err(|e| match e {
            CheckpointError::Stopped(stopped) => CheckpointError::NotEnded {
                id: done.published.id.to_string(),
                cause: stopped.to_string(),
            },
            other => other,
        })?;
        done.stops.push(("freeze", since.elapsed()));
        done.ended = true;
        // So that a resume finds the pid free. Whatever comes of it: the program has ended.
        let line = &self.found.line;
        let waited = phases.run(REAP, |watch| {
            reap::after_the_end(line, self.observer, watch).map_err(CheckpointError::from)
        });
        if let Err(error) = waited {
            tracing::debug!("the end of the program was not waited for: {error}");
        }
        Ok(done)
    }

    /// What a rehearsal showed becomes heat of the line. Heat is advice, and the checkpoint is safe.
    pub(super) fn learn(&self, settings: &Settings, done: &Done) {
        let id = crate::profile::window_id(self.found);
        let now_ns = crate::heat_map::realtime_ns();
        let instance = &self.found.line.instance;
        let Some(heat) = done.rehearsed.as_ref().and_then(|r| r.heat(id, now_ns)) else { return };
        let learned = Store::open(&settings.store)
            .map_err(crate::heat_map::HeatMapError::from)
            .and_then(|store| crate::heat_map::learn(&store, instance, &heat));
        if let Err(error) = learned {
            self.observer.warn(&format!("what the rehearsal showed is not kept: {error}"));
        }
    }

    /// Everything is copied: what it is divided by is what there really is, with what a clone
    /// showed in front.
    pub(super) fn complete(
        &self,
        writer: CheckpointWriter,
        captured: Captured,
        (copied, elsewhere): (Copied, Elsewhere),
        chosen: Chosen,
        mut rehearsed: Option<Rehearsed>,
    ) -> Complete {
        let plan = match &mut rehearsed {
            Some(rehearsed) if self.request.plan.is_free() => {
                let plan = rehearsed.plan(chosen.plan, copied.pages.memories());
                lossy::warmed(plan, self.named)
            }
            _ => chosen.plan,
        };
        let plan = plan.fitted(copied.pages.memories(), UNNAMED);
        Complete { writer, captured, copied, elsewhere, plan, policy: chosen.by, rehearsed }
    }

    pub(super) fn publish(
        &self,
        complete: Complete,
        stops: Vec<Stop>,
    ) -> Result<(Done, Captured, Checkpoint), CheckpointError> {
        let Complete { writer, captured, copied, plan, policy, rehearsed, .. } = complete;
        let summary = Summary { parent: writer.parent(), ..self.summary(&captured) };
        let resident_bytes = plan.extents.iter().map(|e| e.pages.bytes()).sum();
        let (published, opened) = writer.finish_open(&captured.instance, plan, &summary)?;
        let changes = self.changes(&captured);
        let done = Done {
            published,
            resident_bytes,
            copied_in_pause_bytes: copied.in_pause_bytes,
            stops,
            safe: Duration::ZERO,
            policy,
            collapse: None,
            ended: false,
            changes,
            shadow: None,
            rehearsed,
        };
        Ok((done, captured, opened))
    }

    /// What was seen to change from outside and at the freeze, each once.
    fn changes(&self, captured: &Captured) -> Vec<Change> {
        let mut changes = self.survey.changes().to_vec();
        let new = captured.changes.iter().filter(|c| !self.survey.changes().contains(c));
        changes.extend(new.cloned());
        changes
    }

    fn summary(&self, captured: &Captured) -> Summary {
        let realtime = captured.instance.host.clocks.realtime_ns;
        Summary {
            created_ns: u64::try_from(realtime).unwrap_or_default(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            parent: None,
            stopped: self.request.stop,
            command: self.survey.command().to_vec(),
            changes: self.changes(captured),
            figures: std::collections::BTreeMap::new(),
        }
    }

    /// Files that the instance wrote must be as safe as the checkpoint that expects them.
    fn sync_files(&self, frozen: &Frozen<'_>) -> Result<(), CheckpointError> {
        capture::sync_writable_files(frozen).map_err(CheckpointError::SyncFiles)
    }

    fn end(
        &self,
        frozen: Frozen<'_>,
        watch: &Watch,
        published: &Published,
    ) -> Result<(), CheckpointError> {
        let id = published.id.to_string();
        frozen
            .end(watch.deadline())
            .map_err(|cause| CheckpointError::NotEnded { id, cause: cause.to_string() })
    }
}
