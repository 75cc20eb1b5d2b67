//! The enumerated list of the kinds of state a process can have.

/// What rekindle does with a kind of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Captured and restored.
    Captured,
    /// Captured within limits; outside of them it is a blocker that says so.
    Partly,
    /// Always a blocker.
    Blocker,
}

macro_rules! kinds {
    ($($name:ident $text:literal $support:ident $doc:literal;)+) => {
        /// Every kind of state that a Linux process can have, as far as rekindle knows. Capture
        /// refuses what it cannot place on this list ([`StateKind::Unknown`]).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum StateKind {
            $(#[doc = $doc] $name,)+
        }

        impl StateKind {
            /// Every kind, in the order of this list.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable name used in JSON and messages.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// What rekindle does with it.
            pub const fn support(self) -> Support {
                match self { $(Self::$name => Support::$support),+ }
            }

            /// What it is, in a sentence.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$name => $doc),+ }
            }
        }
    };
}

kinds! {
    Process "process" Partly "The process itself: alive, 64-bit, not a kernel thread, not a zombie, not us.";
    Tracer "tracer" Blocker "Another process traces it (gdb, strace).";
    Children "children" Blocker "It has child processes.";
    Thread "thread" Captured "Threads: registers, extended state, name, tid address.";
    UninterruptibleSleep "uninterruptible-sleep" Blocker "A thread that cannot be stopped now.";
    Supervisor "supervisor" Partly "A parent that acts on the exit of the process.";
    Permission "permission" Blocker "It belongs to somebody we have no power over.";
    AlreadyRunning "already-running" Blocker "The original or another resume of this line is alive.";
    PrivateMemory "private-memory" Captured "Private memory: anonymous, copy-on-write pages of files.";
    SharedMemory "shared-memory" Partly "memfd, POSIX shared memory, shared anonymous memory, all of it inside the instance.";
    SysvMemory "sysv-memory" Blocker "System V shared memory.";
    FileMapping "file-mapping" Captured "Mappings of files that still exist as they were.";
    HugetlbMapping "hugetlb-mapping" Blocker "hugetlbfs memory.";
    DeviceMapping "device-mapping" Blocker "Mappings of devices.";
    SpecialMapping "special-mapping" Partly "vdso, vvar and vsyscall.";
    UserfaultMapping "userfault-mapping" Blocker "Memory registered with a userfaultfd of the program's own.";
    GuardPages "guard-pages" Captured "Guard pages inside mappings.";
    SealedMapping "sealed-mapping" Partly "mseal(2)ed mappings: restored, but unsealed.";
    SecretMemory "secret-memory" Blocker "memfd_secret(2).";
    ProtectionKeys "protection-keys" Blocker "Memory protection keys.";
    ShadowStack "shadow-stack" Blocker "User shadow stacks.";
    SignalActions "signal-actions" Captured "Signal actions, masks, alternate stacks.";
    PendingSignals "pending-signals" Captured "Signals that wait.";
    IntervalTimers "interval-timers" Captured "setitimer(2) timers.";
    PosixTimers "posix-timers" Captured "timer_create(2) timers.";
    Rseq "rseq" Captured "Restartable sequences.";
    RobustList "robust-list" Captured "Robust futex lists.";
    Credentials "credentials" Captured "User and group ids, capabilities, securebits.";
    MixedCredentials "mixed-credentials" Blocker "Threads with different credentials.";
    NoNewPrivs "no-new-privs" Captured "no_new_privs.";
    Seccomp "seccomp" Partly "Seccomp filters, the same in every thread.";
    LsmLabel "lsm-label" Partly "A label of a security module.";
    Namespace "namespace" Partly "Namespaces that still exist at the resume.";
    Cgroup "cgroup" Partly "The cgroup it was in, when it still exists.";
    Session "session" Partly "Session and process group.";
    Terminal "terminal" Partly "A controlling terminal.";
    Limits "limits" Captured "Resource limits, umask, personality, directories, dumpable, OOM score.";
    Scheduling "scheduling" Captured "Policy, priority, affinity, nice, IO priority.";
    RegularFile "regular-file" Partly "Open files and directories that still have their name.";
    DeletedFile "deleted-file" Blocker "An open or mapped file without a name.";
    FileLock "file-lock" Partly "flock(2) and fcntl(2) locks.";
    FileLease "file-lease" Blocker "fcntl(2) leases and directory notifications.";
    Pipe "pipe" Partly "Pipes whose both ends are inside, with content.";
    EventFd "eventfd" Captured "eventfd(2).";
    Epoll "epoll" Captured "epoll(7) with its interest list.";
    TimerFd "timerfd" Captured "timerfd_create(2).";
    SignalFd "signalfd" Captured "signalfd(2).";
    StatelessDevice "stateless-device" Captured "/dev/null, zero, full, random, urandom.";
    Device "device" Blocker "Other devices.";
    ListeningSocket "listening-socket" Captured "Listening TCP and unix sockets, bound UDP sockets.";
    TcpConnection "tcp-connection" Partly "Established TCP connections: closed on request, or refused.";
    UnixSocket "unix-socket" Partly "Other unix sockets.";
    OtherSocket "other-socket" Blocker "Sockets of other families and kinds.";
    Inotify "inotify" Blocker "inotify(7).";
    Fanotify "fanotify" Blocker "fanotify(7).";
    IoUring "io-uring" Blocker "io_uring(7).";
    AsyncIo "async-io" Blocker "Kernel AIO contexts (io_setup(2)).";
    PerfEvent "perf-event" Blocker "perf_event_open(2).";
    Bpf "bpf" Blocker "BPF objects.";
    PidFd "pidfd" Blocker "pidfd_open(2).";
    Landlock "landlock" Blocker "Landlock rules that rekindle itself is not under, and descriptors of rule sets.";
    Mqueue "mqueue" Blocker "POSIX message queues.";
    SysvIpc "sysv-ipc" Blocker "System V semaphore undo lists.";
    Userfaultfd "userfaultfd" Blocker "A userfaultfd of the program's own.";
    Keyring "keyring" Partly "Keyrings: the session keyring becomes the caller's, a thread's or process's own is a blocker.";
    InFlightDescriptors "in-flight-descriptors" Blocker "Descriptors inside a unix socket's queue.";
    Unknown "unknown" Blocker "Something that is not on this list.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_json_and_shells() {
        let names: BTreeSet<_> = StateKind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), StateKind::ALL.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
        }
    }
}
