//! What stands in the way of an operation, and what it would change.

use crate::StateKind;

/// One reason why an instance cannot be checkpointed, resumed or updated as it is. All of them
/// are collected before anything is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The kind of state it is about.
    pub kind: StateKind,
    /// The object: "descriptor 7 (io_uring)", "thread 4711".
    pub object: String,
    /// Who holds or causes it; empty when that is the instance itself.
    pub holder: String,
    /// What would lift it: a flag, a command, a change in the program.
    pub lift: String,
    /// Whether it usually passes by itself, so that waiting helps (`--wait`).
    pub transient: bool,
}

/// What kind of difference the program could notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The session or process group, or what job control made of it, will be another one.
    Session,
    /// The parent will be another process, or sees an exit.
    Parent,
    /// A connection is closed.
    Connection,
    /// The pid differs outside, `/proc` is mounted anew.
    PidNamespace,
    /// A timer starts over.
    Timer,
    /// A descriptor is provided from outside, or shared with a process outside no longer.
    Descriptor,
    /// The cgroup, affinity, a limit or a setting of the kernel's is not kept.
    Placement,
}

/// Something that will be, or was, different after the operation although nothing blocks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of difference.
    pub kind: ChangeKind,
    /// The object and the difference in one sentence.
    pub what: String,
}
