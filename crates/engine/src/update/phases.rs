//! The phases of `update` that are its own; before them come those of a checkpoint.

use std::time::Duration;

use crate::phase::Phase;

pub(super) const SURROUNDINGS: Phase = Phase {
    name: "surroundings",
    limit: Duration::from_secs(10),
    undo: "nothing to undo: it is tried on a child of ours, which ends",
};
pub(super) const HEADROOM: Phase = Phase {
    name: "headroom",
    limit: Duration::from_secs(10),
    undo: "nothing to undo: the host is only looked at",
};
pub(super) const OPEN: Phase = Phase {
    name: "open",
    limit: Duration::from_secs(60),
    undo: "every thread of the old process is let go; its checkpoint stays",
};
pub(super) const BUILD: Phase = Phase {
    name: "build",
    limit: Duration::from_secs(60),
    undo: "the new process is ended, every thread of the old one is let go",
};
pub(super) const COMPARE: Phase = Phase {
    name: "compare",
    limit: Duration::from_secs(60),
    undo: "the new process is ended, every thread of the old one is let go",
};
pub(super) const PREPARE: Phase = Phase {
    name: "prepare-commit",
    limit: Duration::from_secs(10),
    undo: "the new process is ended, every thread of the old one is let go",
};
pub(super) const COMMIT: Phase = Phase {
    name: "commit",
    limit: Duration::from_secs(10),
    undo: "before its one byte is written everything is undone, after it nothing is",
};
/// When the program runs already; a failure is only told.
pub(super) const ARRANGE: Phase = Phase {
    name: "arrange",
    limit: Duration::from_secs(600),
    undo: "nothing to undo: where pages lie and how large they are changes no content",
};
/// Not run as a phase: from here on there is no way back, and nothing that could stop it.
pub(super) const LET_GO: &str = "let-go";
/// The checkpoint is synced when the new process runs: a failure is only told.
pub(super) const SYNC: &str = "sync";
/// How long the old process may take to end before the new one runs all the same.
pub(super) const END_LIMIT: Duration = Duration::from_secs(10);
/// How long the agent of an update that was only tried may take to end.
pub(super) const AGENT_LIMIT: Duration = Duration::from_secs(10);
