//! An arbitrary instance whose indices all lead somewhere.

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

use super::Draw;

pub(crate) fn arbitrary_instance(draw: &mut Draw) -> Instance {
    let mut instance = Instance {
        line: LineIdentity {
            instance: draw
                .maybe(|draw| InstanceId::from_hash(&[draw.u8(); 32]))
                .unwrap_or_default(),
            boot_id: draw.text(),
            pid_namespace: draw.u64(),
            pid: draw.i32(),
            start_time_ticks: draw.u64(),
        },
        host: host(draw),
        objects: draw.list(3, shared_object),
        pipes: draw.list(3, |draw| Pipe {
            inode: draw.u64(),
            capacity_bytes: draw.u64(),
            content: draw.list(3, Draw::bytes),
            fifo_path: draw.bytes(),
        }),
        sockets: draw.list(3, socket),
        credentials: draw.list(2, credentials),
        namespaces: draw.list(2, namespaces),
        terminals: draw.list(2, |draw| Terminal { device: draw.u64(), path: draw.bytes() }),
        ..Instance::default()
    };
    let sockets = instance.sockets.len();
    for socket in &mut instance.sockets {
        socket.peer = draw.maybe(|draw| draw.index(&vec![(); sockets]));
    }
    instance.spaces = draw.list(2, |draw| space(draw, &instance));
    let descriptions = usize::from(draw.u8() % 12);
    instance.descriptions =
        (0..descriptions).map(|_| description(draw, &instance, descriptions)).collect();
    if descriptions > 0 {
        instance.tables = draw.list(2, |draw| DescriptorTable {
            descriptors: draw.list(5, |draw| Descriptor {
                fd: draw.i32(),
                close_on_exec: draw.bool(),
                description: DescriptionId(draw.index(&instance.descriptions)),
            }),
        });
    }
    let complete = !instance.spaces.is_empty()
        && !instance.tables.is_empty()
        && !instance.credentials.is_empty()
        && !instance.namespaces.is_empty();
    if complete {
        instance.groups = draw.list(2, |draw| group(draw, &instance));
    }
    instance
}

fn host(draw: &mut Draw) -> Host {
    Host {
        boot_id: draw.text(),
        kernel_release: draw.text(),
        host_name: draw.text(),
        cpu_name: draw.text(),
        xcr0: draw.u64(),
        xstate_in_use: draw.u64(),
        hwcap: [draw.u64(), draw.u64()],
        cpu_flags: draw.list(4, Draw::text),
        clocks: Clocks {
            realtime_ns: draw.time_ns(),
            monotonic_ns: draw.time_ns(),
            boottime_ns: draw.time_ns(),
        },
    }
}

fn group(draw: &mut Draw, instance: &Instance) -> TaskGroup {
    TaskGroup {
        pid: draw.i32(),
        pid_outside: draw.i32(),
        parent_pid: draw.i32(),
        process_group: draw.i32(),
        session: draw.i32(),
        terminal: match instance.terminals.is_empty() {
            true => None,
            false => draw.maybe(|draw| TerminalId(draw.index(&instance.terminals))),
        },
        threads: draw.list(3, thread),
        space: SpaceId(draw.index(&instance.spaces)),
        table: TableId(draw.index(&instance.tables)),
        credentials: CredentialsId(draw.index(&instance.credentials)),
        namespaces: NamespacesId(draw.index(&instance.namespaces)),
        signal_actions: draw.list(3, |draw| SignalAction {
            handler: draw.u64(),
            flags: draw.u64(),
            restorer: draw.u64(),
            mask: SignalSet(draw.u64()),
        }),
        pending_signals: draw.list(2, signal),
        interval_timers: std::array::from_fn(|_| IntervalTimer { setting: timer(draw) }),
        posix_timers: draw.list(3, |draw| PosixTimer {
            id: draw.i32(),
            clock: draw.i32(),
            notify: match draw.u8() % 3 {
                0 => PosixTimerNotify::None,
                1 => PosixTimerNotify::Process,
                _ => PosixTimerNotify::Thread(draw.i32()),
            },
            signal: draw.i32(),
            value: draw.u64(),
            setting: timer(draw),
            overrun: draw.i32(),
        }),
        exe: draw.bytes(),
        cwd: draw.bytes(),
        root: draw.bytes(),
        umask: draw.u32(),
        personality: draw.u32(),
        rlimits: draw.list(16, |draw| (draw.u64(), draw.u64())),
        dumpable: draw.u32(),
        oom_score_adj: draw.i32(),
        coredump_filter: draw.u32(),
        child_subreaper: draw.bool(),
        thp_disable: draw.bool(),
        parent_death_signal: draw.i32(),
        exit_signal: draw.i32(),
        cgroups: draw.list(2, Draw::bytes),
        lsm_label: draw.bytes(),
        is_stopped: draw.bool(),
    }
}

fn thread(draw: &mut Draw) -> Thread {
    Thread {
        tid: draw.i32(),
        tid_outside: draw.i32(),
        name: draw.bytes(),
        registers: GeneralRegisters::from_words(std::array::from_fn(|_| draw.u64())),
        xstate: draw.bytes(),
        blocked_signals: SignalSet(draw.u64()),
        pending_signals: draw.list(2, signal),
        alternate_stack: AlternateStack {
            base: draw.u64(),
            flags: draw.u32(),
            size_bytes: draw.u64(),
        },
        robust_list: RobustList { head: draw.u64(), size_bytes: draw.u64() },
        rseq: draw.maybe(|draw| Rseq {
            address: draw.u64(),
            size_bytes: draw.u32(),
            signature: draw.u32(),
            flags: draw.u32(),
        }),
        clear_child_tid: draw.u64(),
        scheduling: Scheduling {
            policy: draw.u32(),
            flags: draw.u64(),
            nice: draw.i32(),
            priority: draw.u32(),
            runtime_ns: draw.u64(),
            deadline_ns: draw.u64(),
            period_ns: draw.u64(),
            affinity: draw.list(3, Draw::u64),
            io_priority: draw.u32(),
        },
        timer_slack_ns: draw.u64(),
        seccomp_mode: draw.u32(),
        no_new_privs: draw.bool(),
    }
}

fn signal(draw: &mut Draw) -> QueuedSignal {
    let byte = draw.u8();
    QueuedSignal { siginfo: std::array::from_fn(|i| byte ^ u8::try_from(i).unwrap()) }
}

fn timer(draw: &mut Draw) -> TimerSetting {
    TimerSetting { value_ns: draw.u64(), interval_ns: draw.u64() }
}

fn file(draw: &mut Draw) -> FileIdentity {
    FileIdentity {
        path: draw.bytes(),
        device: draw.u64(),
        inode: draw.u64(),
        size_bytes: draw.u64(),
        mtime_ns: draw.time_ns(),
        ctime_ns: draw.time_ns(),
        build_id: draw.bytes(),
        deleted: draw.bool(),
    }
}

fn space(draw: &mut Draw, instance: &Instance) -> AddressSpace {
    AddressSpace {
        mappings: draw.list(8, |draw| mapping(draw, instance)),
        layout: MmLayout {
            start_code: draw.u64(),
            end_code: draw.u64(),
            start_data: draw.u64(),
            end_data: draw.u64(),
            start_brk: draw.u64(),
            brk: draw.u64(),
            start_stack: draw.u64(),
            arg_start: draw.u64(),
            arg_end: draw.u64(),
            env_start: draw.u64(),
            env_end: draw.u64(),
        },
        auxv: draw.bytes(),
        lock_future: draw.bool(),
        lock_future_on_fault: draw.bool(),
        membarrier: draw.bool().then_some(0x14),
        vdso_hash: std::array::from_fn(|_| draw.u8()),
    }
}

fn mapping(draw: &mut Draw, instance: &Instance) -> Mapping {
    const SPECIAL: &[SpecialMapping] = &[
        SpecialMapping::Vdso,
        SpecialMapping::Vvar,
        SpecialMapping::VvarVclock,
        SpecialMapping::Vsyscall,
        SpecialMapping::Other,
    ];
    let backing = match draw.u8() % 4 {
        1 => Backing::File { file: file(draw), offset_bytes: draw.u64() },
        2 if !instance.objects.is_empty() => Backing::SharedObject {
            object: draw.index(&instance.objects),
            offset_bytes: draw.u64(),
        },
        3 => Backing::Special(draw.one_of(SPECIAL)),
        _ => Backing::Anonymous,
    };
    Mapping {
        range: range(draw),
        protection: Protection { read: draw.bool(), write: draw.bool(), exec: draw.bool() },
        sharing: if draw.bool() { Sharing::Shared } else { Sharing::Private },
        backing,
        name: draw.bytes(),
        vm_flags: draw.list(5, |draw| draw.one_of(&[*b"rd", *b"gd", *b"??"])),
        guards: draw.list(2, range),
    }
}

fn range(draw: &mut Draw) -> AddrRange {
    let (one, other) = (draw.u64(), draw.u64());
    AddrRange::new(one.min(other), one.max(other))
}

fn shared_object(draw: &mut Draw) -> SharedObject {
    let kind = match draw.u8() % 3 {
        0 => SharedObjectKind::Anonymous,
        1 => SharedObjectKind::Memfd { name: draw.bytes(), seals: draw.u32() },
        _ => SharedObjectKind::PosixShm {
            path: draw.bytes(),
            deleted: draw.bool(),
            mode: draw.u32(),
            uid: draw.u32(),
            gid: draw.u32(),
        },
    };
    SharedObject { kind, size_bytes: draw.u64(), device: draw.u64(), inode: draw.u64() }
}

fn description(draw: &mut Draw, instance: &Instance, descriptions: usize) -> Description {
    const LOCKS: &[FileLockKind] =
        &[FileLockKind::Flock, FileLockKind::Posix, FileLockKind::OpenFileDescription];
    Description {
        kind: description_kind(draw, instance, descriptions),
        flags: draw.u32(),
        position_bytes: draw.u64(),
        owner: draw.maybe(|draw| (draw.i32(), draw.i32())),
        owner_signal: draw.i32(),
        locks: draw.list(2, |draw| FileLock {
            kind: draw.one_of(LOCKS),
            exclusive: draw.bool(),
            start: draw.u64(),
            end: draw.u64(),
        }),
        external: draw.bool(),
    }
}

fn description_kind(draw: &mut Draw, instance: &Instance, descriptions: usize) -> DescriptionKind {
    const ENDS: &[PipeEnd] = &[PipeEnd::Read, PipeEnd::Write, PipeEnd::Both];
    match draw.u8() % 11 {
        1 => DescriptionKind::StatelessDevice { path: draw.bytes() },
        2 => DescriptionKind::Terminal { path: draw.bytes() },
        3 if !instance.objects.is_empty() => {
            DescriptionKind::SharedObject(draw.index(&instance.objects))
        }
        4 if !instance.pipes.is_empty() => DescriptionKind::Pipe {
            pipe: PipeId(draw.index(&instance.pipes)),
            end: draw.one_of(ENDS),
        },
        5 => DescriptionKind::EventFd { count: draw.u64(), semaphore: draw.bool() },
        6 => DescriptionKind::Epoll {
            interests: draw.list(3, |draw| EpollInterest {
                fd: draw.i32(),
                description: DescriptionId(draw.index(&vec![(); descriptions])),
                events: draw.u32(),
                data: draw.u64(),
            }),
        },
        7 => DescriptionKind::TimerFd(TimerFd {
            clock: draw.i32(),
            ticks: draw.u64(),
            settime_flags: draw.u32(),
            setting: timer(draw),
        }),
        8 => DescriptionKind::SignalFd { mask: SignalSet(draw.u64()) },
        9 if !instance.sockets.is_empty() => DescriptionKind::Socket(draw.index(&instance.sockets)),
        10 => DescriptionKind::External { name: draw.bytes() },
        _ => DescriptionKind::File(RegularFile { identity: file(draw), mode: draw.u32() }),
    }
}

fn socket(draw: &mut Draw) -> Socket {
    const FAMILIES: &[SocketFamily] =
        &[SocketFamily::Unix, SocketFamily::Inet, SocketFamily::Inet6];
    const TYPES: &[SocketType] = &[SocketType::Stream, SocketType::Datagram, SocketType::SeqPacket];
    const STATES: &[SocketState] = &[
        SocketState::Idle,
        SocketState::Listening,
        SocketState::Pair,
        SocketState::ClosedByPeer,
        SocketState::Connected,
    ];
    Socket {
        inode: draw.u64(),
        family: draw.one_of(FAMILIES),
        kind: draw.one_of(TYPES),
        protocol: draw.i32(),
        state: draw.one_of(STATES),
        local: draw.maybe(|draw| SocketAddress { bytes: draw.bytes() }),
        remote: draw.maybe(|draw| SocketAddress { bytes: draw.bytes() }),
        backlog: draw.u32(),
        options: draw.list(3, |draw| SocketOption {
            level: draw.i32(),
            name: draw.i32(),
            value: draw.bytes(),
        }),
        peer: None,
        receive_queue: draw.list(2, Draw::bytes),
        file_mode: draw.maybe(|draw| (draw.u32(), draw.u32(), draw.u32())),
    }
}

fn credentials(draw: &mut Draw) -> Credentials {
    Credentials {
        uids: std::array::from_fn(|_| draw.u32()),
        gids: std::array::from_fn(|_| draw.u32()),
        groups: draw.list(4, Draw::u32),
        capabilities: Capabilities {
            inheritable: draw.u64(),
            permitted: draw.u64(),
            effective: draw.u64(),
            bounding: draw.u64(),
            ambient: draw.u64(),
        },
        securebits: draw.u32(),
        no_new_privs: draw.bool(),
        seccomp_filters: draw
            .list(2, |draw| SeccompFilter { program: draw.bytes(), flags: draw.u64() }),
    }
}

fn namespaces(draw: &mut Draw) -> Namespaces {
    const KINDS: &[NamespaceKind] = &[
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
    ];
    Namespaces {
        entries: draw.list(4, |draw| Namespace {
            kind: draw.one_of(KINDS),
            inode: draw.u64(),
            is_callers: draw.bool(),
        }),
    }
}
