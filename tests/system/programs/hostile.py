"""Waits in a write to a pipe that is full; behind it does what the file FORM says.

A clone's writes report success and go nowhere, so that only a clone gets there while the pipe is
full. The real program goes on when somebody empties the pipe, finds "rest" in FORM, and fills the
pipe again.
"""
import ctypes, fcntl, mmap, os, select, socket, sys

form, out, port, sentinel, folder = sys.argv[1:6]
port, sentinel = int(port), int(sentinel)
libc = ctypes.CDLL(None, use_errno=True)
call = libc.syscall
call.restype = ctypes.c_long

form = os.open(form, os.O_RDONLY)
log = os.open(out, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
os.write(log, b"begin\n")
timer = call(283, 1, 0)
poll = select.epoll()
event = os.eventfd(1)
left, right = socket.socketpair()
listening = socket.create_server(("127.0.0.1", 0))
poll.register(right, select.EPOLLIN)
open(folder + "/kept", "w").write("kept file")
os.utime(folder + "/kept", (1000, 1000))
os.mkfifo(folder + "/fifo")
# Known to the kernel from here on: that it is there, and that it is not.
for name in ("/kept", "/missing", "/fifo"):
    os.path.exists(folder + name)
memfd = os.memfd_create("shared")
os.ftruncate(memfd, 4096)
shared = mmap.mmap(memfd, 4096, flags=mmap.MAP_SHARED)
code = mmap.mmap(-1, 4096, prot=7)
# mov eax, ebx's call number; int 0x80: kill(sentinel, 9), with the 32-bit call's number.
code[:13] = b"\x53\xb8\x25\x00\x00\x00\x89\xfb\x89\xf1\xcd\x80\x5b"
code[13:14] = b"\xc3"
old_call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(
    ctypes.addressof(ctypes.c_char.from_buffer(code)))
address = (b"\x02\x00" + port.to_bytes(2, "big") + b"\x7f\0\0\1" + bytes(8))
spec = bytes(16) + (10).to_bytes(8, "little") + bytes(8)
page = ctypes.create_string_buffer(256)
given_back = mmap.mmap(-1, 16384, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
given_back[:8] = b"old text"

def share():
    shared[0] = 77
    call(39 + 1000)

def seek():
    os.lseek(form, 5, 0)
    os.read(form, 3)
    call(39 + 1000)

def expect(right):
    """The clone ends in this call when something was answered otherwise than it should be."""
    if not right:
        call(39 + 1001)

def answers():
    """All that a clone is answered without a call being made. The real program sees none of it."""
    kept = open(folder + "/kept", "rb", buffering=0)
    expect(kept.read(4) == b"kept" and os.fstat(kept.fileno()).st_size == 9)
    expect(os.stat(folder + "/kept").st_ino == os.fstat(kept.fileno()).st_ino)
    expect(os.lseek(kept.fileno(), -5, 2) == 4 and kept.read() == b" file")
    twice = os.dup(kept.fileno())
    expect(os.lseek(twice, 0, 1) == 9)
    kept.close()
    expect(os.pread(twice, 4, 0) == b"kept")
    os.close(twice)
    try:
        os.stat(folder + "/missing")
        expect(False)
    except FileNotFoundError:
        pass
    expect(b"python" in open("/proc/self/cmdline", "rb").read())
    fcntl.lockf(log, fcntl.LOCK_EX)
    fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)
    expect(fcntl.fcntl(log, fcntl.F_GETFL) & os.O_NONBLOCK)
    os.set_inheritable(log, True)
    changed = os.eventfd(0)
    poll.register(changed, select.EPOLLIN)
    expect(poll.poll(0) == [])
    os.eventfd_write(changed, 3)
    expect(poll.poll(-1) == [(changed, select.EPOLLIN)])
    expect(select.select([changed], [changed], [], 0) == ([changed], [changed], []))
    expect(os.eventfd_read(changed) == 3 and poll.poll(0) == [])
    poll.unregister(changed)
    os.close(changed)
    os.eventfd_write(event, 5)
    left.send(b"to the other")
    expect(select.select([right], [], [], 0)[0] == [right] and right.recv(99) == b"to the other")
    reader, writer = os.pipe()
    os.write(writer, b"by pipe")
    expect(os.read(reader, 99) == b"by pipe")
    os.close(writer)
    expect(os.read(reader, 99) == b"")
    left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.setblocking(False)
    try:
        listening.accept()
        expect(False)
    except BlockingIOError:
        pass
    expect(os.sendfile(log, form, 0, 3) == 3)
    left.shutdown(socket.SHUT_RDWR)
    left.close()
    os.close(log)
    expect(os.getcwd() != "")
    # Memory that is given back is zero, as is what lies beside it.
    expect(given_back[:8] == b"old text")
    given_back.madvise(mmap.MADV_DONTNEED)
    expect(given_back[:8] == bytes(8) and given_back[8192] == 0)
    call(39 + 1000)

FORMS = {
    "answers": answers,
    "create-existing": lambda: (os.open(out, os.O_RDWR | os.O_CREAT), call(39 + 1000)),
    "open-and-truncate": lambda: os.open(out, os.O_RDWR | os.O_TRUNC),
    "open-device": lambda: os.open("/dev/zero", os.O_RDONLY),
    "open-fifo": lambda: os.open(folder + "/fifo", os.O_RDONLY | os.O_NONBLOCK),
    "open-proc": lambda: os.open("/proc/sysrq-trigger", os.O_RDONLY),
    "pass-descriptor": lambda: socket.send_fds(left, [b"x"], [log]),
    "write": lambda: (os.write(log, b"clone\n"), os.write(1, b"clone\n"), call(39 + 1000)),
    "share": share,
    "seek": seek,
    "open": lambda: os.open(folder + "/made", os.O_CREAT | os.O_WRONLY, 0o600),
    "unlink": lambda: os.unlink(out),
    "truncate": lambda: os.ftruncate(log, 0),
    "socket": lambda: call(41, 2, 1, 0),
    "connect": lambda: call(42, 3, address, 16),
    "kill": lambda: call(62, sentinel, 9),
    "kill-old": lambda: old_call(sentinel, 9),
    "ptrace": lambda: call(101, 16, sentinel, 0, 0),
    "mount": lambda: call(165, b"none", folder.encode(), b"tmpfs", 0, 0),
    "vfork": lambda: call(58),
    "clone": lambda: call(56, 17, 0, 0, 0, 0),
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "io_uring": lambda: call(425, 4, page),
    "timerfd": lambda: call(286, timer, 0, spec, 0),
    "shmget": lambda: call(29, 0, 4096, 0o1600),
    "prctl": lambda: call(157, 15, b"changed"),
    "lock": lambda: fcntl.flock(log, fcntl.LOCK_EX),
    "exit": lambda: os._exit(7),
}

source, full = os.pipe()
os.set_blocking(full, False)
def fill():
    try:
        while True:
            os.write(full, bytes(4096))
    except BlockingIOError:
        pass
fill()
os.set_blocking(full, True)
open(folder + "/pipe", "w").write(str(source))
turns = os.open(folder + "/turns", os.O_RDWR | os.O_CREAT, 0o600)
os.write(log, b"ready\n")
turn = 0
while True:
    # From here on FORM is not looked at before somebody has emptied the pipe.
    os.pwrite(turns, b"%d" % turn, 0)
    turn += 1
    os.write(full, bytes(4096))
    name = os.pread(form, 64, 0).decode().strip()
    if name in FORMS:
        FORMS[name]()
    os.set_blocking(full, False)
    fill()
    os.set_blocking(full, True)
