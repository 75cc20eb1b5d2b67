//! What processes of ours that stay may still ask of the kernel: a seccomp(2) filter.
//!
//! A call that is not on the list fails with `ENOSYS` and harms nobody else: killing the caller
//! would let a program wait for its pages. libc takes an older call then, as it does for no other
//! error number (clone3, statx, faccessat2). A call by another table of the kernel (`int 0x80`) is
//! none that our code can make, and ends the process.

use std::collections::BTreeMap;
use std::io;

use libc::{
    SYS_accept, SYS_accept4, SYS_access, SYS_arch_prctl, SYS_bind, SYS_brk, SYS_capget, SYS_capset,
    SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_close,
    SYS_close_range, SYS_dup, SYS_dup2, SYS_dup3, SYS_eventfd2, SYS_execve, SYS_exit,
    SYS_exit_group, SYS_faccessat, SYS_faccessat2, SYS_fadvise64, SYS_fcntl, SYS_fdatasync,
    SYS_flock, SYS_fork, SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_getcwd,
    SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getpeername, SYS_getpid, SYS_getppid,
    SYS_getpriority, SYS_getrandom, SYS_getrlimit, SYS_getsockname, SYS_getsockopt, SYS_gettid,
    SYS_gettimeofday, SYS_getuid, SYS_ioctl, SYS_listen, SYS_lseek, SYS_lstat, SYS_madvise,
    SYS_mkdir, SYS_mkdirat, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep,
    SYS_newfstatat, SYS_open, SYS_openat, SYS_openat2, SYS_pause, SYS_pidfd_open,
    SYS_pidfd_send_signal, SYS_pipe2, SYS_poll, SYS_ppoll, SYS_prctl, SYS_pread64, SYS_preadv,
    SYS_preadv2, SYS_prlimit64, SYS_read, SYS_readahead, SYS_readlink, SYS_readlinkat, SYS_readv,
    SYS_recvfrom, SYS_recvmsg, SYS_rename, SYS_renameat, SYS_renameat2, SYS_restart_syscall,
    SYS_rmdir, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sched_getaffinity, SYS_sched_getparam, SYS_sched_getscheduler, SYS_sched_yield,
    SYS_seccomp, SYS_sendmsg, SYS_sendto, SYS_set_robust_list, SYS_set_tid_address,
    SYS_setpriority, SYS_setsid, SYS_setsockopt, SYS_shutdown, SYS_sigaltstack, SYS_socket,
    SYS_stat, SYS_statfs, SYS_statx, SYS_sysinfo, SYS_tgkill, SYS_uname, SYS_unlink, SYS_unlinkat,
    SYS_vfork, SYS_wait4, SYS_waitid, SYS_write, SYS_writev,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Memory, threads, time and the end of a process: what libc and the standard library do unasked.
const RUNTIME: &[i64] = &[
    SYS_brk,
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_futex,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_rseq,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_getpriority,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_getrandom,
    SYS_getpid,
    SYS_getppid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getrlimit,
    SYS_uname,
    SYS_sysinfo,
    SYS_arch_prctl,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    SYS_sigaltstack,
    SYS_pause,
    // abort(3); without CAP_KILL it reaches processes of this user only.
    SYS_tgkill,
    SYS_exit,
    SYS_exit_group,
];

/// The store, files that pages are read from, the registry, the log.
const FILES: &[i64] = &[
    SYS_read,
    SYS_readv,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_write,
    SYS_writev,
    SYS_lseek,
    SYS_readahead,
    SYS_fadvise64,
    SYS_open,
    SYS_openat,
    SYS_openat2,
    SYS_close,
    SYS_close_range,
    SYS_dup,
    SYS_dup2,
    SYS_dup3,
    SYS_fcntl,
    SYS_flock,
    SYS_stat,
    SYS_lstat,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_access,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_readlink,
    SYS_readlinkat,
    SYS_getdents64,
    SYS_getcwd,
    SYS_ftruncate,
    SYS_fsync,
    SYS_fdatasync,
    SYS_mkdir,
    SYS_mkdirat,
    SYS_rename,
    SYS_renameat,
    SYS_renameat2,
    SYS_unlink,
    SYS_unlinkat,
    SYS_rmdir,
];

/// Callers, the processes beside it, and the execution of a successor, which the filter holds for
/// as well.
const OTHERS: &[i64] = &[
    SYS_poll,
    SYS_ppoll,
    SYS_eventfd2,
    SYS_pipe2,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_sendto,
    SYS_sendmsg,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_shutdown,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_getsockname,
    SYS_getpeername,
    SYS_fork,
    SYS_vfork,
    SYS_execve,
    SYS_wait4,
    SYS_waitid,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_setsid,
    // They only take away.
    SYS_capget,
    SYS_capset,
    SYS_seccomp,
];

/// What a process needs that only sleeps until it is killed.
const SLEEPING: &[i64] =
    &[SYS_pause, SYS_ppoll, SYS_restart_syscall, SYS_rt_sigreturn, SYS_exit, SYS_exit_group];

/// Options of prctl(2): names, what takes away, and what is only asked.
const PRCTL_OPTIONS: [libc::c_int; 11] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    PR_GET_TID_ADDRESS,
    PR_SET_VMA,
    PR_GET_AUXV,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_CAPBSET_READ,
    libc::PR_CAPBSET_DROP,
    // Raises only what is permitted and inheritable anyway.
    libc::PR_CAP_AMBIENT,
    libc::PR_GET_DUMPABLE,
];
const PR_GET_TID_ADDRESS: libc::c_int = 40;
/// What the kernel tells at the start (Linux >= 6.4).
const PR_GET_AUXV: libc::c_int = 0x4155_5856;
/// Names given to mappings by the allocator.
const PR_SET_VMA: libc::c_int = 0x5356_4d41;

/// Requests of ioctl(2) other than those of a userfaultfd: whether it is a terminal, and two
/// flags of descriptors.
const IOCTL_REQUESTS: [u64; 3] = [libc::TCGETS, libc::FIONBIO, libc::FIOCLEX];
/// The type in the number of a request, and that of userfaultfds.
const IOCTL_TYPE: (u64, u64) = (0xff00, 0xaa00);

/// Flags of clone(2) that make namespaces. clone3(2) keeps its flags in memory, which a filter
/// cannot see, and is not allowed.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Lets the calling thread, and what it starts and executes from now on, make only those calls
/// that serving memory takes: files, sockets of the host, userfaultfds, threads, and executing
/// itself. Sets `no_new_privs`.
///
/// # Errors
/// When the kernel takes no filter; none is in force then.
pub fn to_serving() -> io::Result<()> {
    install(serving()?)
}

/// Lets the calling thread only sleep and end.
///
/// # Errors
/// When the kernel takes no filter; none is in force then.
pub fn to_sleeping() -> io::Result<()> {
    install(each(&[SLEEPING]))
}

fn serving() -> io::Result<Rules> {
    let mut rules = each(&[RUNTIME, FILES, OTHERS]);
    let local = u64::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
    let own = |argument| (argument, SeccompCmpOp::Eq, 0);
    rules.insert(SYS_socket, vec![when([(0, SeccompCmpOp::Eq, local)])?]);
    rules.insert(SYS_clone, vec![when([(0, SeccompCmpOp::MaskedEq(NAMESPACES), 0)])?]);
    rules.insert(SYS_prlimit64, vec![when([own(0)])?]);
    // Which is PRIO_PROCESS, and who the calling thread.
    rules.insert(SYS_setpriority, vec![when([own(0), own(1)])?]);
    let options = PRCTL_OPTIONS.map(|option| u64::from(option.unsigned_abs()));
    let options = options.map(|option| when([(0, SeccompCmpOp::Eq, option)]));
    rules.insert(SYS_prctl, options.into_iter().collect::<io::Result<_>>()?);
    let (mask, userfaults) = IOCTL_TYPE;
    let requests = IOCTL_REQUESTS.map(|request| when([(1, SeccompCmpOp::Eq, request)]));
    let requests =
        requests.into_iter().chain([when([(1, SeccompCmpOp::MaskedEq(mask), userfaults)])]);
    rules.insert(SYS_ioctl, requests.collect::<io::Result<_>>()?);
    Ok(rules)
}

fn each(lists: &[&[i64]]) -> Rules {
    lists.iter().flat_map(|list| list.iter()).map(|call| (*call, Vec::new())).collect()
}

/// The lower halves of arguments, each by its number, are as said.
fn when<const N: usize>(conditions: [(u8, SeccompCmpOp, u64); N]) -> io::Result<SeccompRule> {
    let conditions = conditions.into_iter().map(|(argument, how, value)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
    });
    let rule = conditions.collect::<Result<_, _>>().and_then(SeccompRule::new);
    rule.map_err(io::Error::other)
}

fn install(rules: Rules) -> io::Result<()> {
    let refuse = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, TargetArch::x86_64);
    let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
    let program = program.map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sleeps_may_make_no_call_that_serving_may_not() {
        // The filter of who sleeps comes on top of the other.
        let serving = serving().unwrap();
        for call in SLEEPING {
            assert!(serving.get(call).is_some_and(Vec::is_empty), "call {call}");
        }
    }

    #[test]
    fn what_is_not_on_the_list_fails_and_harms_nobody() {
        let filtered = std::thread::spawn(|| {
            to_serving().unwrap();
            let made = std::thread::spawn(|| 7).join().unwrap();
            // SAFETY: unshare with no flags changes nothing, nor does the refused one.
            let namespaces = unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWNS) };
            let refused = io::Error::last_os_error();
            assert_eq!((made, namespaces), (7, -1));
            assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
            let inet = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            );
            assert_eq!(inet.unwrap_err(), rustix::io::Errno::NOSYS);
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = filtered.join().unwrap();
        assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"));
    }
}
