//! The instance in the golden checkpoint of format 1: one of everything. When a field is added to
//! `process`, it gets here the value that a checkpoint without it means.

use mem::{AddrRange, Backing, FileIdentity, Mapping, Protection, Sharing, SpecialMapping};
use process::{
    AddressSpace, AlternateStack, Capabilities, Clocks, Credentials, CredentialsId, Description,
    DescriptionId, DescriptionKind, Descriptor, DescriptorTable, EpollInterest, FileLock,
    FileLockKind, GeneralRegisters, Host, Instance, InstanceId, IntervalTimer, LineIdentity,
    MmLayout, Namespace, NamespaceKind, Namespaces, NamespacesId, Pipe, PipeEnd, PipeId,
    PosixTimer, PosixTimerNotify, QueuedSignal, RegularFile, RobustList, Rseq, Scheduling,
    SeccompFilter, SharedObject, SharedObjectKind, SignalAction, SignalSet, Socket, SocketAddress,
    SocketFamily, SocketOption, SocketState, SocketType, SpaceId, TableId, TaskGroup, Terminal,
    TerminalId, Thread, TimerFd, TimerSetting,
};

pub(crate) fn golden_instance() -> Instance {
    Instance {
        line: LineIdentity {
            instance: InstanceId::from_hash(&[0xab; 32]),
            boot_id: "0f0e0d0c-0b0a-0908-0706-050403020100".to_owned(),
            pid_namespace: 4_026_531_836,
            pid: 4711,
            start_time_ticks: 123_456,
        },
        host: host(),
        groups: vec![group()],
        spaces: vec![space()],
        objects: objects(),
        tables: vec![DescriptorTable {
            descriptors: (0..11)
                .map(|n| Descriptor {
                    fd: n,
                    close_on_exec: n % 2 == 1,
                    description: DescriptionId(n.unsigned_abs()),
                })
                .collect(),
        }],
        descriptions: descriptions(),
        pipes: vec![Pipe {
            inode: 99,
            capacity_bytes: 65536,
            content: vec![b"one".to_vec(), b"two".to_vec()],
            fifo_path: b"/tmp/fifo".to_vec(),
        }],
        sockets: sockets(),
        credentials: vec![credentials()],
        namespaces: vec![Namespaces {
            entries: [
                NamespaceKind::Cgroup,
                NamespaceKind::Ipc,
                NamespaceKind::Mount,
                NamespaceKind::Network,
                NamespaceKind::Pid,
                NamespaceKind::PidForChildren,
                NamespaceKind::Time,
                NamespaceKind::TimeForChildren,
                NamespaceKind::User,
                NamespaceKind::Uts,
            ]
            .into_iter()
            .zip(4_026_531_834..)
            .map(|(kind, inode)| Namespace { kind, inode, is_callers: inode % 2 == 0 })
            .collect(),
        }],
        terminals: vec![Terminal { device: 0x8803, path: b"/dev/pts/3".to_vec() }],
    }
}

fn host() -> Host {
    Host {
        boot_id: "0f0e0d0c-0b0a-0908-0706-050403020100".to_owned(),
        kernel_release: "6.18.5".to_owned(),
        host_name: "golden".to_owned(),
        cpu_name: "AuthenticAMD EPYC".to_owned(),
        xcr0: 0x2e7,
        xstate_in_use: 0x207,
        hwcap: [0x178b_fbff, 2],
        cpu_flags: vec!["avx2".to_owned(), "sse2".to_owned()],
        clocks: Clocks {
            realtime_ns: 1_700_000_000_000_000_001,
            monotonic_ns: 86_400_000_000_007,
            boottime_ns: -1,
        },
    }
}

fn group() -> TaskGroup {
    TaskGroup {
        pid: 12,
        pid_outside: 4711,
        parent_pid: 1,
        process_group: 12,
        session: -7,
        terminal: Some(TerminalId(0)),
        threads: vec![thread(12, true), thread(13, false)],
        space: SpaceId(0),
        table: TableId(0),
        credentials: CredentialsId(0),
        namespaces: NamespacesId(0),
        signal_actions: vec![
            SignalAction::default(),
            SignalAction {
                handler: 0x40_1000,
                flags: 0x0400_0004,
                restorer: 0x40_2000,
                mask: SignalSet(1 << 63 | 1),
            },
        ],
        pending_signals: vec![QueuedSignal { siginfo: [10; 128] }],
        interval_timers: [1, 2, 3].map(|n| IntervalTimer { setting: timer(n) }),
        posix_timers: vec![
            posix_timer(0, PosixTimerNotify::None),
            posix_timer(1, PosixTimerNotify::Process),
            posix_timer(2, PosixTimerNotify::Thread(13)),
        ],
        exe: b"/usr/bin/golden".to_vec(),
        cwd: b"/home/\xff".to_vec(),
        root: b"/".to_vec(),
        umask: 0o027,
        personality: 0x0004_0000,
        rlimits: vec![(1024, 4096), (u64::MAX, u64::MAX)],
        dumpable: 1,
        oom_score_adj: -500,
        coredump_filter: 0x73,
        child_subreaper: true,
        thp_disable: true,
        parent_death_signal: 9,
        exit_signal: 17,
        cgroups: vec![b"0::/golden.slice".to_vec()],
        lsm_label: b"unconfined".to_vec(),
        is_stopped: true,
    }
}

fn thread(tid: i32, is_leader: bool) -> Thread {
    let word = u64::from(tid.unsigned_abs()) << 40;
    Thread {
        tid,
        tid_outside: tid + 4700,
        name: b"golden".to_vec(),
        registers: GeneralRegisters::from_words(std::array::from_fn(|i| {
            word + u64::try_from(i).unwrap()
        })),
        xstate: (0..=255).collect(),
        blocked_signals: SignalSet(1 << 33),
        pending_signals: vec![QueuedSignal { siginfo: [12; 128] }],
        alternate_stack: AlternateStack { base: 0x7f00_0000, flags: 1 << 31, size_bytes: 8192 },
        robust_list: RobustList { head: 0x7f10_0000, size_bytes: 24 },
        rseq: is_leader.then_some(Rseq {
            address: 0x7f20_0000,
            size_bytes: 32,
            signature: 0x5305_3053,
            flags: 0,
        }),
        clear_child_tid: 0x7f30_0000,
        scheduling: Scheduling {
            policy: 3,
            flags: 1,
            nice: -20,
            priority: 0,
            runtime_ns: 700_000,
            deadline_ns: 0,
            period_ns: 0,
            affinity: vec![u64::MAX, 1],
            io_priority: 0x4004,
        },
        timer_slack_ns: 50_000,
        seccomp_mode: 2,
        no_new_privs: true,
    }
}

fn timer(n: u64) -> TimerSetting {
    TimerSetting { value_ns: n * 1_000, interval_ns: n * 1_000_000 }
}

fn posix_timer(id: i32, notify: PosixTimerNotify) -> PosixTimer {
    PosixTimer { id, clock: 1, notify, signal: 34, value: 77, setting: timer(9), overrun: 3 }
}

fn file(path: &[u8]) -> FileIdentity {
    FileIdentity {
        path: path.to_vec(),
        device: 0xfe00,
        inode: 1234,
        size_bytes: 99_999,
        mtime_ns: 1_600_000_000_123_456_789,
        ctime_ns: -1_500_000_000,
        build_id: vec![0xde, 0xad],
        deleted: path.is_empty(),
    }
}

fn space() -> AddressSpace {
    let mapping = |n: u64, sharing, backing, name: &[u8]| Mapping {
        range: AddrRange::new(n << 24, (n << 24) + (1 << 20)),
        protection: Protection { read: true, write: n.is_multiple_of(2), exec: n == 3 },
        sharing,
        backing,
        name: name.to_vec(),
        vm_flags: vec![*b"rd", *b"mr"],
        guards: if n == 2 { vec![AddrRange::new(2 << 24, (2 << 24) + 4096)] } else { Vec::new() },
    };
    let special = |n, special| mapping(n, Sharing::Private, Backing::Special(special), b"[x]");
    let object = Backing::SharedObject { object: 1, offset_bytes: 8192 };
    let image = Backing::File { file: file(b"/usr/bin/golden"), offset_bytes: 4096 };
    AddressSpace {
        mappings: vec![
            mapping(2, Sharing::Private, Backing::Anonymous, b"[heap]"),
            mapping(3, Sharing::Private, image, b""),
            mapping(4, Sharing::Shared, object, b""),
            special(5, SpecialMapping::Vdso),
            special(6, SpecialMapping::Vvar),
            special(7, SpecialMapping::VvarVclock),
            special(8, SpecialMapping::Vsyscall),
            special(9, SpecialMapping::Other),
        ],
        layout: MmLayout {
            start_code: 1,
            end_code: 2,
            start_data: 3,
            end_data: 4,
            start_brk: 5,
            brk: 6,
            start_stack: 7,
            arg_start: 8,
            arg_end: 9,
            env_start: 10,
            env_end: 11,
        },
        auxv: vec![33, 0, 0, 0, 0, 0, 0, 0],
        lock_future: true,
        lock_future_on_fault: false,
        membarrier: None,
        vdso_hash: [0x5a; 32],
    }
}

fn objects() -> Vec<SharedObject> {
    let kinds = [
        SharedObjectKind::Memfd { name: b"golden".to_vec(), seals: 5 },
        SharedObjectKind::PosixShm {
            path: b"/dev/shm/golden".to_vec(),
            deleted: true,
            mode: 0o600,
            uid: 1000,
            gid: 100,
        },
        SharedObjectKind::Anonymous,
    ];
    let object = |kind| SharedObject { kind, size_bytes: 1 << 20, device: 1, inode: 77 };
    kinds.into_iter().map(object).collect()
}

fn descriptions() -> Vec<Description> {
    let kinds = [
        DescriptionKind::File(RegularFile { identity: file(b"/var/log/x"), mode: 0o100_644 }),
        DescriptionKind::StatelessDevice { path: b"/dev/null".to_vec() },
        DescriptionKind::Terminal { path: b"/dev/pts/3".to_vec() },
        DescriptionKind::SharedObject(2),
        DescriptionKind::Pipe { pipe: PipeId(0), end: PipeEnd::Read },
        DescriptionKind::EventFd { count: u64::MAX - 1, semaphore: true },
        DescriptionKind::Epoll {
            interests: vec![EpollInterest {
                fd: 5,
                description: DescriptionId(5),
                events: 0x8000_0001,
                data: u64::MAX,
            }],
        },
        DescriptionKind::TimerFd(TimerFd {
            clock: 1,
            ticks: 4,
            settime_flags: 3,
            setting: timer(5),
        }),
        DescriptionKind::SignalFd { mask: SignalSet(2) },
        DescriptionKind::Socket(2),
        DescriptionKind::External { name: b"pipe:[1234]".to_vec() },
        DescriptionKind::Pipe { pipe: PipeId(0), end: PipeEnd::Write },
        DescriptionKind::Pipe { pipe: PipeId(0), end: PipeEnd::Both },
    ];
    let lock = |kind| FileLock { kind, exclusive: true, start: 10, end: u64::MAX };
    let locks = [FileLockKind::Flock, FileLockKind::Posix, FileLockKind::OpenFileDescription];
    let describe = |(i, kind): (u64, DescriptionKind)| Description {
        kind,
        flags: 0o100_002,
        position_bytes: 4096 * i,
        owner: (i == 0).then_some((1, -12)),
        owner_signal: 29,
        locks: if i == 0 { locks.map(lock).to_vec() } else { Vec::new() },
        external: i == 10,
    };
    (0..).zip(kinds).map(describe).collect()
}

fn sockets() -> Vec<Socket> {
    let kinds = [
        (SocketFamily::Unix, SocketType::Stream, SocketState::Pair),
        (SocketFamily::Unix, SocketType::SeqPacket, SocketState::Pair),
        (SocketFamily::Inet, SocketType::Stream, SocketState::Listening),
        (SocketFamily::Inet6, SocketType::Datagram, SocketState::Connected),
        (SocketFamily::Inet, SocketType::Stream, SocketState::ClosedByPeer),
        (SocketFamily::Inet, SocketType::Datagram, SocketState::Idle),
    ];
    let socket = |(i, (family, kind, state)): (u32, _)| Socket {
        inode: 500 + u64::from(i),
        family,
        kind,
        protocol: 6,
        state,
        local: (i > 1).then(|| SocketAddress { bytes: vec![2, 0, 0x18, 0xeb, 127, 0, 0, 1] }),
        remote: (i == 3).then(|| SocketAddress { bytes: Vec::new() }),
        backlog: 511,
        options: vec![SocketOption { level: 1, name: 2, value: vec![1, 0, 0, 0] }],
        peer: (i < 2).then_some(1 - i.min(1)),
        receive_queue: vec![b"hello".to_vec(), Vec::new()],
        file_mode: (i == 0).then_some((0o140_755, 0, 4711)),
    };
    (0..).zip(kinds).map(socket).collect()
}

fn credentials() -> Credentials {
    Credentials {
        uids: [1000, 1001, 1002, 1003],
        gids: [100, 101, 102, 103],
        groups: vec![27, 4],
        capabilities: Capabilities {
            inheritable: 1,
            permitted: 2,
            effective: 4,
            bounding: (1 << 41) - 1,
            ambient: 8,
        },
        securebits: 0x2f,
        no_new_privs: true,
        seccomp_filters: vec![SeccompFilter {
            program: vec![6, 0, 0, 0, 0, 0, 255, 127],
            flags: 1,
        }],
    }
}
