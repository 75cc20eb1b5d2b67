//! What all verbs' errors have in common: an exit code, the state of the instance, the reasons.

use std::error::Error;

use crate::report::{BlockerReport, FailureReport, Outcome};

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitClass {
    /// 0: done.
    Done,
    /// 1: unexpected.
    Unexpected,
    /// 2: the command line makes no sense, or names something that does not exist.
    Usage,
    /// 3: refused because of blockers; nothing was touched.
    Blocked,
    /// 4: host, file or format do not fit.
    Incompatible,
    /// 5: a checksum failed.
    Damaged,
    /// 6: a permission or a kernel feature is missing.
    NotPermitted,
    /// 7: failed and rolled back.
    RolledBack,
    /// 8: timed out and rolled back.
    TimedOut,
    /// 9: the target is gone. Never expected.
    Lost,
    /// 10: part of it was done.
    Partial,
}

impl ExitClass {
    /// The process exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::Blocked => 3,
            Self::Incompatible => 4,
            Self::Damaged => 5,
            Self::NotPermitted => 6,
            Self::RolledBack => 7,
            Self::TimedOut => 8,
            Self::Lost => 9,
            Self::Partial => 10,
        }
    }
}

/// An error of a verb.
pub trait VerbError: Error {
    /// Which exit code it means.
    fn class(&self) -> ExitClass;

    /// The state the instance is in.
    fn outcome(&self) -> Outcome;

    /// Every reason, when it is a refusal.
    fn blockers(&self) -> Vec<BlockerReport> {
        Vec::new()
    }

    /// The JSON object for it.
    fn report(&self) -> FailureReport {
        FailureReport {
            schema: "rekindle.failure/1",
            outcome: self.outcome(),
            error: format!("failed to {self}"),
            blockers: self.blockers(),
            changed: Vec::new(),
        }
    }
}
