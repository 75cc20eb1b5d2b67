//! The phases of `checkpoint`: names, limits, undos.

use std::time::Duration;

use crate::phase::Phase;

pub(crate) const LOOK: Phase = Phase {
    name: "look",
    limit: Duration::from_secs(600),
    undo: "nothing to undo: the instance is only looked at",
};
/// Ranges in which a loss is allowed are looked up.
pub(super) const NAME: Phase = Phase {
    name: "name",
    limit: Duration::from_secs(120),
    undo: "nothing to undo: the instance is only looked at",
};
pub(super) const PREPARE: Phase = Phase {
    name: "prepare",
    limit: Duration::from_secs(120),
    undo: "the unpublished checkpoint is removed",
};
pub(super) const TWINS: Phase = Phase {
    name: "twins",
    limit: Duration::from_secs(600),
    undo: "the unpublished checkpoint is removed; the instance is only looked at",
};
pub(super) const PLAN: Phase = Phase {
    name: "plan",
    limit: Duration::from_secs(120),
    undo: "the unpublished checkpoint is removed; the instance is only looked at",
};
/// What the program receives is recorded.
pub(super) const RECORD: Phase = Phase {
    name: "record",
    limit: Duration::from_secs(600),
    undo: "the recording ends and is forgotten, the unpublished checkpoint is removed",
};
pub(super) const TRACK: Phase = Phase {
    name: "track",
    limit: Duration::from_secs(30),
    undo: "the tracking ends with its descriptor, which the instance does not hold",
};
pub(super) const INHERIT: Phase = Phase {
    name: "inherit",
    limit: Duration::from_secs(600),
    undo: "the tracking ends, the unpublished checkpoint is removed",
};
pub(super) const PRECOPY: Phase = Phase {
    name: "precopy",
    limit: Duration::from_secs(3600),
    undo: "the tracking ends, the unpublished checkpoint is removed",
};
pub(super) const STAGE: Phase = Phase {
    name: "stage",
    limit: Duration::from_secs(120),
    undo: "the staging memory is given back",
};
pub(super) const FREEZE: Phase =
    Phase { name: "freeze", limit: Duration::from_secs(10), undo: "every thread is let go" };
pub(super) const STATE: Phase = Phase {
    name: "state",
    limit: Duration::from_secs(30),
    undo: "injected calls restore themselves, every thread is let go",
};
pub(super) const COPY: Phase = Phase {
    name: "copy",
    limit: Duration::from_secs(3600),
    undo: "every thread is let go, what was copied is dropped",
};
/// A clone is made of the frozen instance.
pub(super) const FORK: Phase = Phase {
    name: "fork",
    limit: Duration::from_secs(30),
    undo: "the clone is ended, every thread is let go, what was copied is dropped",
};
/// What was left to copy is copied from a fork.
pub(super) const SHADOW: Phase = Phase {
    name: "shadow",
    limit: Duration::from_secs(3600),
    undo: "the fork is ended, the unpublished checkpoint is removed",
};
/// The clone runs.
pub(super) const REHEARSE: Phase = Phase {
    name: "rehearse",
    limit: Duration::from_secs(60),
    undo: "the clone is ended, the unpublished checkpoint is removed",
};
pub(super) const THAW: Phase = Phase {
    name: "thaw",
    limit: Duration::from_secs(10),
    undo: "nothing to undo: the instance runs",
};
pub(super) const RELEASE: Phase = Phase {
    name: "release",
    limit: Duration::from_secs(60),
    undo: "the tracking ends with its descriptor",
};
pub(super) const ENCODE: Phase = Phase {
    name: "encode",
    limit: Duration::from_secs(3600),
    undo: "the unpublished checkpoint is removed",
};
/// What was named is encoded with its loss.
pub(super) const APPROXIMATE: Phase = Phase {
    name: "approximate",
    limit: Duration::from_secs(3600),
    undo: "the unpublished checkpoint is removed",
};
pub(super) const SYNC: Phase = Phase {
    name: "sync-files",
    limit: Duration::from_secs(600),
    undo: "every thread is let go, the unpublished checkpoint is removed",
};
pub(super) const PUBLISH: Phase = Phase {
    name: "publish",
    limit: Duration::from_secs(600),
    undo: "the unpublished checkpoint is removed; once renamed it is whole and stays",
};
pub(super) const END: Phase = Phase {
    name: "end",
    limit: Duration::from_secs(60),
    undo: "none: the checkpoint is published, the instance is ended",
};
/// The ended program's pid becomes free.
pub(super) const REAP: Phase = Phase {
    name: "reap",
    limit: Duration::from_secs(10),
    undo: "none: the checkpoint is published, the instance is ended",
};
/// Who serves pages that an earlier resume has not loaded yet.
pub(crate) const BORROW: Phase = Phase {
    name: "borrow",
    limit: Duration::from_secs(60),
    undo: "nothing to undo: the fault server is only asked",
};
/// Pages that the program has not got yet are referred to.
pub(super) const REFER: Phase = Phase {
    name: "refer",
    limit: Duration::from_secs(3600),
    undo: "the unpublished checkpoint is removed",
};
