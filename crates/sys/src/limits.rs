//! Resource limits of another process, see `prlimit(2)`.

use std::io;

use crate::task::Pid;

/// How many `RLIMIT_` numbers there are.
pub const LIMIT_COUNT: u32 = 16;

/// A soft and a hard limit; `u64::MAX` is `RLIM_INFINITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What applies.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// The limits of process `pid`, by `RLIMIT_` number.
///
/// # Errors
/// `ESRCH` when it is gone, `EPERM` when it has other ids and we lack `CAP_SYS_RESOURCE`.
pub fn limits(pid: Pid) -> io::Result<Vec<Limit>> {
    (0..LIMIT_COUNT).map(|resource| limit(pid, resource)).collect()
}

fn limit(pid: Pid, resource: u32) -> io::Result<Limit> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit is given, so nothing changes; the kernel writes one struct, which
    // lives through the call. An unknown resource or pid is an error, not a fault.
    let result = unsafe { libc::prlimit64(pid.raw(), resource, std::ptr::null(), &raw mut old) };
    match result {
        0 => Ok(Limit { soft: old.rlim_cur, hard: old.rlim_max }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives process `pid` a limit, by `RLIMIT_` number.
///
/// # Errors
/// `EPERM` when the hard limit would be raised and we lack `CAP_SYS_RESOURCE`; `EINVAL` when the
/// soft one is above the hard one.
pub fn set_limit(pid: Pid, resource: u32, limit: Limit) -> io::Result<()> {
    let new = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the kernel reads one struct, which lives through the call, and writes none.
    let result =
        unsafe { libc::prlimit64(pid.raw(), resource, &raw const new, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The name of a limit in lower case without `RLIMIT_`, as in prlimit(1), by its number.
pub const LIMIT_NAMES: [&str; LIMIT_COUNT as usize] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set() {
        let core = LIMIT_NAMES.iter().position(|name| *name == "core").unwrap();
        let core = u32::try_from(core).unwrap();
        let before = limit(Pid::current(), core).unwrap();
        let less = Limit { soft: before.soft.min(4096), ..before };
        set_limit(Pid::current(), core, less).unwrap();
        assert_eq!(limit(Pid::current(), libc::RLIMIT_CORE).unwrap(), less);
        set_limit(Pid::current(), core, before).unwrap();
        let above = Limit { soft: 2, hard: 1 };
        assert!(set_limit(Pid::current(), core, above).is_err());
    }

    #[test]
    fn own_limits_agree_with_getrlimit() {
        let all = limits(Pid::current()).unwrap();
        assert_eq!(all.len(), 16);
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(open_files.current, Some(all[7].soft));
    }
}
