//! Descriptors: what was captured is what the child set up, and it stays there.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use process::{
    Description, DescriptionKind, FileLockKind, Instance, PipeEnd, SharedObjectKind, SocketState,
};
use support::{Guarded, instance, python};

fn description(instance: &Instance, fd: u64) -> &Description {
    let fd = i32::try_from(fd).unwrap();
    let found = instance.tables[0].descriptors.iter().find(|d| d.fd == fd).unwrap();
    &instance.descriptions[usize::try_from(found.description.0).unwrap()]
}

/// What `/proc` shows of the child's descriptors, timers' time left aside.
fn seen(child: &Guarded) -> Vec<String> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", child.pid())).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let stays = |line: &&str| !line.starts_with("it_value");
        let kept: Vec<_> = text.lines().filter(stays).collect();
        seen.push(format!("{} {}", path.display(), kept.join("; ")));
    }
    seen.sort();
    seen
}

#[test]
fn files_and_locks() {
    let folder = tempfile::tempdir().unwrap();
    let Some(child) = python(&format!(
        "
os.chdir({folder:?})
a = os.open('log', os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
os.write(a, b'0123456789')
os.lseek(a, 4, 0)
b = os.dup(a)
os.set_inheritable(b, True)
c = os.open('log', os.O_RDONLY)
d = os.open('.', os.O_RDONLY | os.O_DIRECTORY)
fcntl.flock(a, fcntl.LOCK_EX)
fcntl.lockf(os.open('lock', os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX, 10, 5)
n = os.open('/dev/null', os.O_WRONLY)
p = os.open('log', os.O_PATH)
tell(a, b, c, d, n, p)
",
        folder = folder.path().to_str().unwrap()
    )) else {
        return;
    };
    let before = seen(&child);
    let instance = instance(&child);
    assert_eq!(before, seen(&child));
    let fd = |n: usize| child.number(0, n);
    let a = description(&instance, fd(0));
    assert!(std::ptr::eq(a, description(&instance, fd(1))), "one description for two numbers");
    assert!(!std::ptr::eq(a, description(&instance, fd(2))), "opened twice");
    let DescriptionKind::File(file) = &a.kind else { panic!("{a:?}") };
    let path = folder.path().join("log");
    assert_eq!(file.identity.path, path.as_os_str().as_encoded_bytes());
    assert_eq!((file.identity.size_bytes, file.mode & 0o7777), (10, 0o640));
    assert_eq!(a.position_bytes, 4);
    let append_read_write = u32::try_from(libc::O_APPEND | libc::O_RDWR).unwrap();
    assert_eq!(a.flags & 0o2003, append_read_write & 0o2003);
    assert_eq!(a.locks.len(), 1);
    assert_eq!((a.locks[0].kind, a.locks[0].exclusive), (FileLockKind::Flock, true));
    let posix: Vec<_> = instance.descriptions.iter().flat_map(|d| &d.locks).collect();
    assert!(posix.iter().any(|l| l.kind == FileLockKind::Posix && (l.start, l.end) == (5, 14)));
    assert!(matches!(description(&instance, fd(3)).kind, DescriptionKind::File(_)));
    let null = description(&instance, fd(4));
    assert_eq!(null.kind, DescriptionKind::StatelessDevice { path: b"/dev/null".to_vec() });
    assert!(matches!(description(&instance, fd(5)).kind, DescriptionKind::File(_)));
    let cloexec = |n| {
        let fd = i32::try_from(fd(n)).unwrap();
        instance.tables[0].descriptors.iter().find(|d| d.fd == fd).unwrap().close_on_exec
    };
    assert!(cloexec(0) && !cloexec(1));
}

#[test]
fn pipes_and_events() {
    let Some(child) = python(
        "
r, w = os.pipe()
fcntl.fcntl(w, 1031, 1 << 17)
os.write(w, b'left in the pipe')
pr, pw = os.pipe2(os.O_DIRECT)
os.write(pw, b'one'); os.write(pw, b'two')
e = call(290, 7, 1 | 0x80000)
t = call(283, 1, 0)
call(286, t, 0, struct.pack('4q', 3, 500, 500, 0), 0)
s = call(289, -1, struct.pack('Q', 1 << 9 | 1 << 2), 8, 0)
ep = call(291, 0)
def add(fd, events, data, to=None):
    call(233, to or ep, 1, fd, struct.pack('=IQ', events, data))
add(r, 0x80000001, 0xdeadbeefcafe1234)
add(e, 1, 5)
# Watched under a number that means something else by now.
x, y = os.pipe()
add(x, 1, 6)
kept = os.dup(x)
number = x
os.close(x)
other = os.open('/dev/null', os.O_RDONLY)
os.dup2(other, number)
outer = call(291, 0)
add(ep, 1, 7, outer)
tell(r, w, pr, pw, e, t, s, ep, kept, number, outer)
",
    ) else {
        return;
    };
    let before = seen(&child);
    let instance = instance(&child);
    assert_eq!(before, seen(&child));
    let fd = |n: usize| child.number(0, n);
    let pipe = |n: usize| match description(&instance, fd(n)).kind {
        DescriptionKind::Pipe { pipe, end } => (pipe, end),
        ref other => panic!("{other:?}"),
    };
    assert_eq!(pipe(0).0, pipe(1).0);
    assert_eq!((pipe(0).1, pipe(1).1), (PipeEnd::Read, PipeEnd::Write));
    let node = |n: usize| &instance.pipes[usize::try_from(pipe(n).0.0).unwrap()];
    assert_eq!(node(0).content, [b"left in the pipe".to_vec()]);
    assert_eq!(node(0).capacity_bytes, 1 << 17);
    assert_eq!(node(2).content, [b"one".to_vec(), b"two".to_vec()]);
    let kind = |n: usize| &description(&instance, fd(n)).kind;
    assert_eq!(*kind(4), DescriptionKind::EventFd { count: 7, semaphore: true });
    let DescriptionKind::TimerFd(timer) = kind(5) else { panic!() };
    assert_eq!((timer.clock, timer.setting.interval_ns), (1, 3_000_000_500));
    assert!(timer.setting.value_ns > 490_000_000_000);
    let DescriptionKind::SignalFd { mask } = kind(6) else { panic!() };
    assert_eq!(mask.0, 1 << 9 | 1 << 2);
    let DescriptionKind::Epoll { interests } = kind(7) else { panic!() };
    let by_data = |data: u64| interests.iter().find(|i| i.data == data).unwrap();
    let edge = by_data(0xdead_beef_cafe_1234);
    assert_eq!(
        (u64::from(edge.fd.cast_unsigned()), edge.events & 0x8000_0001),
        (fd(0), 0x8000_0001)
    );
    let watched = by_data(6);
    assert_eq!(u64::from(watched.fd.cast_unsigned()), fd(9));
    let real = &instance.descriptions[usize::try_from(watched.description.0).unwrap()];
    assert!(std::ptr::eq(real, description(&instance, fd(8))), "the file, not the number");
    let DescriptionKind::Epoll { interests } = kind(10) else { panic!() };
    assert_eq!((interests.len(), interests[0].data), (1, 7));
}

#[test]
fn sockets() {
    let folder = tempfile::tempdir().unwrap();
    // Somebody else's, as a system logger's would be.
    let log = std::os::unix::net::UnixDatagram::bind(folder.path().join("log")).unwrap();
    let Some(child) = python(&format!(
        "
os.chdir({folder:?})
t = socket.socket()
t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
t.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 3)
t.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
t.bind(('127.0.0.1', 0)); t.listen(77)
t6 = socket.socket(socket.AF_INET6)
t6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
t6.bind(('::1', 0)); t6.listen(5)
u = socket.socket(socket.AF_UNIX)
u.bind({folder:?} + '/s'); os.chmod('s', 0o660); u.listen(9)
g = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); g.bind('\\0rekindle' + str(os.getpid()))
a, b = socket.socketpair()
a.send(b'waiting')
d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); d.bind(('127.0.0.1', 0))
i = socket.socket()
l, m = socket.socketpair(); m.close()
o = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); o.connect({folder:?} + '/log')
tell(*[x.fileno() for x in (t, t6, u, g, a, b, d, i, l, o)])
tell(t.getsockname()[1])
",
        folder = folder.path().to_str().unwrap()
    )) else {
        return;
    };
    let before = seen(&child);
    let instance = instance(&child);
    assert_eq!(before, seen(&child));
    let socket = |n: usize| match description(&instance, child.number(0, n)).kind {
        DescriptionKind::Socket(number) => &instance.sockets[usize::try_from(number).unwrap()],
        ref other => panic!("{other:?}"),
    };
    let tcp = socket(0);
    assert_eq!((tcp.state, tcp.backlog), (SocketState::Listening, 77));
    let port = u16::try_from(child.number(1, 0)).unwrap();
    assert_eq!(tcp.local.as_ref().unwrap().bytes[2..4], port.to_be_bytes());
    let options: Vec<_> = tcp.options.iter().map(|o| (o.level, o.name)).collect();
    for wanted in [
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
        (libc::SOL_SOCKET, libc::SO_RCVBUF),
    ] {
        assert!(options.contains(&wanted), "{options:?}");
    }
    let buffer = tcp.options.iter().find(|o| o.name == libc::SO_RCVBUF && o.level == 1).unwrap();
    assert_eq!(buffer.value, 20000i32.to_ne_bytes());
    assert!(socket(1).options.iter().any(|o| o.name == libc::IPV6_V6ONLY));
    let unix = socket(2);
    assert_eq!((unix.state, unix.backlog), (SocketState::Listening, 9));
    assert_eq!(unix.file_mode, Some((0o660, 0, 0)));
    assert_eq!(socket(3).state, SocketState::Idle);
    assert_eq!(socket(3).local.as_ref().unwrap().bytes[2], 0);
    assert_eq!((socket(4).state, socket(5).state), (SocketState::Pair, SocketState::Pair));
    assert_eq!(socket(5).receive_queue, [b"waiting".to_vec()]);
    assert!(socket(4).receive_queue.is_empty());
    let peer = |n: usize| &instance.sockets[usize::try_from(socket(n).peer.unwrap()).unwrap()];
    assert!(std::ptr::eq(peer(4), socket(5)) && std::ptr::eq(peer(5), socket(4)));
    assert!(socket(6).local.is_some());
    assert_eq!((socket(7).state, &socket(7).local), (SocketState::Idle, &None));
    assert_eq!(socket(8).state, SocketState::ClosedByPeer);
    assert_eq!(socket(9).state, SocketState::Connected);
    assert!(socket(9).remote.as_ref().unwrap().bytes.ends_with(b"/log\0"));
    drop(log);
}

#[test]
fn memfds_that_are_only_held() {
    let Some(child) = python(
        "
m = os.memfd_create('held', os.MFD_ALLOW_SEALING)
os.write(m, b'x' * 5000)
fcntl.fcntl(m, 1033, 2)
tell(m)
",
    ) else {
        return;
    };
    let (captured, pages) = support::whole(&child);
    let instance = &captured.instance;
    let DescriptionKind::SharedObject(number) = description(instance, child.number(0, 0)).kind
    else {
        panic!()
    };
    let object = &instance.objects[usize::try_from(number).unwrap()];
    let held = SharedObjectKind::Memfd { name: b"held".to_vec(), seals: 2 };
    assert_eq!((&object.kind, object.size_bytes), (&held, 5000));
    assert_eq!(description(instance, child.number(0, 0)).position_bytes, 5000);
    let id = mem::MemoryId::Shared(number);
    assert_eq!(pages.page(id, 0).unwrap(), vec![b'x'; 4096]);
    let last = pages.page(id, 1).unwrap();
    assert!(last[..904].iter().all(|b| *b == b'x') && last[904..].iter().all(|b| *b == 0));
}
