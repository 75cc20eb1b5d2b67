//! An instance's state as plain values: a graph of task groups, threads, address spaces, shared
//! objects, descriptor tables, open file descriptions, credentials, namespaces and terminals.
//!
//! Nodes that several others share (a descriptor table, an open file description, a memfd) stand
//! in a table of [`Instance`] and are referred to by typed index, so that sharing survives a
//! round trip. One task group now; process trees later are more rows in the same tables.
//!
//! This room knows no kernel and no format: `capture` fills these values, `image` writes them
//! down, `resume` builds a process from them. What kinds of state exist is listed once, in
//! [`StateKind`]; `capture` refuses what is not on that list. Read next: [`Instance`].
#![forbid(unsafe_code)]

mod blocker;
mod files;
mod graph;
mod host;
mod identity;
mod kinds;
mod security;
mod signals;
mod sockets;
mod space;
mod thread;
mod timers;

pub use blocker::{Blocker, Change, ChangeKind};
pub use files::{
    Description, DescriptionId, DescriptionKind, Descriptor, DescriptorTable, EpollInterest,
    FileLock, FileLockKind, Pipe, PipeEnd, PipeId, RegularFile, TimerFd, hear_signals,
};
pub use graph::{CredentialsId, Instance, NamespacesId, SpaceId, TableId, TaskGroup, TerminalId};
pub use host::{Clocks, Host};
pub use identity::{InstanceId, LineIdentity};
pub use kinds::{StateKind, Support};
pub use security::{
    Capabilities, Credentials, Namespace, NamespaceKind, Namespaces, SeccompFilter,
};
pub use signals::{QueuedSignal, SignalAction, SignalSet};
pub use sockets::{Socket, SocketAddress, SocketFamily, SocketOption, SocketState, SocketType};
pub use space::{AddressSpace, MmLayout, SharedObject, SharedObjectKind};
pub use thread::{AlternateStack, GeneralRegisters, RobustList, Rseq, Scheduling, Thread};
pub use timers::{IntervalTimer, PosixTimer, PosixTimerNotify, TimerSetting};

/// A terminal an instance has as its controlling terminal or holds descriptors of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// The device number, `tty_nr` of `proc_pid_stat(5)`.
    pub device: u64,
    /// The path it was opened by, such as `/dev/pts/3`.
    pub path: Vec<u8>,
}
