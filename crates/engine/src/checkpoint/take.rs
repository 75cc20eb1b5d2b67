//! One checkpoint being taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::resume::serve::Missing;
use capture::{Captured, StateError, Survey};
use mem::{MemoryId, PageSet};
use plan::{LossyRange, Plan};
use process::Change;
use store::{Checkpoint, CheckpointWriter, Published};
use target::{FreezeOptions, Frozen, Released};

use super::carried::Carried;
use super::copying::{Copied, Copying};
use super::ends::give_back_huge_pages;
use super::error::CheckpointError;
use super::missing::{Elsewhere, refuse_foreign};
use super::phases::{
    APPROXIMATE, COPY, ENCODE, FORK, FREEZE, INHERIT, LOOK, PLAN, PRECOPY, PREPARE, PUBLISH,
    RECORD, REFER, REHEARSE, RELEASE, STAGE, STATE, THAW, TRACK, TWINS,
};
use super::planning::Chosen;
use super::recording::Recorded;
use super::rehearsal::{Forked, Rehearsed};
use super::{CheckpointRequest, look, lossy, waiting};
use crate::agent::Served;
use crate::events::Observer;
use crate::phase::{Phases, Watch};
use crate::report::ShadowReport;
use crate::settings::{Settings, workers};
use crate::staging::Staging;
use crate::target_name::Found;

/// One checkpoint being taken.
pub(crate) struct Run<'a, 's> {
    pub(crate) request: &'s CheckpointRequest,
    pub(crate) found: &'a Found,
    pub(crate) survey: &'s Survey,
    /// Ranges in which a loss is allowed.
    pub(crate) named: &'s [LossyRange],
    pub(crate) options: &'s capture::Options,
    /// Who has the pages that the program misses.
    pub(crate) served: Option<&'s Served>,
    pub(crate) observer: &'s dyn Observer,
    /// Its writes are tracked on when the checkpoint is published.
    pub(crate) keeps_tracking: bool,
}

/// A checkpoint that was taken.
pub(crate) struct Taken<'a> {
    pub(crate) done: Done,
    /// The program, when it was to stand still.
    pub(crate) standing: Option<Standing<'a>>,
    /// The tracking, when it was to go on.
    pub(crate) carried: Option<Carried<'a>>,
}

/// A program that stands still, with its state, after its checkpoint was published.
pub(crate) struct Standing<'a> {
    pub(crate) frozen: Frozen<'a>,
    pub(crate) captured: Captured,
    /// Its writes are still tracked: to be released when it goes on.
    pub(crate) copying: Copying<'a>,
    /// Its checkpoint, open.
    pub(crate) checkpoint: Checkpoint,
}

/// What becomes of the program once its checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It goes on before the checkpoint is published.
    GoesOn,
    /// It ends when the checkpoint is published.
    Ends,
    /// It stands still.
    Stands,
}

/// A stop of the instance, with what it was for.
pub(super) type Stop = (&'static str, Duration);

/// What a finished checkpoint has to tell.
pub(crate) struct Done {
    pub(crate) published: Published,
    pub(super) resident_bytes: u64,
    pub(crate) copied_in_pause_bytes: u64,
    pub(crate) stops: Vec<Stop>,
    /// From the beginning of the verb until it was safe on disk.
    pub(super) safe: Duration,
    /// What divided its memory.
    pub(super) policy: String,
    /// What it took to give huge pages back, when any had been split.
    pub(super) collapse: Option<Duration>,
    pub(super) ended: bool,
    pub(crate) changes: Vec<Change>,
    /// What was copied from a fork, when one was made.
    pub(super) shadow: Option<ShadowReport>,
    /// What a clone showed, when one was asked for.
    pub(super) rehearsed: Option<Rehearsed>,
}

/// An instance that stands still and whose state is known.
struct Held<'a> {
    frozen: Frozen<'a>,
    captured: Captured,
    /// What is not there, when it was not at the freeze.
    missing: Option<Missing>,
    /// How long it stood still before this, when something had to pass first.
    stops: Vec<Stop>,
}

/// What is there before the program is touched.
struct Prepared {
    writer: CheckpointWriter,
    chosen: Chosen,
    recorded: Option<Recorded>,
}

/// A checkpoint whose pages have all been copied, but for those in staging.
pub(super) struct Complete {
    pub(super) writer: CheckpointWriter,
    pub(super) captured: Captured,
    pub(super) copied: Copied,
    pub(super) elsewhere: Elsewhere,
    /// For the pages that there are.
    pub(super) plan: Plan,
    /// The policy that made it.
    pub(super) policy: String,
    pub(super) rehearsed: Option<Rehearsed>,
}

impl<'a> Run<'a, '_> {
    /// Takes the checkpoint.
    pub(super) fn take(
        &self,
        settings: &Settings,
        phases: &mut Phases<'_>,
        carried: Option<Carried<'a>>,
    ) -> Result<Taken<'a>, CheckpointError> {
        let after = if self.request.stop { After::Ends } else { After::GoesOn };
        self.take_and(after, settings, phases, carried, &mut |_| {})
    }

    /// Takes the checkpoint, and keeps the program standing still. It is left to the caller to have
    /// the store sync it. `begun` is called with the writer long before that.
    pub(crate) fn take_and_stand(
        &self,
        settings: &Settings,
        phases: &mut Phases<'_>,
        carried: Option<Carried<'a>>,
        begun: &mut dyn FnMut(&CheckpointWriter),
    ) -> Result<Taken<'a>, CheckpointError> {
        self.take_and(After::Stands, settings, phases, carried, begun)
    }

    fn take_and(
        &self,
        after: After,
        settings: &Settings,
        phases: &mut Phases<'_>,
        carried: Option<Carried<'a>>,
        begun: &mut dyn FnMut(&CheckpointWriter),
    ) -> Result<Taken<'a>, CheckpointError> {
        let mut writer = phases.run(PREPARE, |_| self.writer(settings))?;
        if after == After::Stands {
            writer.sync_later();
        }
        begun(&writer);
        // Where only what was written since the parent is stored, there is little to be found.
        let parent = writer.parent();
        if carried.as_ref().is_none_or(|carried| parent != Some(carried.parent)) {
            phases.run(TWINS, |watch| self.find_twins(&mut writer, watch))?;
        } else if after == After::Ends {
            // Somebody waits for it to be safe.
            writer.without_deltas();
        }
        let chosen = phases.run(PLAN, |_| self.plan(settings, &mut writer))?;
        if !self.named.is_empty() {
            writer.allow_loss(self.named.to_vec())?;
        }
        let recorded = self.record(phases)?;
        let mut copying = phases.run(TRACK, |watch| {
            // Memory that is served is registered, and cannot be for anything else.
            if self.served.is_some() {
                return Ok(Copying::Frozen);
            }
            let (process, freeze) = (&self.found.process, self.freeze_options(watch));
            match carried {
                Some(carried) => Copying::carry_on(process, freeze, carried, &writer),
                None => Copying::start(process, freeze, self.observer),
            }
        })?;
        let prepared = Prepared { writer, chosen, recorded };
        let mut split = PageSet::new();
        let taken =
            self.take_tracked(after, settings, phases, prepared, (&mut copying, &mut split));
        if taken.is_err() {
            // It runs on, and is to have the huge pages that it had.
            let released = copying.give_up();
            split = released.map_or_else(PageSet::new, |released| released.split).union(&split);
            give_back_huge_pages(&self.found.process, &split, self.observer);
        }
        taken
    }

    /// The part of it in which writes are tracked, if they can be. When it fails the program does not
    /// stand still, what is left in `copying` is to be let go of, and `split` says what was in huge
    /// pages and is not any more.
    fn take_tracked(
        &self,
        after: After,
        settings: &Settings,
        phases: &mut Phases<'_>,
        prepared: Prepared,
        (copying, split): (&mut Copying<'a>, &mut PageSet),
    ) -> Result<Taken<'a>, CheckpointError> {
        let Prepared { writer, chosen, recorded } = prepared;
        if copying.inherits() {
            phases.run(INHERIT, |watch| copying.inherit(&writer, watch))?;
        }
        let resident_bytes = self.survey.resident_bytes();
        let stage = |copying: &Copying<'_>, phases: &mut Phases<'_>| {
            let room = self.staging_room(copying, after);
            phases.run(STAGE, |_| Ok::<_, CheckpointError>(Staging::new(room, &writer)))
        };
        let rounds = |copying: &mut Copying<'_>, phases: &mut Phases<'_>| {
            phases.run(PRECOPY, |watch| {
                copying.rounds(&writer, resident_bytes, self.nice(), watch, self.observer)
            })
        };
        let mut staging = stage(copying, phases)?;
        rounds(copying, phases)?;
        self.check_pause(copying, after)?;
        if self.staging_room(copying, after) > staging.room_bytes() {
            // Memory takes its time to be had, in which the program writes on.
            drop(staging);
            staging = stage(copying, phases)?;
            rounds(copying, phases)?;
        }
        if after != After::GoesOn {
            // It will stand still while the rest is brought into order.
            writer.settle()?;
        }
        let Held { mut frozen, mut captured, missing, mut stops } =
            self.hold(settings, phases, copying, &writer)?;
        writer.next_round();
        let (copied, elsewhere, shadow) = phases.run(COPY, |watch| {
            let elsewhere = match (self.served, &missing) {
                (Some(served), Some(missing)) => Elsewhere::find(served, missing, &captured)?,
                _ => Elsewhere::default(),
            };
            let held = (&mut frozen, &mut captured);
            let (mut copied, shadow) = self.copy(copying, held, &staging, after, watch)?;
            let elsewhere = elsewhere.beside(&mut copied.pages);
            Ok::<_, CheckpointError>((copied, elsewhere, shadow))
        })?;
        stops.extend(copying.stops().into_iter().map(|stop| ("track", stop)));
        let forked = self.fork(&mut frozen, &captured, recorded, phases)?;
        if after != After::GoesOn {
            let rehearsed = self.rehearse(forked, &captured, phases)?;
            phases.run(ENCODE, |watch| self.encode(&staging, 0, watch))?;
            drop(staging);
            let found = (copied, elsewhere);
            let complete = self.complete(writer, captured, found, chosen, rehearsed);
            self.approximate(&complete, 0, phases)?;
            if after == After::Ends {
                let done = self.publish_and_end(complete, frozen, stops, phases)?;
                self.learn(settings, &done);
                return Ok(Taken { done, standing: None, carried: None });
            }
            self.refer(&complete, phases)?;
            let (mut done, captured, checkpoint) =
                phases.run(PUBLISH, |_| self.publish(complete, stops))?;
            done.safe = phases.elapsed();
            let copying = copying.take();
            let standing = Some(Standing { frozen, captured, copying, checkpoint });
            return Ok(Taken { done, standing, carried: None });
        }
        stops.push(("freeze", phases.run(THAW, |_| Ok::<_, CheckpointError>(frozen.thaw()))?));
        let shadow = self.copy_shadow(shadow, &writer, phases)?;
        let rehearsed = self.rehearse(forked, &captured, phases)?;
        let tracker = copying.tracker().filter(|_| self.keeps_tracking);
        let released = phases.run(RELEASE, |_| {
            Ok::<_, CheckpointError>(match &tracker {
                Some(tracker) => {
                    Some(Released { split: tracker.spare_huge(), ..Released::default() })
                }
                None => copying.take().release(),
            })
        })?;
        if tracker.is_none() {
            stops.extend(released.iter().map(|r| ("release", r.stop.unwrap_or(r.longest))));
        }
        *split = released.map(|released| released.split).unwrap_or_default();
        // The instance runs again: encoding gives way to it.
        phases.run(ENCODE, |watch| self.encode(&staging, 10, watch))?;
        drop(staging);
        let found = (copied, elsewhere);
        let complete = self.complete(writer, captured, found, chosen, rehearsed);
        self.approximate(&complete, 10, phases)?;
        self.refer(&complete, phases)?;
        let copied = tracker.as_ref().map(|_| complete.copied.pages.of(MemoryId::Private(0)));
        let (mut done, ..) = phases.run(PUBLISH, |_| self.publish(complete, stops))?;
        done.safe = phases.elapsed();
        self.learn(settings, &done);
        done.shadow = shadow;
        done.collapse = give_back_huge_pages(&self.found.process, split, self.observer);
        let parent = done.published.id;
        let carried =
            tracker.zip(copied).map(|(tracker, copied)| Carried { tracker, copied, parent });
        Ok(Taken { done, standing: None, carried })
    }

    /// Begins to record what the program receives, when that is asked for.
    fn record(&self, phases: &mut Phases<'_>) -> Result<Option<Recorded>, CheckpointError> {
        let wanted = self.request.rehearse.wanted().and(self.request.record_input);
        let Some(time) = wanted else { return Ok(None) };
        let process = &self.found.process;
        let recorded = phases.run(RECORD, |watch| {
            Recorded::begin(process, time, watch).map_err(CheckpointError::from)
        })?;
        if let Recorded::Not(why) = &recorded {
            self.observer.warn(&format!("what the program receives is not recorded: {why}"));
        }
        Ok(Some(recorded))
    }

    /// Makes a clone of the frozen instance when one is asked for and can pay.
    fn fork(
        &self,
        frozen: &mut Frozen<'_>,
        captured: &Captured,
        recorded: Option<Recorded>,
        phases: &mut Phases<'_>,
    ) -> Result<Option<Forked>, CheckpointError> {
        let Some(wanted) = self.request.rehearse.wanted() else { return Ok(None) };
        let is_served = self.served.is_some();
        phases.run(FORK, |_| Ok(Some(wanted.fork(frozen, captured, recorded, is_served))))
    }

    /// Has the clone run. Whatever becomes of it: the checkpoint does not need it.
    fn rehearse(
        &self,
        forked: Option<Forked>,
        captured: &Captured,
        phases: &mut Phases<'_>,
    ) -> Result<Option<Rehearsed>, CheckpointError> {
        let Some(forked) = forked else { return Ok(None) };
        let process = &self.found.process;
        phases.run(REHEARSE, |watch| Ok(Some(forked.rehearse(process, captured, watch))))
    }

    /// Puts what the program has not got yet.
    pub(super) fn refer(
        &self,
        complete: &Complete,
        phases: &mut Phases<'_>,
    ) -> Result<(), CheckpointError> {
        let Some(served) = self.served else { return Ok(()) };
        phases.run(REFER, |watch| complete.elsewhere.put(served, &complete.writer, watch))
    }

    /// Encodes what is to be encoded with a loss.
    fn approximate(
        &self,
        complete: &Complete,
        nice: i32,
        phases: &mut Phases<'_>,
    ) -> Result<(), CheckpointError> {
        if self.named.is_empty() {
            return Ok(());
        }
        let what = (self.named, &complete.plan);
        phases.run(APPROXIMATE, |watch| {
            lossy::approximate(&complete.writer, what, nice, watch, self.observer)
        })
    }

    /// Hands what was staged on to the writer.
    fn encode(
        &self,
        staging: &Staging<'_>,
        nice: i32,
        watch: &Watch,
    ) -> Result<(), CheckpointError> {
        let total = staging.bytes();
        let done = AtomicU64::new(0);
        let progress = |bytes: u64| {
            let so_far = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.observer.progress(so_far, total);
        };
        Ok(staging.drain(workers(), nice, watch, &progress)?)
    }

    /// Freezes the instance and reads its state. What stood in the way only for that moment (a
    /// child, a file just being read) is let pass, thawed, within the time to wait.
    fn hold(
        &self,
        settings: &Settings,
        phases: &mut Phases<'_>,
        copying: &mut Copying<'_>,
        writer: &CheckpointWriter,
    ) -> Result<Held<'a>, CheckpointError> {
        let until = Instant::now() + settings.wait;
        let mut stops = Vec::new();
        loop {
            let mut frozen = phases.run(FREEZE, |watch| self.freeze(watch))?;
            let (missing, state) = phases.run(STATE, |_| {
                // Before the mappings are looked at: what is complete now is registered no more.
                let missing = self.served.map(Served::missing).transpose()?.flatten();
                let captured = capture::state(&mut frozen, self.survey, &self.found.line);
                Ok::<_, CheckpointError>((missing, captured))
            })?;
            match state {
                Ok(captured) => {
                    refuse_foreign(&captured, missing.as_ref(), self.served)?;
                    lossy::refuse_moved(&captured, self.named, &self.request.lossy)?;
                    return Ok(Held { frozen, captured, missing, stops });
                }
                Err(StateError::Blocked(blockers))
                    if blockers.iter().all(|b| b.transient) && Instant::now() < until =>
                {
                    stops.push(("freeze", frozen.thaw()));
                    self.observer.note(&waiting(&blockers));
                }
                Err(error) => return Err(error.into()),
            }
            let left = until.saturating_duration_since(Instant::now());
            let (process, options) = (&self.found.process, self.options);
            phases.run(LOOK, |watch| look(process, options, left, watch, self.observer))?;
            // It ran on, and wrote.
            let resident_bytes = self.survey.resident_bytes();
            phases.run(PRECOPY, |watch| {
                copying.rounds(writer, resident_bytes, self.nice(), watch, self.observer)
            })?;
        }
    }

    /// How much our threads give way to the program while it runs. One that is going to end is not
    /// kept waiting for that.
    fn nice(&self) -> i32 {
        const NICE: i32 = 19;
        if self.request.stop { 0 } else { NICE }
    }

    fn freeze(&self, watch: &Watch) -> Result<Frozen<'a>, CheckpointError> {
        let process = &self.found.process;
        Ok(process.freeze(self.freeze_options(watch))?)
    }

    fn freeze_options(&self, watch: &Watch) -> FreezeOptions {
        FreezeOptions {
            deadline: watch.deadline(),
            suspend_seccomp: self.survey.has_seccomp_filters(),
        }
    }
}
