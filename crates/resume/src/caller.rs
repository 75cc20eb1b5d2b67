//! What a new process inherits from us.

use std::fs;
use std::io;
use std::num::NonZero;

use process::{Capabilities, Credentials};
use sys::limits::Limit;
use sys::proc::parse_status;
use sys::sched::SchedAttr;
use sys::task::{Pid, Tid};

/// What the calling thread hands down to a process it makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) credentials: Credentials,
    pub(crate) limits: Vec<Limit>,
    pub(crate) scheduling: OwnScheduling,
    /// The highest descriptor number in use.
    pub(crate) highest_descriptor: i32,
    /// The hard limit on descriptors.
    pub(crate) descriptors_max: u64,
}

/// How the calling thread is scheduled.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnScheduling {
    pub(crate) attr: SchedAttr,
    pub(crate) affinity: Vec<u64>,
    pub(crate) io_priority: u32,
}

impl OwnScheduling {
    fn read() -> io::Result<Self> {
        let tid = Tid::current();
        Ok(Self {
            attr: sys::sched::sched_attr(tid)?,
            affinity: sys::sched::affinity(tid)?,
            io_priority: sys::sched::io_priority(tid)?,
        })
    }
}

impl Caller {
    /// Reads it.
    pub(crate) fn read() -> io::Result<Self> {
        let limits = sys::limits::limits(Pid::current())?;
        let descriptors_max =
            limits.get(libc::RLIMIT_NOFILE as usize).map_or(0, |limit| limit.hard);
        let numbers = fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let highest_descriptor = numbers.max().unwrap_or(2);
        Ok(Self {
            credentials: credentials()?,
            limits,
            scheduling: OwnScheduling::read()?,
            highest_descriptor,
            descriptors_max,
        })
    }

    /// How many threads load memory when `asked` for (0: one for each processor we may use).
    pub(crate) fn workers(&self, asked: usize) -> usize {
        match asked {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            some => some,
        }
    }
}

fn credentials() -> io::Result<Credentials> {
    let text = fs::read("/proc/thread-self/status")?;
    let status = parse_status(&text).map_err(io::Error::other)?;
    let ids = |set: sys::proc::IdSet| [set.real, set.effective, set.saved, set.file_system];
    let sets = status.capabilities;
    let securebits = rustix::thread::capabilities_secure_bits().map_err(io::Error::from)?;
    Ok(Credentials {
        uids: ids(status.uid),
        gids: ids(status.gid),
        groups: status.groups,
        capabilities: Capabilities {
            inheritable: sets.inheritable,
            permitted: sets.permitted,
            effective: sets.effective,
            bounding: sets.bounding,
            ambient: sets.ambient,
        },
        securebits: securebits.bits(),
        no_new_privs: status.no_new_privs,
        seccomp_filters: Vec::new(),
    })
}
