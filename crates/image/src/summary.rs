//! What `list` and `inspect` show of a checkpoint without looking at the instance.

use std::collections::BTreeMap;

use process::Change;

use crate::CheckpointId;

/// How a checkpoint came about and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `CLOCK_REALTIME` at the freeze, in nanoseconds since the epoch.
    pub created_ns: u64,
    /// Version of the program that made it.
    pub tool_version: String,
    /// The checkpoint it was made relative to.
    pub parent: Option<CheckpointId>,
    /// Whether the instance was to be ended after the publishing (`--stop`).
    pub stopped: bool,
    /// The command line, `/proc/PID/cmdline` split at its NULs.
    pub command: Vec<Vec<u8>>,
    /// What is different after the operation.
    pub changes: Vec<Change>,
    /// Measured figures by the names of the JSON contract: `pause_us`, `resident_bytes`, ...
    pub figures: BTreeMap<String, u64>,
}
