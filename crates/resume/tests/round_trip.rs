//! Programs that are captured, ended and resumed, and then check themselves.

mod support;

use rekindle_resume::{Options, PidPolicy};
use support::{Original, round_trip};

/// Threads go on with their own ids, names, stacks and locals.
#[test]
fn threads() {
    round_trip(
        r#"
counts, tids, stop = [0] * 3, [0] * 3, threading.Event()
local = threading.local()
def work(n):
    libc.prctl(15, b"worker-%d" % n)
    local.own, tids[n] = n, threading.get_native_id()
    while not stop.is_set():
        counts[n] += 1
        time.sleep(0.001)
    equal((local.own, threading.get_native_id()), (n, tids[n]))
    equal(open(f"/proc/self/task/{tids[n]}/comm").read(), f"worker-{n}\n")
    counts[n] = -1
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for t in threads: t.start()
while 0 in counts: time.sleep(0.001)
def after():
    then = counts[:]
    while any(a <= b for a, b in zip(counts, then)): time.sleep(0.001)
    stop.set()
    for t in threads: t.join()
    equal(counts, [-1] * 3)
go_on(after)
"#,
    );
}

/// Files: shared offsets, flags, append, locks; and a directory.
#[test]
fn files() {
    round_trip(
        r#"
one = os.open("one", os.O_RDWR | os.O_CREAT)
os.write(one, b"0123456789")
os.lseek(one, 4, 0)
two = os.dup(one)
three = os.open("one", os.O_RDONLY | os.O_CLOEXEC)
log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(log, b"first ")
folder_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
high = fcntl.fcntl(one, fcntl.F_DUPFD, 700)
fcntl.flock(log, fcntl.LOCK_EX)
fcntl.lockf(one, fcntl.LOCK_EX, 3, 2)
def after():
    equal(os.read(two, 2), b"45")
    equal(os.lseek(one, 0, 1), 6)
    equal(os.lseek(high, 0, 1), 6)
    equal(os.lseek(three, 0, 1), 0)
    equal(fcntl.fcntl(three, fcntl.F_GETFD), 1)
    equal(fcntl.fcntl(one, fcntl.F_GETFD), fcntl.FD_CLOEXEC)
    os.write(log, b"second")
    equal(open("log").read(), "first second")
    equal(os.fstat(folder_fd).st_ino, os.stat(folder).st_ino)
    again = os.open("log", os.O_WRONLY)
    try:
        fcntl.flock(again, fcntl.LOCK_SH | fcntl.LOCK_NB)
        raise AssertionError("the flock is gone")
    except BlockingIOError:
        pass
    locks = open(f"/proc/self/fdinfo/{one}").read()
    equal("POSIX  ADVISORY  WRITE" in locks and locks.split()[-2:] == ["2", "4"], True)
go_on(after)
"#,
    );
}

/// Pipes with content, packets and lost ends; eventfds, timerfds, signalfds.
#[test]
fn small_descriptors() {
    round_trip(
        r#"
r, w = os.pipe()
os.write(w, b"in the pipe")
fcntl.fcntl(w, 1031, 1 << 17)
pr, pw = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
os.write(pw, b"one"); os.write(pw, b"two")
event = call(290, 5, 0)
semaphore = call(290, 3, 1)
timer = call(283, 1, 0)
call(286, timer, 0, struct.pack("qqqq", 0, 50000000, 0, 50000000), 0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
signals = call(289, -1, struct.pack("Q", 1 << 11), 8, 0)
os.kill(os.getpid(), signal.SIGUSR2)
def after():
    equal(os.read(r, 100), b"in the pipe")
    equal(fcntl.fcntl(r, 1032), 1 << 17)
    equal((os.read(pr, 100), os.read(pr, 100)), (b"one", b"two"))
    equal(struct.unpack("Q", os.read(event, 8)), (5,))
    equal(struct.unpack("Q", os.read(semaphore, 8)), (1,))
    equal(struct.unpack("Q", os.read(timer, 8))[0] > 0, True)
    equal(struct.unpack("Q", os.read(timer, 8))[0] > 0, True)
    equal(struct.unpack("I", os.read(signals, 128)[:4]), (12,))
go_on(after)
"#,
    );
}

/// An epoll watches what it watched, also under a number that means something else now, and
/// another epoll.
#[test]
fn epolls() {
    round_trip(
        r#"
r, w = os.pipe()
inner, outer = select.epoll(), select.epoll()
inner.register(r, select.EPOLLIN | select.EPOLLET)
old, kept = os.pipe()
away = os.dup(old)
outer.register(old, select.EPOLLIN)
outer.register(inner.fileno(), select.EPOLLIN)
os.dup2(os.open("/dev/null", os.O_RDONLY), old)
def after():
    equal(outer.poll(0), [])
    os.write(w, b"x")
    equal(outer.poll(1), [(inner.fileno(), select.EPOLLIN)])
    equal(inner.poll(1), [(r, select.EPOLLIN)])
    equal(inner.poll(0), [])
    os.write(kept, b"y")
    equal(outer.poll(1), [(old, select.EPOLLIN)])
go_on(after)
"#,
    );
}

/// Memory: shared objects, holes, guards, protections, the break and a growing stack.
#[test]
fn memory() {
    round_trip(
        r#"
page = mmap.PAGESIZE
def at(view): return ctypes.addressof(ctypes.c_char.from_buffer(view))
memfd = os.memfd_create("block", os.MFD_ALLOW_SEALING)
os.ftruncate(memfd, 64 * page)
one, two = mmap.mmap(memfd, 64 * page), mmap.mmap(memfd, 8 * page, offset=16 * page)
two[:5] = b"hello"
fcntl.fcntl(memfd, 1033, 2 | 4)
shared = mmap.mmap(-1, 16 * page)
shared[5 * page:5 * page + 3] = b"abc"
area = libc.mmap(None, 8 * page, 3, 0x22, -1, 0)
ctypes.memmove(area, b"A" * (8 * page), 8 * page)
call(10, area + page, page, 1)
call(10, area + 2 * page, page, 0)
call(28, area + 4 * page, 2 * page, 4)
guarded = True
try: call(28, area + 7 * page, page, 102)
except OSError: guarded = False
brk = call(12, 0)
call(12, brk + 5 * page)
ctypes.memmove(brk + 4 * page, b"break", 5)
def after():
    equal(one[16 * page:16 * page + 5], b"hello")
    one[16 * page:16 * page + 5] = b"HELLO"
    equal(two[:5], b"HELLO")
    equal(os.pread(memfd, 5, 16 * page), b"HELLO")
    equal(fcntl.fcntl(memfd, 1034), 2 | 4)
    equal(os.readlink(f"/proc/self/fd/{memfd}"), "/memfd:block (deleted)")
    equal(shared[5 * page:5 * page + 4], b"abc\0")
    equal(ctypes.string_at(area + page, 2), b"AA")
    equal(ctypes.string_at(area + 4 * page, 2 * page), bytes(2 * page))
    rows = {l.split()[0]: l.split()[1] for l in open("/proc/self/maps")}
    equal(rows[f"{area + page:x}-{area + 2 * page:x}"], "r--p")
    equal(rows[f"{area + 2 * page:x}-{area + 3 * page:x}"], "---p")
    equal(call(12, 0), brk + 5 * page)
    equal(ctypes.string_at(brk + 4 * page, 5), b"break")
    call(12, brk + 9 * page)
    ctypes.memmove(brk + 8 * page, b"more", 4)
    if guarded:
        child = os.fork()
        if child == 0: ctypes.string_at(area + 7 * page, 1)
        equal(os.waitpid(child, 0)[1], signal.SIGSEGV)
    sys.setrecursionlimit(20000)
    def deep(n): return n if n == 0 else sorted([0], key=lambda _: deep(n - 1))[0]
    deep(800)
go_on(after)
"#,
    );
}

/// Signals: actions, masks, pending ones with their values in order, timers.
#[test]
fn signals() {
    round_trip(
        r#"
got = []
signal.signal(signal.SIGUSR2, lambda *_: got.append("usr2"))
signal.signal(signal.SIGALRM, lambda *_: got.append("alarm"))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, 40])
for value in (7, 8):
    info = struct.pack("iiiiiiq", 40, 0, -1, 0, os.getpid(), os.getuid(), value)
    call(129, os.getpid(), 40, info.ljust(128, b"\0"))
signal.setitimer(signal.ITIMER_REAL, 0.3)
timer = ctypes.c_int(0)
call(222, 1, struct.pack("Qiii", 99, 41, 0, 0).ljust(64, b"\0"), ctypes.byref(timer))
spare = ctypes.c_int(0)
call(222, 1, struct.pack("Qiii", 98, 42, 0, 0).ljust(64, b"\0"), ctypes.byref(spare))
call(226, timer.value)
signal.pthread_sigmask(signal.SIG_BLOCK, [42])
call(223, spare.value, 0, struct.pack("qqqq", 0, 20000000, 0, 20000000), 0)
def value_of(number):
    info = ctypes.create_string_buffer(128)
    equal(call(128, struct.pack("Q", 1 << (number - 1)), info, 0, 8), number)
    return struct.unpack("q", info.raw[24:32])[0]
def after():
    equal([value_of(40), value_of(40)], [7, 8])
    while "alarm" not in got: time.sleep(0.01)
    equal([value_of(42), value_of(42)], [98, 98])
    left = ctypes.create_string_buffer(32)
    call(224, spare.value, left)
    equal(struct.unpack("qqqq", left.raw)[1], 20000000)
    os.kill(os.getpid(), signal.SIGUSR2)
    equal("usr2" in got, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    equal("usr2" in got, True)
go_on(after)
"#,
    );
}

/// Sockets: listening ones take connections, pairs keep what was under way, a connection to the
/// outside ends after what had arrived.
#[test]
fn sockets() {
    round_trip(
        r#"
tcp = socket.create_server(("127.0.0.1", 0), backlog=7)
six = socket.create_server(("::1", 0), family=socket.AF_INET6) if socket.has_ipv6 else tcp
unix = socket.socket(socket.AF_UNIX)
unix.bind(folder + "/sock")
os.chmod(folder + "/sock", 0o640)
unix.listen(3)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
a, b = socket.socketpair()
a.send(b"to b"); b.send(b"to a")
c, d = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
port = tcp.getsockname()[1]
helper = os.fork()
if helper == 0:
    # Outside of what is captured: a client that stays connected.
    os.setsid()
    if os.fork(): os._exit(0)
    for s in (tcp, unix, udp, a, b, c, d, six): s.close()
    client = socket.create_connection(("127.0.0.1", port))
    client.send(b"unread")
    time.sleep(10)
    os._exit(0)
os.waitpid(helper, 0)
peer, _ = tcp.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while len(peer.recv(100, socket.MSG_PEEK)) < 6: pass
def reach(server, *address):
    client = socket.socket(server.family)
    client.connect(*address)
    conn, _ = server.accept()
    conn.send(b"hi")
    equal(client.recv(10), b"hi")
def after():
    equal(tcp.getsockname()[1], port)
    reach(tcp, ("127.0.0.1", port))
    reach(six, six.getsockname())
    reach(unix, folder + "/sock")
    equal(os.stat(folder + "/sock").st_mode & 0o777, 0o640)
    udp.sendto(b"self", udp.getsockname())
    equal(udp.recv(10), b"self")
    equal((a.recv(10), b.recv(10)), (b"to a", b"to b"))
    a.send(b"more")
    equal(b.recv(10), b"more")
    c.send(b"first"); c.send(b"second")
    equal((d.recv(100), d.recv(100)), (b"first", b"second"))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    equal(peer.getpeername()[0], "127.0.0.1")
    equal((peer.recv(100), peer.recv(100)), (b"unread", b""))
go_on(after)
"#,
    );
}

/// Credentials, limits and the rest of what a process is.
#[test]
fn credentials_and_limits() {
    round_trip(
        r#"
import resource
os.umask(0o27)
os.nice(3)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.sched_setaffinity(0, {0})
libc.prctl(36, 1, 0, 0, 0)
os.chmod(folder, 0o777)
os.setgroups([5, 6])
libc.prctl(24, 12, 0, 0, 0)
os.setresgid(1001, 1002, 1003)
os.setresuid(1001, 1002, 1003)
libc.prctl(38, 1, 0, 0, 0)
libc.prctl(4, 1, 0, 0, 0)
def facts():
    names = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
             "Umask", "Cpus_allowed_list")
    lines = [l for l in open("/proc/self/status") if l.split(":")[0] in names]
    return (lines, os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE),
            resource.getrlimit(resource.RLIMIT_CORE), os.getcwd(), libc.prctl(3))
before = facts()
def after():
    equal(facts(), before)
go_on(after)
"#,
    );
}

/// In a pid namespace of its own it sees the pid it had, a `/proc` that is right, and children
/// it can wait for.
#[test]
fn a_pid_namespace_of_its_own() {
    let image = Original::start(
        r#"
pid = os.getpid()
def after():
    equal((os.getpid(), os.getppid()), (pid, 1))
    equal(os.readlink("/proc/self"), str(pid))
    equal(open("/proc/1/comm").read(), "rekindle-init\n")
    child = os.fork()
    if child == 0: os._exit(9)
    equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 9)
go_on(after)
"#,
    )
    .stop();
    let options = Options { pid: PidPolicy::OwnNamespace, ..Options::default() };
    let resumed = image.resume(&options);
    assert_eq!(resumed.pid_inside, image.instance.groups[0].pid);
    assert_ne!(resumed.pid, resumed.pid_inside);
    // What is sent to the init reaches the program.
    support::signal(resumed.init_pid.unwrap(), libc::SIGUSR1);
    image.expect_good_end(resumed);
}

/// Captured under another boot, clocks go on from where they stood.
#[test]
fn clocks_of_another_boot() {
    let mut image = Original::start(
        r#"
before = time.clock_gettime(time.CLOCK_MONOTONIC)
def after():
    ahead = time.clock_gettime(time.CLOCK_MONOTONIC) - before
    equal(1e6 <= ahead < 1e6 + 60, True)
go_on(after)
"#,
    )
    .stop();
    image.instance.host.boot_id = "another".to_owned();
    image.instance.host.clocks.monotonic_ns += 1_000_000_000_000_000;
    image.finish(&Options::default());
}

/// Calls with a relative timeout that were stopped once before go on too, though their registers
/// name another call by then.
#[test]
fn calls_that_were_stopped_before() {
    let original = Original::start(
        r#"
ended = {}
def sleeper(name, wait):
    began = time.monotonic()
    ended[name] = (wait(), time.monotonic() - began)
span = struct.pack("qq", 0, 400000000)
word = ctypes.c_int(7)
r, w = os.pipe()
ask = struct.pack("ihh", r, 1, 0)
waits = {
    "nanosleep": lambda: call(35, span, 0),
    "clock_nanosleep": lambda: call(230, 1, 0, span, 0),
    "libc nanosleep": lambda: libc.nanosleep(span, None),
    "poll": lambda: call(7, ask, 1, 400),
    "libc poll": lambda: libc.poll(ask, 1, 400),
    "futex": lambda: libc.syscall(202, ctypes.byref(word), 128, 7, span),
}
threads = [threading.Thread(target=sleeper, args=pair) for pair in waits.items()]
for t in threads: t.start()
time.sleep(0.1)
def after():
    for t in threads: t.join()
    for name in waits:
        equal((name, ended[name][0]), (name, -1 if name == "futex" else 0))
        equal((name, ended[name][1] >= 0.4), (name, True))
go_on(after)
"#,
    );
    // The first stop, after which it runs on.
    drop(original.capture());
    original.stop().finish(&Options::default());
}
