//! How long the program will stand still, what is done about that, and the last copy.

use std::time::{Duration, Instant};

use capture::Captured;
use mem::{MemoryId, PAGE_SIZE};
use store::CheckpointWriter;
use target::Frozen;

use super::copying::{Copied, Copying, STANDS_STILL, given_up};
use super::error::CheckpointError;
use super::phases::SHADOW;
use super::shadow::{Shadow, ShadowChoice, fork_time, has_room, is_better};
use super::take::{After, Run};
use crate::phase::{Phases, Watch};
use crate::report::ShadowReport;
use crate::settings::workers;
use crate::staging::Staging;

/// What everything but the last copy takes of the pause.
const STATE: Duration = Duration::from_millis(10);
/// A pause that is worth a word beforehand.
const LONG: Duration = Duration::from_millis(50);
/// Staging memory for what is known to be little.
const LEAST_BYTES: u64 = 32 << 20;
/// The most of it for a program that was copied while it ran: memory of ours stays within bounds.
const MOST_BYTES: u64 = 6 * LEAST_BYTES;

const NOT_FORKED: &str = "the program was not forked: it has to go on, to have all of its memory, not to be \
                          the first process of its pid namespace, and the host to have room for its \
                          memory twice";

impl Run<'_, '_> {
    /// Says how long the freeze will be when it will be long, and refuses one that is longer than
    /// was allowed.
    pub(super) fn check_pause(
        &self,
        copying: &Copying<'_>,
        after: After,
    ) -> Result<(), CheckpointError> {
        let is_forked = self.expects_shadow(copying, after);
        let expected = STATE
            + match is_forked {
                true => self.expected_fork(),
                false => self.expected_copy(copying),
            };
        let expected_ms = expected.as_millis();
        if let Some(max) = self.request.max_pause
            && !self.request.stop
            && max < expected
        {
            return Err(CheckpointError::TooBusy { max_ms: max.as_millis(), expected_ms });
        }
        // Why is told before where writes are not tracked.
        let why = match copying.is_tracked() {
            true => "the program writes its memory as fast as it can be copied: ",
            false => "",
        };
        if is_forked && self.request.shadow == ShadowChoice::Auto {
            self.observer.warn(&format!(
                "{why}it will stand still for about {expected_ms} ms to be forked, and be copied from \
                 the fork"
            ));
        } else if !is_forked && !copying.is_tracked() && self.served.is_none() {
            self.observer.warn(STANDS_STILL);
        } else if !is_forked && expected > LONG && copying.is_tracked() {
            self.observer.warn(&format!("{why}it will stand still for about {expected_ms} ms"));
        }
        Ok(())
    }

    /// How long the last copy will take, as far as the rounds tell.
    fn expected_copy(&self, copying: &Copying<'_>) -> Duration {
        let expected = copying.expected_bytes(self.survey.resident_bytes());
        let staged = if copying.is_tracked() { MOST_BYTES } else { u64::MAX };
        copying.copy_time(expected, staged)
    }

    fn expected_fork(&self) -> Duration {
        fork_time(self.survey.resident_bytes() / PAGE_SIZE)
    }

    /// Whether the program is likely to be forked in its pause.
    fn expects_shadow(&self, copying: &Copying<'_>, after: After) -> bool {
        self.may_fork(after) && {
            let allowed = self.request.max_pause.map(|max| max.saturating_sub(STATE));
            self.wants_fork(self.expected_copy(copying), self.expected_fork(), allowed)
                && has_room(self.survey.resident_bytes(), self.survey.cgroups())
        }
    }

    /// Whether the program goes on, has all of its memory, and nobody else's orphans.
    fn may_fork(&self, after: After) -> bool {
        after == After::GoesOn
            && self.request.shadow != ShadowChoice::Off
            && self.served.is_none()
            && !self.survey.leads_namespace()
    }

    fn wants_fork(&self, copy: Duration, fork: Duration, allowed: Option<Duration>) -> bool {
        self.request.shadow == ShadowChoice::On || is_better(copy, fork, allowed)
    }

    /// Staging memory for what the freeze will copy, several times over when that is little, if
    /// it leaves the host a tenth of what it has.
    pub(super) fn staging_room(&self, copying: &Copying<'_>, after: After) -> Option<u64> {
        // To have it takes longer than to read what is known to be little.
        let least = if copying.inherits() { 4 << 20 } else { LEAST_BYTES };
        let expected = copying.expected_bytes(self.survey.resident_bytes());
        let wanted = match copying {
            _ if self.expects_shadow(copying, after) => least,
            Copying::Running { .. } => (expected * 4).clamp(least, MOST_BYTES),
            Copying::Frozen if after != After::GoesOn => return None,
            Copying::Frozen => expected + expected / 16 + LEAST_BYTES,
        };
        let available = crate::host::memory_available_bytes()?;
        if wanted <= available - available / 10 {
            return Some(wanted);
        }
        self.observer.warn(
            "too little free memory to stage the program's memory: it stands still until all of \
             it is written",
        );
        None
    }

    /// Copies what is left of the frozen instance, or forks it to have the most of that copied
    /// afterwards.
    pub(super) fn copy(
        &self,
        copying: &mut Copying<'_>,
        (frozen, captured): (&mut Frozen<'_>, &mut Captured),
        staging: &Staging<'_>,
        after: After,
        watch: &Watch,
    ) -> Result<(Copied, Option<Shadow>), CheckpointError> {
        let mut left = copying.left(captured).map_err(|error| given_up(watch, error))?;
        let limit = self.request.max_pause.map(|max| frozen.since() + max);
        let fork = fork_time(left.pages.of(MemoryId::Private(0)).count().0);
        let copy = copying.copy_time(left.list.bytes(), staging.room_bytes().unwrap_or(0));
        let allowed = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        let is_forked = self.may_fork(after)
            && self.wants_fork(copy, fork, allowed)
            && has_room(left.pages.bytes(), self.survey.cgroups());
        let shadow = match is_forked {
            true => Shadow::take(frozen, captured, &mut left)
                .inspect_err(|why| {
                    self.observer.warn(&format!(
                        "the program cannot be forked: {why}; it stands still until it is copied"
                    ));
                })
                .ok(),
            false => None,
        };
        if shadow.is_none() && self.request.shadow == ShadowChoice::On {
            self.observer.warn(NOT_FORKED);
        }
        let total = left.list.bytes();
        let stop = |done: u64| -> Option<String> {
            self.observer.progress(done, total.max(done));
            if limit.is_some_and(|limit| Instant::now() >= limit) {
                return Some("the program stood still for longer than --max-pause".to_owned());
            }
            watch.check().err().map(|stopped| stopped.to_string())
        };
        let copied = capture::copy(&captured.memory, &left.list, staging, workers(), &stop);
        let copied = copied.map_err(|error| given_up(watch, error.into()))?;
        Ok((Copied { pages: left.pages, in_pause_bytes: copied.bytes }, shadow))
    }

    /// Copies from the fork while the instance runs.
    pub(super) fn copy_shadow(
        &self,
        shadow: Option<Shadow>,
        writer: &CheckpointWriter,
        phases: &mut Phases<'_>,
    ) -> Result<Option<ShadowReport>, CheckpointError> {
        /// The longer it lives the more the program pays for it.
        const NICE: i32 = 10;
        let Some(shadow) = shadow else { return Ok(None) };
        let total = shadow.bytes();
        phases.run(SHADOW, |watch| {
            let stop = |done: u64| -> Option<String> {
                self.observer.progress(done, total.max(done));
                watch.check().err().map(|stopped| stopped.to_string())
            };
            let copied = shadow.copy(writer, workers(), NICE, &stop);
            copied.map(Some).map_err(|error| given_up(watch, error.into()))
        })
    }
}
