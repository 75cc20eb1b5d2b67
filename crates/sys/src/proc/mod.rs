//! Files under `/proc`: typed parsers, each tested on recorded text, and [`ProcDir`], through
//! which they are read.
//!
//! The parsers are pure and never panic; they keep what they do not know where it could matter
//! and refuse text that does not have its documented form. Numbers are plain integers here
//! because the kernel prints them so: pids are those of the reader's pid namespace unless a
//! field says otherwise.

mod auxv;
mod cgroups;
mod dir;
mod fdinfo;
mod host;
mod limits;
mod locks;
mod maps;
mod mounts;
mod multicast;
mod net;
mod stat;
mod status;
mod text;
mod timers;

pub use auxv::parse_auxv;
pub use cgroups::{CgroupDirectory, cgroup_directory, cgroup_line_at};
pub use dir::{FileStat, ProcDir, ProcError, file_stat, pids};
pub use fdinfo::{EpollTarget, FdDetail, FdInfo, TimerfdInfo, parse_fdinfo};
pub use host::{CpuInfo, boot_id, parse_cpuinfo, read_global, system_names};
pub use limits::parse_limits;
pub use locks::{FileLock, LockKind, parse_lock, parse_locks};
pub use maps::{MapsEntry, SmapsEntry, maps_entries, parse_smaps};
pub use mounts::{CgroupMembership, Mount, parse_cgroup, parse_mountinfo};
pub use multicast::{MulticastGroup, parse_igmp, parse_igmp6};
pub use net::{InetSocket, UnixSocket, parse_inet, parse_unix};
pub use stat::{Stat, StatMemory, parse_stat, running_since};
pub use status::{CapabilitySets, IdSet, RunState, Status, parse_status};
pub use text::{Excerpt, Malformed};
pub use timers::{PosixTimerInfo, TimerNotify, parse_timers};

/// How files under `/proc` are opened.
pub mod open_flags {
    use rustix::fs::OFlags;

    /// For reading, and without waiting for anybody (a lease that has to be broken).
    pub const READ_WITHOUT_WAITING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);
    /// Only to name the file.
    pub const PATH: OFlags = OFlags::PATH;
}
