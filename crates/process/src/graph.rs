//! The graph: every table of an instance, and the task group that points into them.

use crate::{
    AddressSpace, Credentials, Description, DescriptorTable, Host, IntervalTimer, LineIdentity,
    Namespaces, Pipe, PosixTimer, QueuedSignal, SharedObject, SignalAction, Socket, Terminal,
    Thread,
};

macro_rules! index {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {
        $(#[$doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);)+
    };
}
pub(crate) use index;

index!(
    /// Index into [`Instance::spaces`]; also the number in `mem::MemoryId::Private`.
    SpaceId,
    /// Index into [`Instance::tables`].
    TableId,
    /// Index into [`Instance::credentials`].
    CredentialsId,
    /// Index into [`Instance::namespaces`].
    NamespacesId,
    /// Index into [`Instance::terminals`].
    TerminalId,
);

/// Everything about an instance but the bytes of its pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    /// Which instance this is, and which run of it.
    pub line: LineIdentity,
    /// The host it was captured on, as far as the instance can tell hosts apart.
    pub host: Host,
    /// The task groups (processes); exactly one for now.
    pub groups: Vec<TaskGroup>,
    /// The address spaces.
    pub spaces: Vec<AddressSpace>,
    /// The shared objects (memfds, POSIX shared memory, shared anonymous memory); the index is
    /// the number in `mem::MemoryId::Shared` and `mem::Backing::SharedObject`.
    pub objects: Vec<SharedObject>,
    /// The descriptor tables.
    pub tables: Vec<DescriptorTable>,
    /// The open file descriptions; several descriptors may share one.
    pub descriptions: Vec<Description>,
    /// The pipes; each has up to two kinds of descriptions as its ends.
    pub pipes: Vec<Pipe>,
    /// The sockets.
    pub sockets: Vec<Socket>,
    /// The sets of credentials.
    pub credentials: Vec<Credentials>,
    /// The sets of namespaces.
    pub namespaces: Vec<Namespaces>,
    /// The terminals.
    pub terminals: Vec<Terminal>,
}

/// A process: threads that share signal actions, timers and most of the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskGroup {
    /// The pid as the instance sees it (in its innermost pid namespace).
    pub pid: i32,
    /// The pid in the namespace of whoever captured it.
    pub pid_outside: i32,
    /// The parent's pid as the instance sees it; 0 when the parent is outside its namespace.
    pub parent_pid: i32,
    /// The process group, as the instance sees it.
    pub process_group: i32,
    /// The session, as the instance sees it.
    pub session: i32,
    /// The controlling terminal.
    pub terminal: Option<TerminalId>,
    /// The threads; the first is the leader (`tid == pid`).
    pub threads: Vec<Thread>,
    /// The address space.
    pub space: SpaceId,
    /// The descriptor table.
    pub table: TableId,
    /// The credentials when every thread has the same ones; threads that differ are a blocker.
    pub credentials: CredentialsId,
    /// The namespaces.
    pub namespaces: NamespacesId,
    /// What each signal does; index 0 is signal 1, index 63 is signal 64.
    pub signal_actions: Vec<SignalAction>,
    /// Signals that wait for the whole group, oldest first.
    pub pending_signals: Vec<QueuedSignal>,
    /// `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF`, in this order (setitimer(2)).
    pub interval_timers: [IntervalTimer; 3],
    /// Timers made by timer_create(2).
    pub posix_timers: Vec<PosixTimer>,
    /// Path of the executable, `/proc/PID/exe`.
    pub exe: Vec<u8>,
    /// Current directory, `/proc/PID/cwd`.
    pub cwd: Vec<u8>,
    /// Root directory, `/proc/PID/root`.
    pub root: Vec<u8>,
    /// umask(2).
    pub umask: u32,
    /// personality(2).
    pub personality: u32,
    /// Soft and hard limits by `RLIMIT_*` number, 0 to 15; `u64::MAX` is `RLIM_INFINITY`.
    pub rlimits: Vec<(u64, u64)>,
    /// `PR_GET_DUMPABLE`: 0, 1 or 2.
    pub dumpable: u32,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: i32,
    /// `/proc/PID/coredump_filter`: which mappings a core dump would hold (core(5)).
    pub coredump_filter: u32,
    /// `PR_GET_CHILD_SUBREAPER`.
    pub child_subreaper: bool,
    /// `PR_GET_THP_DISABLE`.
    pub thp_disable: bool,
    /// The signal it would get when stopped on exit of its parent's thread
    /// (`PR_GET_PDEATHSIG` of the leader); 0 is none.
    pub parent_death_signal: i32,
    /// What its parent gets when it ends; 17 (`SIGCHLD`) for ordinary processes.
    pub exit_signal: i32,
    /// Path of its cgroup in each hierarchy, the lines of `/proc/PID/cgroup`.
    pub cgroups: Vec<Vec<u8>>,
    /// The LSM label (`/proc/PID/attr/current`); empty when there is none.
    pub lsm_label: Vec<u8>,
    /// Whether it is stopped by job control (`SIGSTOP` and its kin, signal(7)).
    pub is_stopped: bool,
}
