//! How an instance's memory is copied: while it runs, or while it stands still.

use std::sync::Arc;
use std::time::Duration;

use capture::{Captured, Left, Means, PageList, Precopy, PrecopyError, Round, StateError, Survey};
use mem::{MemoryId, PageSet};
use store::CheckpointWriter;
use target::{FreezeOptions, Process, Released, TrackError, Tracker};

use super::carried::Carried;
use super::error::CheckpointError;
use super::missing::put_inherited;
use super::shadow::has_room;
use crate::events::Observer;
use crate::phase::Watch;
use crate::settings::workers;

/// What is left to copy is small enough for the freeze: half a millisecond of copying.
const SMALL_BYTES: u64 = 512 << 10;
/// A round that leaves more than this share of the one before is not worth another.
const SHRINKS_TO: (u64, u64) = (4, 5);
/// Rounds after which what is left will not get less.
const ROUNDS_MAX: usize = 12;

/// How the memory is copied.
pub(crate) enum Copying<'p> {
    /// In rounds while it runs; the freeze copies what is left.
    Running { precopy: Box<Precopy<'p>>, rounds: Vec<Round> },
    /// While it stands still.
    Frozen,
}

/// What was copied, all in all.
pub(super) struct Copied {
    /// Every page that holds content.
    pub(super) pages: PageList,
    /// Bytes copied during the freeze.
    pub(super) in_pause_bytes: u64,
}

impl<'p> Copying<'p> {
    /// Begins to track the instance's writes when that can be done, and says why when not.
    pub(super) fn start(
        process: &'p Process,
        freeze: FreezeOptions,
        observer: &dyn Observer,
    ) -> Result<Self, CheckpointError> {
        match Precopy::start(process, freeze) {
            Ok(precopy) => Ok(Self::Running { precopy: Box::new(precopy), rounds: Vec::new() }),
            Err(PrecopyError::Track(cause)) if is_unavailable(&cause) => {
                observer.warn(&format!("the program's writes cannot be tracked: {cause}"));
                Ok(Self::Frozen)
            }
            Err(cause) => Err(cause.into()),
        }
    }

    /// Goes on with tracking that has been at work since a checkpoint, of which only what was written
    /// since is copied when `writer` builds on it.
    pub(super) fn carry_on(
        process: &'p Process,
        freeze: FreezeOptions,
        carried: Carried<'p>,
        writer: &CheckpointWriter,
    ) -> Result<Self, CheckpointError> {
        let is_parent = writer.parent() == Some(carried.parent);
        let copied = match writer.parent_opened() {
            // Where a loss was allowed it may not have what the program has.
            Some(parent) if is_parent => {
                carried.copied.difference(&parent.inexact_pages(MemoryId::Private(0)))
            }
            _ => PageSet::new(),
        };
        let precopy = Precopy::carry_on(process, freeze, carried.tracker, copied)?;
        Ok(Self::Running { precopy: Box::new(precopy), rounds: Vec::new() })
    }

    /// Tells `writer` of the pages that its parent has, as far as they are known to be as they were.
    pub(super) fn inherit(
        &self,
        writer: &CheckpointWriter,
        watch: &Watch,
    ) -> Result<(), CheckpointError> {
        let Self::Running { precopy, .. } = self else { return Ok(()) };
        match writer.parent_opened() {
            Some(parent) => put_inherited(precopy.inherited(), parent, writer, watch),
            None => Ok(()),
        }
    }

    /// Whether there is anything that [`inherit`](Self::inherit) has to tell.
    pub(super) fn inherits(&self) -> bool {
        matches!(self, Self::Running { precopy, .. } if !precopy.inherited().is_empty())
    }

    /// The tracker, for whoever carries on.
    pub(super) fn tracker(&self) -> Option<Arc<Tracker<'p>>> {
        match self {
            Self::Running { precopy, .. } => Some(Arc::clone(precopy.tracker())),
            Self::Frozen => None,
        }
    }

    /// Copies rounds to `writer` until little is left or it stops shrinking, with threads of nice
    /// value `nice`.
    pub(super) fn rounds(
        &mut self,
        writer: &CheckpointWriter,
        total_bytes: u64,
        nice: i32,
        watch: &Watch,
        observer: &dyn Observer,
    ) -> Result<(), CheckpointError> {
        let Self::Running { precopy, rounds } = self else { return Ok(()) };
        loop {
            let is_first = rounds.is_empty();
            let stop = |done: u64| -> Option<String> {
                if is_first {
                    observer.progress(done, total_bytes.max(done));
                }
                watch.check().err().map(|stopped| stopped.to_string())
            };
            writer.next_round();
            let round = precopy.round(writer, workers(), nice, &stop);
            let round = round.map_err(|cause| given_up(watch, cause.into()))?;
            tracing::debug!(bytes = round.copied_bytes, took = ?round.took, "copied while running");
            rounds.push(round);
            if is_enough(rounds) {
                return Ok(());
            }
        }
    }

    /// Bytes that the freeze will have to copy, as far as the last rounds tell.
    pub(super) fn expected_bytes(&self, resident_bytes: u64) -> u64 {
        match self {
            Self::Running { rounds, precopy } => {
                let stop = precopy.stops().iter().max().copied().unwrap_or_default();
                written_meanwhile(rounds, stop).min(resident_bytes)
            }
            Self::Frozen => resident_bytes,
        }
    }

    /// How long a freeze takes to copy `bytes`, of which `staged_bytes` can be put aside, as far as the
    /// rounds tell.
    pub(super) fn copy_time(&self, bytes: u64, staged_bytes: u64) -> Duration {
        let rounds = match self {
            Self::Running { rounds, .. } => rounds.as_slice(),
            Self::Frozen => &[],
        };
        let staged = bytes.min(staged_bytes);
        copy_time(rounds, staged, workers()) + encode_time(rounds, bytes - staged)
    }

    /// Whether the program's writes are tracked.
    pub(super) fn is_tracked(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// Finds what is left to copy of the frozen instance.
    pub(super) fn left(&mut self, captured: &mut Captured) -> Result<Left, CheckpointError> {
        match self {
            Self::Running { precopy, .. } => {
                let left = precopy.left(&captured.memory, workers())?;
                captured.set_guards(&left.guards).map_err(StateError::from)?;
                Ok(left)
            }
            Self::Frozen => {
                captured.find_guards().map_err(StateError::from)?;
                let pages = capture::pages(&captured.memory)?;
                Ok(Left { list: pages.clone(), pages, ..Left::default() })
            }
        }
    }

    /// The stops of the instance that tracking took.
    pub(super) fn stops(&self) -> Vec<Duration> {
        match self {
            Self::Running { precopy, .. } => precopy.stops().to_vec(),
            Self::Frozen => Vec::new(),
        }
    }

    /// What is at work, for whoever goes on with it or ends it. Nothing is left.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Frozen)
    }

    /// Ends the tracking of a program of which no checkpoint comes.
    pub(super) fn give_up(&mut self) -> Option<Released> {
        match self.take() {
            Self::Running { precopy, .. } => Some(precopy.give_up()),
            Self::Frozen => None,
        }
    }

    /// Ends the tracking.
    pub(crate) fn release(self) -> Option<Released> {
        match self {
            Self::Running { precopy, .. } => Some(precopy.release()),
            Self::Frozen => None,
        }
    }
}

/// A copy that was stopped because time was up, or the user interrupted, failed for that reason.
pub(super) fn given_up(watch: &Watch, error: CheckpointError) -> CheckpointError {
    match watch.check() {
        Err(stopped) => stopped.into(),
        Ok(()) => error,
    }
}

/// What the program writes between the last look and its standing still, which takes about as
/// long as the `stop` before: what the last round found was written while the one before copied.
fn written_meanwhile(rounds: &[Round], stop: Duration) -> u64 {
    let Some(last) = rounds.last() else { return 0 };
    let Some(before) = rounds.iter().rev().nth(1) else { return last.copied_bytes };
    let (stop, took) = (stop.as_micros(), before.took.as_micros().max(1));
    let longer = u64::try_from(stop.div_ceil(took)).unwrap_or(u64::MAX);
    last.copied_bytes.saturating_mul(longer.max(1))
}

/// How long `workers` threads take to read `bytes` and put them aside, which takes about as long again,
/// at the speed of `rounds`. Where nothing was read yet, at that of a slow machine.
fn copy_time(rounds: &[Round], bytes: u64, workers: usize) -> Duration {
    const NS_PER_KIB: u64 = 1_000_000 / 1024;
    let read: u64 = rounds.iter().map(|round| round.copied_bytes).sum();
    let reading: Duration = rounds.iter().map(|round| round.reading).sum();
    if read < SMALL_BYTES {
        return Duration::from_nanos((bytes >> 10).saturating_mul(NS_PER_KIB));
    }
    let threads = u128::try_from(workers.max(1)).unwrap_or(1);
    let ns = 2 * reading.as_nanos() * u128::from(bytes) / u128::from(read) / threads;
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// How long it takes to encode and write `bytes` as well, at the speed of the first of `rounds`, which
/// copied most.
fn encode_time(rounds: &[Round], bytes: u64) -> Duration {
    const NS_PER_KIB: u64 = 4_000_000 / 1024;
    let slow = Duration::from_nanos((bytes >> 10).saturating_mul(NS_PER_KIB));
    let Some(first) = rounds.first().filter(|r| r.copied_bytes >= SMALL_BYTES) else { return slow };
    let ns = first.took.as_nanos() * u128::from(bytes) / u128::from(first.copied_bytes);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Whether another round would not make the freeze shorter.
fn is_enough(rounds: &[Round]) -> bool {
    let Some(last) = rounds.last() else { return false };
    if last.copied_bytes <= SMALL_BYTES {
        return true;
    }
    let Some(before) = rounds.iter().rev().nth(1) else { return false };
    let (share, of) = SHRINKS_TO;
    rounds.len() >= ROUNDS_MAX
        || last.copied_bytes.saturating_mul(of) > before.copied_bytes.saturating_mul(share)
}

/// Whether a failure says that tracking is not to be had, and nothing else.
fn is_unavailable(cause: &TrackError) -> bool {
    use sys::userfault::UserfaultError;
    matches!(cause, TrackError::Session(session) if session.is_by_the_program())
        || matches!(
            cause,
            TrackError::Userfault(
                UserfaultError::Unsupported { .. } | UserfaultError::Handshake(_)
            ) | TrackError::Pagemap(sys::pagemap::PagemapError::Unsupported)
        )
}

/// How a program is copied whose writes cannot be tracked, when it cannot be forked either.
pub(super) const STANDS_STILL: &str = "its memory is copied while the program stands still";

/// What `check` says beforehand of how the memory of a program would be copied, which is still being
/// loaded by an earlier resume when it `is_served`, and may be forked when it `goes_on` afterwards.
pub(crate) fn forecast(
    process: &Process,
    survey: &Survey,
    is_served: bool,
    goes_on: bool,
) -> String {
    use sys::userfault::{Features, Kind, Userfault};
    if is_served {
        return format!("{STANDS_STILL}: an earlier resume has not loaded all of it yet");
    }
    let means = match Means::of(process) {
        Ok(means) => means,
        Err(cause) => return format!("how its memory is copied cannot be told: {cause}"),
    };
    let untracked = match Userfault::try_ourselves(Kind::UserModeOnly, Features::TRACK_WRITES) {
        Err(cause) => Some(cause.to_string()),
        Ok(()) if means.has_free_descriptor => None,
        Ok(()) => Some("it has no free descriptor, which tracking its writes takes".to_owned()),
    };
    let (bytes, cgroups) = (survey.resident_bytes(), survey.cgroups());
    let may_fork = goes_on && !survey.leads_namespace();
    let mut text = match untracked {
        None => "its memory is copied while the program runs".to_owned(),
        Some(cause) if may_fork && has_room(bytes, cgroups) => {
            format!("the program is forked, and its memory copied from the fork: {cause}")
        }
        Some(cause) => return format!("{STANDS_STILL}: {cause}"),
    };
    if means.reads_directly && means.has_free_descriptor {
        text.push_str(
            "; it reads files around the page cache (O_DIRECT), so that it is stopped for a \
             millisecond again and again meanwhile",
        );
    }
    if survey.shared_bytes() > 0 {
        let megabytes = survey.shared_bytes().div_ceil(1 << 20);
        text.push_str(&format!("; {megabytes} MB of shared memory while it stands still"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(bytes: &[u64]) -> Vec<Round> {
        bytes.iter().map(|b| Round { copied_bytes: *b, ..Round::default() }).collect()
    }

    #[test]
    fn what_is_left_grows_with_the_stop() {
        let round = |copied_bytes, ms| {
            let took = Duration::from_millis(ms);
            Round { copied_bytes, took, ..Round::default() }
        };
        let stop = Duration::from_millis(10);
        assert_eq!(written_meanwhile(&[], stop), 0);
        assert_eq!(written_meanwhile(&[round(9000, 5)], stop), 9000);
        assert_eq!(written_meanwhile(&[round(9000, 100), round(500, 3)], stop), 500);
        assert_eq!(written_meanwhile(&[round(9000, 2), round(500, 3)], stop), 2500);
    }

    #[test]
    fn the_last_copy_is_as_fast_as_the_rounds() {
        let round = |copied_bytes, ms| {
            let reading = Duration::from_millis(ms);
            Round { copied_bytes, reading, ..Round::default() }
        };
        let rounds = [round(900 << 20, 300), round(100 << 20, 100)];
        assert_eq!(copy_time(&rounds, 100 << 20, 2), Duration::from_millis(40));
        assert_eq!(copy_time(&rounds, 0, 2), Duration::ZERO);
        let slow = copy_time(&[], 64 << 20, 2);
        assert!((Duration::from_millis(60)..Duration::from_millis(70)).contains(&slow), "{slow:?}");
    }

    #[test]
    fn what_cannot_be_put_aside_is_encoded() {
        let took = Duration::from_secs(3);
        let rounds = [Round { copied_bytes: 900 << 20, took, ..Round::default() }];
        assert_eq!(encode_time(&rounds, 300 << 20), Duration::from_secs(1));
        assert_eq!(encode_time(&rounds, 0), Duration::ZERO);
        assert!(encode_time(&[], 300 << 20) > Duration::from_secs(1));
    }

    #[test]
    fn rounds_go_on_while_they_shrink() {
        assert!(!is_enough(&rounds(&[1 << 30])));
        assert!(!is_enough(&rounds(&[1 << 30, 1 << 28])));
        assert!(!is_enough(&rounds(&[1 << 30, 1 << 28, 1 << 26])));
        assert!(is_enough(&rounds(&[1 << 30, 1 << 28, 1 << 18])));
        assert!(is_enough(&rounds(&[1 << 30, (1 << 30) - 1])));
        assert!(is_enough(&rounds(&[1 << 30, 1 << 29, 1 << 29])));
        assert!(is_enough(&rounds(&[0])));
    }
}
