//! What is done about each system call of the clone.
//!
//! No call is made that this table does not let through, and it lets through only what changes
//! nothing but the clone's own memory and signal mask, or only asks. The table is pure: it knows numbers and
//! arguments, no process. What it does not name ends the rehearsal. Calls that work with descriptors
//! are in `operations`.

use crate::operations::{Operation, operation};

/// A part of the clone's memory that a call reads or writes: the argument that points to it, and
/// its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touched(pub(crate) usize, pub(crate) u64);

/// What a call that is let through does to the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapChange {
    /// Nothing that changes the content of a page.
    None,
    /// What lies in these bytes (start, length) is gone, or zero from now on.
    Drops(u64, u64),
    /// New memory of this length, at a place that the kernel chooses.
    Adds(u64),
    /// The break is moved to this address.
    Break(u64),
    /// These bytes (start, length) move elsewhere, and may become this long.
    Moves(u64, u64, u64),
}

/// Who the program believes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Pid,
    Tid,
    Parent,
    Group,
    Session,
    User,
    EffectiveUser,
    Gid,
    EffectiveGid,
}

/// How long a call waits when nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// For ever.
    Never,
    /// Milliseconds; negative: for ever.
    Millis(i32),
    /// `struct timespec` at this address, 0: for ever.
    Timespec(u64),
    /// `struct timeval` at this address, 0: for ever.
    Timeval(u64),
    /// A point of time of this clock, `struct timespec` at this address, 0: for ever.
    Until(u64),
}

/// What is done about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is made, in the clone.
    Run(&'static [Touched], MapChange),
    /// It is not made and returns this.
    Answer(i64),
    /// It is not made and tells what the instance would be told.
    Identity(Identity),
    /// It is not made: it is answered from a table of descriptors of our own.
    Operate(Operation),
    /// It is not made: the thread waits, and is told this when the time is over.
    Wait { timeout: Timeout, told: i64 },
    /// It is not made: it waits while the word at `at` is `value`.
    FutexWait { at: u64, value: u32, timeout: Timeout, bits: u32 },
    /// It is not made: that many threads of the clone that wait there go on.
    FutexWake { at: u64, count: u64, bits: u32 },
    /// It is not made: the time of a clock goes to this address.
    Clock { clock: u64, to: u64 },
    /// It is not made: so many bytes of no meaning go to this address.
    Random { to: u64, length: u64 },
    /// The thread is over.
    ThreadEnds,
    /// The rehearsal is over.
    End,
}

use Decision::{
    Answer, Clock, End, FutexWait, FutexWake, Identity as Who, Operate, Random, Run, ThreadEnds,
    Wait,
};

/// What is done about system call `nr` of the 64-bit table with these arguments.
pub(crate) fn decide(nr: u64, args: [u64; 6]) -> Decision {
    let [a, b, c, d, _, f] = args;
    let forever = |told| Wait { timeout: Timeout::Never, told };
    let nr = i64::try_from(nr).unwrap_or(-1);
    if let Some(operation) = operation(nr, args) {
        return Operate(operation);
    }
    match nr {
        libc::SYS_mmap => map(args),
        libc::SYS_munmap => Run(&[], MapChange::Drops(a, b)),
        libc::SYS_mprotect => Run(&[], MapChange::None),
        libc::SYS_brk => Run(&[], MapChange::Break(a)),
        libc::SYS_mremap => match d & !MREMAP_MAYMOVE {
            0 => Run(&[], MapChange::Moves(a, b, c)),
            _ => End,
        },
        libc::SYS_madvise => advise(a, b, c),
        libc::SYS_rt_sigprocmask => Run(&[Touched(1, 8), Touched(2, 8)], MapChange::None),
        libc::SYS_rt_sigaction => Run(&[Touched(1, 32), Touched(2, 32)], MapChange::None),
        libc::SYS_sigaltstack => Run(&[Touched(0, 24), Touched(1, 24)], MapChange::None),
        libc::SYS_getrusage => Run(&[Touched(1, 144)], MapChange::None),
        libc::SYS_times => Run(&[Touched(0, 32)], MapChange::None),
        libc::SYS_sysinfo => Run(&[Touched(0, 112)], MapChange::None),
        libc::SYS_uname => Run(&[Touched(0, 390)], MapChange::None),
        libc::SYS_clock_getres => Run(&[Touched(1, 16)], MapChange::None),
        libc::SYS_time => Run(&[Touched(0, 8)], MapChange::None),
        libc::SYS_gettimeofday => Run(&[Touched(0, 16), Touched(1, 8)], MapChange::None),
        libc::SYS_getcpu => Run(&[Touched(0, 4), Touched(1, 4)], MapChange::None),
        libc::SYS_sched_getaffinity if a == 0 && b <= 1024 => {
            Run(&[Touched(2, 1024)], MapChange::None)
        }
        libc::SYS_getpid => Who(Identity::Pid),
        libc::SYS_gettid | libc::SYS_set_tid_address => Who(Identity::Tid),
        libc::SYS_getppid => Who(Identity::Parent),
        libc::SYS_getpgrp => Who(Identity::Group),
        libc::SYS_getpgid if a == 0 => Who(Identity::Group),
        libc::SYS_getsid if a == 0 => Who(Identity::Session),
        libc::SYS_getuid => Who(Identity::User),
        libc::SYS_geteuid => Who(Identity::EffectiveUser),
        libc::SYS_getgid => Who(Identity::Gid),
        libc::SYS_getegid => Who(Identity::EffectiveGid),
        libc::SYS_fsync
        | libc::SYS_fdatasync
        | libc::SYS_sync_file_range
        | libc::SYS_msync
        | libc::SYS_fadvise64
        | libc::SYS_sched_yield
        | libc::SYS_membarrier
        | libc::SYS_set_robust_list => Answer(0),
        // Of a thread that has just begun: it goes on without restartable sequences.
        libc::SYS_rseq => Answer(-i64::from(libc::ENOSYS)),
        libc::SYS_clock_gettime => Clock { clock: a, to: b },
        libc::SYS_getrandom => Random { to: a, length: b.min(256) },
        libc::SYS_futex => futex(a, b, c, d, f),
        libc::SYS_nanosleep => Wait { timeout: Timeout::Timespec(a), told: 0 },
        libc::SYS_clock_nanosleep => {
            let timeout = if b & 1 == 0 { Timeout::Timespec(c) } else { Timeout::Until(c) };
            Wait { timeout, told: 0 }
        }
        libc::SYS_rt_sigtimedwait => {
            Wait { timeout: Timeout::Timespec(c), told: -i64::from(libc::EAGAIN) }
        }
        libc::SYS_pause | libc::SYS_rt_sigsuspend | libc::SYS_wait4 | libc::SYS_waitid => {
            forever(-i64::from(libc::EINTR))
        }
        libc::SYS_exit => ThreadEnds,
        _ => End,
    }
}

const MREMAP_MAYMOVE: u64 = 1;

/// Private anonymous memory only: the clone has no descriptors, and shares nothing.
fn map([start, length, _, flags, _, _]: [u64; 6]) -> Decision {
    const SHARED_OR_VALIDATED: u64 = 3;
    const PRIVATE: u64 = 2;
    const ANONYMOUS: u64 = 0x20;
    const FIXED: u64 = 0x10;
    const FIXED_NOREPLACE: u64 = 0x10_0000;
    const POPULATE: u64 = 0x8000;
    const LOCKED: u64 = 0x2000;
    const HUGETLB: u64 = 0x4_0000;
    let is_private = flags & SHARED_OR_VALIDATED == PRIVATE && flags & ANONYMOUS != 0;
    if !is_private || flags & (POPULATE | LOCKED | HUGETLB) != 0 {
        return End;
    }
    if flags & FIXED != 0 && flags & FIXED_NOREPLACE == 0 {
        return Run(&[], MapChange::Drops(start, length));
    }
    Run(&[], MapChange::Adds(length))
}

/// Advice about the clone's own pages. Some advice is about the page itself, wherever it is used
/// (`MADV_HWPOISON`), or about what the instance shares with the clone (`MADV_PAGEOUT`).
fn advise(start: u64, length: u64, advice: u64) -> Decision {
    const DONTNEED: u64 = 4;
    const FREE: u64 = 8;
    const COLD: u64 = 20;
    const PAGEOUT: u64 = 21;
    match advice {
        DONTNEED | FREE => Run(&[], MapChange::Drops(start, length)),
        // Normal, random, sequential, willneed; dontfork, dofork, (no)hugepage, (do)dump, wipe.
        0..=3 | 10 | 11 | 12..=19 | COLD | PAGEOUT => Answer(0),
        _ => End,
    }
}

/// Waiting and waking, as pthreads use them.
fn futex(at: u64, operation: u64, value: u64, timeout: u64, bits: u64) -> Decision {
    const PRIVATE_OR_REALTIME: u64 = 128 | 256;
    const WAIT: u64 = 0;
    const WAKE: u64 = 1;
    const WAIT_BITSET: u64 = 9;
    const WAKE_BITSET: u64 = 10;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes 32 bits")]
    let (value32, bits) = (value as u32, bits as u32);
    match operation & !PRIVATE_OR_REALTIME {
        WAIT => {
            FutexWait { at, value: value32, timeout: Timeout::Timespec(timeout), bits: u32::MAX }
        }
        WAIT_BITSET => FutexWait { at, value: value32, timeout: Timeout::Until(timeout), bits },
        WAKE => FutexWake { at, count: value & 0x7fff_ffff, bits: u32::MAX },
        WAKE_BITSET => FutexWake { at, count: value & 0x7fff_ffff, bits },
        _ => End,
    }
}

pub(crate) fn millis(argument: u64) -> Timeout {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
    let argument = argument as u32;
    Timeout::Millis(argument.cast_signed())
}

/// The calls that the clone's seccomp filter lets pass, whatever becomes of its tracer: what
/// [`decide`] lets run, what its own making needs, and the three that the vsyscall page makes. All
/// others fail with `EPERM`.
pub(crate) const PASSED: &[i64] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_clock_getres,
    libc::SYS_sched_getaffinity,
    libc::SYS_rseq,
    libc::SYS_userfaultfd,
    libc::SYS_close,
    libc::SYS_sched_setscheduler,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_time,
    libc::SYS_gettimeofday,
    libc::SYS_getcpu,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn call(nr: i64, args: [u64; 6]) -> Decision {
        decide(u64::try_from(nr).unwrap(), args)
    }

    #[test]
    fn what_is_not_named_ends_the_rehearsal() {
        for nr in [
            libc::SYS_openat2,
            libc::SYS_unlink,
            libc::SYS_rename,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
            libc::SYS_flock,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_kill,
            libc::SYS_tgkill,
            libc::SYS_tkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_pidfd_send_signal,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_reboot,
            libc::SYS_prctl,
            libc::SYS_arch_prctl,
            libc::SYS_shmat,
            libc::SYS_shmget,
            libc::SYS_semop,
            libc::SYS_msgsnd,
            libc::SYS_timerfd_settime,
            libc::SYS_timer_settime,
            libc::SYS_setitimer,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_submit,
            libc::SYS_splice,
            libc::SYS_setuid,
            libc::SYS_setrlimit,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_exit_group,
            libc::SYS_rt_sigreturn,
        ] {
            assert_eq!(call(nr, [0; 6]), End, "{}", crate::names::name(nr.cast_unsigned()));
        }
        for nr in [335, 400, 470, 1 << 30, u64::MAX] {
            assert_eq!(decide(nr, [0; 6]), End, "{nr}");
        }
    }

    #[test]
    fn all_that_runs_changes_the_clones_memory_and_mask_alone() {
        // Whatever the arguments: what is let run is one of these.
        let allowed = [
            libc::SYS_getrusage,
            libc::SYS_times,
            libc::SYS_sysinfo,
            libc::SYS_uname,
            libc::SYS_clock_getres,
            libc::SYS_time,
            libc::SYS_gettimeofday,
            libc::SYS_getcpu,
            libc::SYS_sched_getaffinity,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mprotect,
            libc::SYS_brk,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigaction,
            libc::SYS_sigaltstack,
        ];
        for nr in 0..600_i64 {
            for word in [0, 1, 2, 4, 8, 0x22, u64::MAX] {
                if let Run(..) = call(nr, [word; 6]) {
                    assert!(allowed.contains(&nr), "{nr}");
                    assert!(PASSED.contains(&nr), "{nr}");
                }
            }
        }
    }

    #[test]
    fn only_private_anonymous_memory_is_mapped() {
        let with = |flags| call(libc::SYS_mmap, [0x1000, 0x2000, 3, flags, u64::MAX, 0]);
        assert_eq!(with(0x22), Run(&[], MapChange::Adds(0x2000)));
        assert_eq!(with(0x32), Run(&[], MapChange::Drops(0x1000, 0x2000)));
        assert_eq!(with(0x10_0032), Run(&[], MapChange::Adds(0x2000)));
        for shared_file_populated_locked_huge in [0x21, 0x23, 0x02, 0x8022, 0x2022, 0x4_0022] {
            assert_eq!(with(shared_file_populated_locked_huge), End);
        }
    }

    #[test]
    fn advice_about_pages_of_others_is_not_given() {
        let with = |advice| call(libc::SYS_madvise, [0x1000, 0x2000, advice, 0, 0, 0]);
        assert_eq!(with(4), Run(&[], MapChange::Drops(0x1000, 0x2000)));
        assert_eq!(with(14), Answer(0));
        assert_eq!(with(21), Answer(0));
        for advice in [9, 22, 23, 24, 100, 101, 102] {
            assert_eq!(with(advice), End, "{advice}");
        }
    }

    #[test]
    fn waits_tell_how_long() {
        let never =
            Operation::EpollWait { epoll: 5, events: 0, count: 16, timeout: Timeout::Millis(-1) };
        let forever = [5, 0, 16, u64::from(u32::MAX), 0, 0];
        assert_eq!(call(libc::SYS_epoll_wait, forever), Operate(never));
        let woken = FutexWake { at: 64, count: 1, bits: u32::MAX };
        assert_eq!(call(libc::SYS_futex, [64, 129, 1, 0, 0, 0]), woken);
        let asleep = FutexWait { at: 64, value: 2, timeout: Timeout::Until(32), bits: 7 };
        assert_eq!(call(libc::SYS_futex, [64, 9 | 128 | 256, 2, 32, 0, 7]), asleep);
        // Priority inheritance, requeueing and the like.
        for operation in [3, 4, 5, 6, 7, 8, 11, 12, 13] {
            assert_eq!(call(libc::SYS_futex, [64, operation, 1, 0, 0, 0]), End);
        }
    }
}
