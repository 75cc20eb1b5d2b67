//! Scheduling of another task, see `sched_setattr(2)`, `sched_getaffinity(2)`, `ioprio_set(2)`.

use std::io;

use crate::task::Tid;

/// `struct sched_attr` without its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// `SCHED_` policy.
    pub policy: u32,
    /// `SCHED_FLAG_` bits.
    pub flags: u64,
    /// Nice value of the ordinary policies.
    pub nice: i32,
    /// Static priority of the real-time policies.
    pub priority: u32,
    /// Deadline policy: runtime in nanoseconds; ordinary policies: the slice where one is set.
    pub runtime_ns: u64,
    /// Deadline policy: deadline in nanoseconds.
    pub deadline_ns: u64,
    /// Deadline policy: period in nanoseconds.
    pub period_ns: u64,
    /// Utilisation clamp, lower end (0 without `CONFIG_UCLAMP_TASK`).
    pub util_min: u32,
    /// Utilisation clamp, upper end.
    pub util_max: u32,
}

#[repr(C)]
#[derive(Default)]
struct RawAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// The scheduling attributes of task `tid`.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn sched_attr(tid: Tid) -> io::Result<SchedAttr> {
    let mut raw = RawAttr::default();
    let size = size_of::<RawAttr>();
    // SAFETY: the kernel writes at most `size` bytes to `raw`, which is that long and lives
    // through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getattr, tid.raw(), &raw mut raw, size, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(SchedAttr {
        policy: raw.policy,
        flags: raw.flags,
        nice: raw.nice,
        priority: raw.priority,
        runtime_ns: raw.runtime,
        deadline_ns: raw.deadline,
        period_ns: raw.period,
        util_min: raw.util_min,
        util_max: raw.util_max,
    })
}

/// The CPUs task `tid` may run on, one bit each, 64 to a word; words of zeros at the end are
/// left out.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn affinity(tid: Tid) -> io::Result<Vec<u64>> {
    // 8192 CPUs, the most x86-64 kernels are built for.
    let mut words = vec![0u64; 128];
    // SAFETY: the kernel writes at most the stated number of bytes, which is the vector's size.
    let written = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            tid.raw(),
            size_of_val(words.as_slice()),
            words.as_mut_ptr(),
        )
    };
    if written < 0 {
        return Err(io::Error::last_os_error());
    }
    let used = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    words.truncate(used);
    Ok(words)
}

/// The IO priority of task `tid` as ioprio_get(2) gives it; 0 is none.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn io_priority(tid: Tid) -> io::Result<u32> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: the call takes two integers and touches no memory.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid.raw()) };
    u32::try_from(value).map_err(|_| io::Error::last_os_error())
}

/// Reads a list of CPUs such as `0-3,8`.
pub fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    const CPUS_MAX: u32 = 8192;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_scheduling() {
        let me = Tid::current();
        let attr = sched_attr(me).unwrap();
        assert!(attr.policy <= 6);
        assert!((-20..=19).contains(&attr.nice));
        let cpus = affinity(me).unwrap();
        assert!(cpus.iter().any(|w| *w != 0));
        assert!(io_priority(me).is_ok());
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("0-99999999"), None);
        assert_eq!(parse_cpu_list(""), None);
    }
}
