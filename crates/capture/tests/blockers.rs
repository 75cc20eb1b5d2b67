//! Each kind of state that cannot be carried is named, with what lifts it, and nothing is touched.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use process::{Blocker, StateKind};
use rekindle_capture::{Options, TcpPolicy, look};
use support::{Guarded, blockers, python};

/// Starts `script` and checks that it is blocked by exactly one kind, which names an object that
/// holds `object`.
fn check(kind: StateKind, object: &str, script: &str) -> Option<(Guarded, Vec<Blocker>)> {
    let child = python(script)?;
    let found = blockers(&child.process(), &Options::default());
    assert!(!found.is_empty(), "nothing blocks:\n{script}");
    for blocker in &found {
        assert_eq!(blocker.kind, kind, "{found:#?}\n{script}");
        assert!(!blocker.lift.is_empty());
    }
    assert!(found.iter().any(|b| b.object.contains(object)), "{found:#?}");
    Some((child, found))
}

#[test]
fn descriptors_of_every_refused_kind() {
    let cases = [
        (StateKind::Inotify, "inotify", "call(294, 0)"),
        (StateKind::Fanotify, "fanotify", "need('fanotify', lambda: call(300, 0, 0))"),
        (
            StateKind::IoUring,
            "io_uring",
            "need('io_uring', lambda: call(425, 4, ctypes.create_string_buffer(120)))",
        ),
        (StateKind::Userfaultfd, "userfaultfd", "need('userfaultfd', lambda: call(323, 1))"),
        (
            StateKind::PerfEvent,
            "perf_event",
            "need('perf', lambda: call(298, struct.pack('IIQQQQ', 1, 112, 0, 0, 0, 0) + b'\\0' * 80, 0, -1, -1, 0))",
        ),
        (
            StateKind::Bpf,
            "bpf-map",
            "need('bpf', lambda: call(321, 0, struct.pack('IIIII', 2, 4, 4, 1, 0) + b'\\0' * 100, 120))",
        ),
        (StateKind::PidFd, "pidfd", "os.pidfd_open(os.getpid())"),
        (StateKind::Namespace, "net:[", "os.open('/proc/self/ns/net', os.O_RDONLY)"),
        (
            StateKind::OtherSocket,
            "socket:[",
            "k = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
        ),
        (
            StateKind::Mqueue,
            "/rekindle",
            "need('mqueue', lambda: call(240, b'rekindle%d' % os.getpid(), 0o102, 0o600, None))\n\
             call(241, b'rekindle%d' % os.getpid())",
        ),
        (StateKind::Device, "ptmx", "m, s = os.openpty(); os.close(s)"),
        (StateKind::Terminal, "/dev/pts", "m, s = os.openpty(); os.close(m)"),
        (StateKind::RegularFile, "/proc/", "os.open('/proc/self/status', os.O_RDONLY)"),
        (
            StateKind::DeletedFile,
            "rekindle-gone",
            "f, p = tempfile.mkstemp('rekindle-gone'); os.unlink(p)",
        ),
        (
            StateKind::DeletedFile,
            "rekindle-moved",
            "f, p = tempfile.mkstemp('rekindle-moved'); open(p + '2', 'w'); os.rename(p + '2', p)\n\
             os.unlink(p)",
        ),
        (
            StateKind::FileLease,
            "lease",
            "f, p = tempfile.mkstemp(); g = os.open(p, os.O_RDONLY); os.close(f)\n\
             fcntl.fcntl(g, 1024, fcntl.F_RDLCK)",
        ),
        (
            StateKind::FileLease,
            "which has an owner",
            "d = os.open(tempfile.mkdtemp(), os.O_RDONLY)\n\
             need('dnotify', lambda: fcntl.fcntl(d, 1026, 4))",
        ),
        (
            StateKind::InFlightDescriptors,
            "socket:[",
            "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])",
        ),
        (
            StateKind::OtherSocket,
            "socket:[",
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 0))\n\
             m = struct.pack('4s4si', socket.inet_aton('224.1.2.3'), b'\\0' * 4, 1)\n\
             s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, m)",
        ),
        (
            StateKind::OtherSocket,
            "socket:[",
            "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 0))\n\
             m = socket.inet_pton(socket.AF_INET6, 'ff15::7') + struct.pack('i', 1)\n\
             s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, m)",
        ),
        (
            StateKind::UnixSocket,
            "whose other end is outside",
            "s = socket.socket(socket.AF_UNIX); s.bind('\\0rk%d' % os.getpid()); s.listen()\n\
             c = socket.socket(socket.AF_UNIX); c.connect('\\0rk%d' % os.getpid()); s.close()\n\
             s = socket.socket(socket.AF_UNIX); s.bind('\\0rj%d' % os.getpid()); s.listen()\n\
             d = socket.socket(socket.AF_UNIX); d.connect('\\0rj%d' % os.getpid())\n\
             c.close()",
        ),
    ];
    for (kind, object, script) in cases {
        check(kind, object, script);
    }
}

#[test]
fn mappings_of_every_refused_kind() {
    let cases = [
        (
            StateKind::SysvMemory,
            "SYSV",
            "i = need('shm', lambda: call(29, 0, 4096, 0o1600)); call(30, i, 0, 0); call(31, i, 0, None)",
        ),
        (
            StateKind::SysvIpc,
            "semaphores",
            "i = need('sem', lambda: call(64, 0, 1, 0o1600))\n\
             call(65, i, struct.pack('Hhh', 0, 1, 0x1000), 1)",
        ),
        // Somebody else was the last to operate on it.
        (
            StateKind::SysvIpc,
            "semaphores",
            "i = need('sem', lambda: call(64, 0, 1, 0o1600))\n\
             call(65, i, struct.pack('Hhh', 0, 1, 0x1000), 1)\n\
             p = os.fork()\n\
             if p == 0:\n    call(65, i, struct.pack('Hhh', 0, 1, 0), 1); os._exit(0)\n\
             os.waitpid(p, 0)",
        ),
        (
            StateKind::AsyncIo,
            "aio",
            "need('aio', lambda: call(206, 8, ctypes.byref(ctypes.c_ulong())))",
        ),
        (
            StateKind::SecretMemory,
            "secretmem",
            "f = need('secret memory', lambda: call(447, 0)); os.ftruncate(f, 4096)\n\
             a = mapping(4096, 3, 1, f); os.close(f)",
        ),
        (
            StateKind::UserfaultMapping,
            "mapping",
            "u = need('userfaultfd', lambda: call(323, 1)); a = mapping(8192)\n\
             fcntl.ioctl(u, 0xc018aa3f, struct.pack('3Q', 0xaa, 0, 0))\n\
             fcntl.ioctl(u, 0xc020aa00, struct.pack('4Q', a, 8192, 1, 0))",
        ),
        (
            StateKind::HugetlbMapping,
            "mapping",
            "need('huge pages', lambda: mapping(2 << 20, 3, 0x40022 | 0x4000))",
        ),
        (
            StateKind::DeletedFile,
            "rekindle-lib",
            "f, p = tempfile.mkstemp('rekindle-lib'); os.write(f, b'x' * 4096)\n\
             a = mapping(4096, 1, 2, f); os.close(f); os.unlink(p)",
        ),
    ];
    for (kind, object, script) in cases {
        let Some(child) = python(script) else { continue };
        let found = blockers(&child.process(), &Options::default());
        let named = found.iter().any(|b| b.kind == kind && b.object.contains(object));
        assert!(named, "{kind:?}: {found:#?}\n{script}");
        // A set of semaphores outlives its maker.
        if kind == StateKind::SysvIpc {
            drop(child);
            let list = std::fs::read_to_string("/proc/sysvipc/sem").unwrap();
            for id in list.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)) {
                let _ = std::process::Command::new("ipcrm").args(["-s", id]).status();
            }
        }
    }
}

#[test]
fn children_and_who_shares_memory() {
    // A fork that runs the same program usually ends soon; another program does not.
    let Some((_, found)) = check(
        StateKind::Children,
        "child process",
        "
p = os.fork()
if p == 0:
    libc.prctl(1, 9); time.sleep(1000)
",
    ) else {
        return;
    };
    assert!(found.iter().all(|b| b.transient), "{found:#?}");
    let (_, found) = check(
        StateKind::Children,
        "(sleep)",
        "
import subprocess
subprocess.Popen(['/bin/sleep', '1000'], preexec_fn=lambda: libc.prctl(1, 9))
",
    )
    .unwrap();
    assert!(found.iter().any(|b| !b.transient), "{found:#?}");
    // A grandchild is no child, but it shares the memory, the pipe and the lock's file.
    let child = python(
        "
a = mapping(4096, 3, 0x21)
r, w = os.pipe()
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
f, n = tempfile.mkstemp()
fcntl.lockf(f, fcntl.LOCK_EX)
p = os.fork()
if p == 0:
    q = os.fork()
    if q == 0:
        signal.alarm(30); time.sleep(1000)
    tell(q)
    os._exit(0)
os.waitpid(p, 0)
",
    )
    .unwrap();
    let grandchild = i32::try_from(child.number(0, 0)).unwrap();
    let grandchild = target::Process::open(grandchild).unwrap();
    let found = blockers(&child.process(), &Options::default());
    for kind in
        [StateKind::SharedMemory, StateKind::Pipe, StateKind::FileLock, StateKind::ListeningSocket]
    {
        let found = found.iter().find(|b| b.kind == kind);
        assert!(found.is_some_and(|b| b.holder.contains("python3")), "{kind:?} {found:?}");
    }
    assert!(found.len() >= 3, "{found:#?}");
    // Named as provided from outside, a pipe is no blocker.
    let external = (3..9).collect();
    let found = blockers(&child.process(), &Options { external, ..Options::default() });
    assert!(found.iter().all(|b| b.kind != StateKind::Pipe), "{found:#?}");
    grandchild.pidfd().send_signal(libc::SIGKILL).unwrap();
}

#[test]
fn connections_are_closed_or_refused() {
    let script = "
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
c = socket.create_connection(s.getsockname()); a, _ = s.accept()
c.send(b'unread'); time.sleep(0.05)
";
    let Some((child, found)) = check(StateKind::TcpConnection, "socket:[", script) else { return };
    assert!(found.iter().all(|b| b.lift.contains("--tcp close")));
    let close = Options { tcp: TcpPolicy::Close, ..Options::default() };
    let survey = look(&child.process(), &close).unwrap();
    assert!(survey.blockers().is_empty());
    assert_eq!(survey.changes().iter().filter(|c| c.what.contains("connection")).count(), 2);
    let process = child.process();
    let mut frozen = support::freeze(&process);
    let captured =
        rekindle_capture::state(&mut frozen, &survey, &process::LineIdentity::default()).unwrap();
    let unread = captured.instance.sockets.iter().flat_map(|s| s.receive_queue.concat());
    assert_eq!(unread.collect::<Vec<u8>>(), b"unread");
    drop(frozen);
    // One that waits to be accepted passes, once it has been.
    let (_, found) = check(
        StateKind::TcpConnection,
        "connections that wait",
        "
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
c = socket.create_connection(s.getsockname()); c.close(); time.sleep(0.05)
",
    )
    .unwrap();
    assert!(found.iter().all(|b| b.transient));
}

#[test]
fn threads_that_differ() {
    let cases = [
        (StateKind::MixedCredentials, "call(106, 1234)"),
        (
            StateKind::MixedCredentials,
            "call(126, struct.pack('IIQ', 0x20080522, 0, 0)[:8], ctypes.create_string_buffer(24))",
        ),
        (StateKind::Unknown, "libc.unshare(0x400)"),
        (StateKind::Unknown, "libc.unshare(0x200)"),
        (StateKind::Unknown, "libc.prctl(1, 10)"),
    ];
    for (kind, act) in cases {
        let Some(child) = python(&format!(
            "
go = threading.Event()
def body():
    {act}
    go.set(); time.sleep(1000)
threading.Thread(target=body, daemon=True).start()
go.wait()
"
        )) else {
            return;
        };
        let process = child.process();
        let survey = support::look(&process);
        let mut frozen = support::freeze(&process);
        let result =
            rekindle_capture::state(&mut frozen, &survey, &process::LineIdentity::default());
        let Err(rekindle_capture::StateError::Blocked(found)) = result else {
            panic!("{act}: {result:?}")
        };
        assert!(found.iter().all(|b| b.kind == kind), "{act}: {found:#?}");
    }
}

#[test]
fn a_tracer_a_namespace_and_a_supervisor() {
    let traced = python(
        "
p = os.fork()
if p == 0:
    libc.prctl(1, 9); time.sleep(1000)
tell(p)
call(101, 0x4206, p, 0, 0)
",
    )
    .unwrap();
    let pid = i32::try_from(traced.number(0, 0)).unwrap();
    let process = target::Process::open(pid).unwrap();
    let found = blockers(&process, &Options::default());
    let holder = format!("process {} (python3)", traced.pid());
    assert!(found.iter().any(|b| b.kind == StateKind::Tracer && b.holder == holder), "{found:#?}");

    let found = blockers(&traced.process(), &Options::default());
    assert!(found.iter().any(|b| b.kind == StateKind::Tracer && b.object.contains("its hold on")));

    let Some(spaced) = python("need('namespaces', lambda: call(272, 0x04000000))") else { return };
    let found = blockers(&spaced.process(), &Options::default());
    assert!(found.iter().any(|b| b.kind == StateKind::Namespace && b.object.contains("uts")));

    // The name is all that is known of a supervisor.
    let supervised = python(
        "
libc.prctl(15, b'runsv', 0, 0, 0)
p = os.fork()
if p == 0:
    libc.prctl(1, 9); time.sleep(1000)
tell(p)
",
    )
    .unwrap();
    let pid = i32::try_from(supervised.number(0, 0)).unwrap();
    let process = target::Process::open(pid).unwrap();
    let stop = Options { stop: true, ..Options::default() };
    let kinds = |options| -> Vec<StateKind> {
        blockers(&process, options).iter().map(|b| b.kind).collect()
    };
    assert!(kinds(&stop).contains(&StateKind::Supervisor));
    assert!(!kinds(&Options::default()).contains(&StateKind::Supervisor));
    // Any other parent only gets a note.
    let plain = python("pass").unwrap();
    let survey = look(&plain.process(), &stop).unwrap();
    assert!(survey.blockers().is_empty());
    assert!(survey.changes().iter().any(|c| c.kind == process::ChangeKind::Parent));
}

/// A program of 32-bit code that waits, without any compiler for such: a header and ten bytes.
#[test]
fn a_32_bit_program() {
    let mut elf = vec![0u8; 94];
    elf[..8].copy_from_slice(b"\x7fELF\x01\x01\x01\0");
    let half =
        |elf: &mut Vec<u8>, at: usize, n: u16| elf[at..at + 2].copy_from_slice(&n.to_le_bytes());
    let word =
        |elf: &mut Vec<u8>, at: usize, n: u32| elf[at..at + 4].copy_from_slice(&n.to_le_bytes());
    for (at, n) in [(16, 2), (18, 3), (40, 52), (42, 32), (44, 1)] {
        half(&mut elf, at, n);
    }
    let header =
        [(20, 1), (24, 0x0804_8054), (28, 52), (52, 1), (60, 0x0804_8000), (64, 0x0804_8000)];
    for (at, n) in header.into_iter().chain([(68, 94), (72, 94), (76, 5), (80, 4096)]) {
        word(&mut elf, at, n);
    }
    // mov eax, 29 (pause); int 0x80; jmp back.
    elf[84..93].copy_from_slice(&[0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    std::fs::write(&path, elf).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&path, mode).unwrap();
    let mut command = support::without_strays(path.to_str().unwrap());
    let child = Guarded::new(command.stdin(std::process::Stdio::null()).spawn().unwrap());
    let exe = || std::fs::read_link(format!("/proc/{}/exe", child.pid()));
    while exe().is_ok_and(|exe| exe != path) {
        std::thread::yield_now();
    }
    let found = blockers(&child.process(), &Options::default());
    assert!(
        found.iter().any(|b| b.kind == StateKind::Process && b.object.contains("32-bit")),
        "{found:#?}"
    );
}
