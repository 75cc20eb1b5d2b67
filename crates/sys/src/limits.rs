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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_limits_agree_with_getrlimit() {
        let all = limits(Pid::current()).unwrap();
        assert_eq!(all.len(), 16);
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(open_files.current, Some(all[7].soft));
    }
}
