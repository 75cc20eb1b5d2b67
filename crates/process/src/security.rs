//! Credentials and namespaces: taken literally before the first instruction, or a blocker.

/// credentials(7), capabilities(7), of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective, saved and file-system user id.
    pub uids: [u32; 4],
    /// Real, effective, saved and file-system group id.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The five capability sets.
    pub capabilities: Capabilities,
    /// `PR_GET_SECUREBITS`.
    pub securebits: u32,
    /// `PR_GET_NO_NEW_PRIVS` of the leader.
    pub no_new_privs: bool,
    /// Seccomp filters, the oldest first; the same for every thread, else a blocker.
    pub seccomp_filters: Vec<SeccompFilter>,
}

/// capabilities(7), one bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `CapInh`.
    pub inheritable: u64,
    /// `CapPrm`.
    pub permitted: u64,
    /// `CapEff`.
    pub effective: u64,
    /// `CapBnd`.
    pub bounding: u64,
    /// `CapAmb`.
    pub ambient: u64,
}

/// One installed seccomp(2) filter (`PTRACE_SECCOMP_GET_FILTER`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeccompFilter {
    /// The classic BPF program, 8 bytes an instruction (`struct sock_filter`).
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*` it was installed with, as far as the kernel tells
    /// (`PTRACE_SECCOMP_GET_METADATA`).
    pub flags: u64,
}

/// Which namespace of namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceKind {
    /// `cgroup`.
    Cgroup,
    /// `ipc`.
    Ipc,
    /// `mnt`.
    Mount,
    /// `net`.
    Network,
    /// `pid`.
    Pid,
    /// `pid_for_children`.
    PidForChildren,
    /// `time`.
    Time,
    /// `time_for_children`.
    TimeForChildren,
    /// `user`.
    User,
    /// `uts`.
    Uts,
}

/// One namespace a task is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Which kind.
    pub kind: NamespaceKind,
    /// Inode of `/proc/PID/ns/KIND`: the same number within one boot is the same namespace.
    pub inode: u64,
    /// Whether it was the one of whoever captured the instance.
    pub is_callers: bool,
}

/// The namespaces of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// One entry for each kind that the kernel has.
    pub entries: Vec<Namespace>,
}
