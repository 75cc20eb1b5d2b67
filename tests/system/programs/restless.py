"""A program that forks, maps, unmaps, moves, starts threads and checks all it ever wrote.

usage: restless.py PROGRESS [seccomp] [userfault] [forks-only] [moves] [uring] [execs]

PROGRESS gets one number for each round that was right, or a line that begins with BAD.
"""
import ctypes
import mmap
import os
import random
import struct
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mremap.restype = ctypes.c_void_p
PAGE = 4096
PAGES = 2000
progress = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
modes = set(sys.argv[2:])


def say(text):
    os.write(progress, (text + "\n").encode())


def bad(what):
    say("BAD " + what)
    os._exit(1)


def deny_userfaultfd():
    """A filter that allows everything but userfaultfd(2)."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, 323), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    filters = b"".join(struct.pack("HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(filters)
    program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        bad("no seccomp filter: %d" % ctypes.get_errno())


def own_userfault():
    """Half of its memory belongs to a userfaultfd of its own."""
    fd = libc.syscall(323, 0o2004000 | 1)
    if fd < 0:
        bad("no userfaultfd: %d" % ctypes.get_errno())
    api = ctypes.create_string_buffer(struct.pack("QQQ", 0xAA, 0, 0))
    at = libc.mmap(None, ctypes.c_size_t(64 * PAGE), 3, 0x22, -1, ctypes.c_long(0))
    ctypes.memset(at, 7, 64 * PAGE)
    register = ctypes.create_string_buffer(struct.pack("QQQQ", at, 64 * PAGE, 1, 0))
    if libc.ioctl(fd, ctypes.c_ulong(0xC018AA3F), api):
        bad("no userfaultfd api: %d" % ctypes.get_errno())
    if libc.ioctl(fd, ctypes.c_ulong(0xC020AA00), register):
        bad("no registration: %d" % ctypes.get_errno())
    return at


if "seccomp" in modes:
    deny_userfaultfd()
registered = own_userfault() if "userfault" in modes else None
memory = bytearray(PAGES * PAGE)
expected = [0] * PAGES
chance = random.Random(1)


def stamp(number):
    page = chance.randrange(PAGES)
    expected[page] = number
    struct.pack_into("<Q", memory, page * PAGE + 8, number)


def check(where):
    for page in range(PAGES):
        if struct.unpack_from("<Q", memory, page * PAGE + 8)[0] != expected[page]:
            bad("%s: page %d" % (where, page))


def fork(number):
    child = os.fork()
    if child == 0:
        check("child")
        stamp(number + 1)
        check("child after writing")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        bad("child: status %d" % status)


def move(number):
    """A mapping that grows, moves and goes away."""
    at = libc.mmap(None, ctypes.c_size_t(32 * PAGE), 3, 0x22, -1, ctypes.c_long(0))
    ctypes.memset(at, number % 251, 32 * PAGE)
    at = libc.mremap(ctypes.c_void_p(at), ctypes.c_size_t(32 * PAGE), ctypes.c_size_t(640 * PAGE), 1)
    if at in (None, ctypes.c_void_p(-1).value):
        bad("mremap: %d" % ctypes.get_errno())
    if ctypes.string_at(at, 32 * PAGE) != bytes([number % 251]) * (32 * PAGE):
        bad("a moved mapping")
    if libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(640 * PAGE)):
        bad("munmap: %d" % ctypes.get_errno())


class Ring:
    """An io_uring that reads a file into private memory, a worker of the kernel's doing it."""

    BYTES = 64 * PAGE

    def __init__(self):
        params = ctypes.create_string_buffer(120)
        self.fd = libc.syscall(425, 8, params)
        if self.fd < 0:
            bad("no io_uring: %d" % ctypes.get_errno())
        words = struct.unpack("30I", params)
        self.sq, self.cq = words[10:20], words[20:30]
        self.submissions = mmap.mmap(self.fd, self.sq[6] + words[0] * 4)
        self.completions = mmap.mmap(self.fd, self.cq[5] + words[1] * 16, offset=0x8000000)
        self.entries = mmap.mmap(self.fd, words[0] * 64, offset=0x10000000)
        self.buffer = mmap.mmap(-1, 2 * self.BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.at = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        # The second half stays pinned.
        pinned = ctypes.create_string_buffer(struct.pack("QQ", self.at + self.BYTES, self.BYTES))
        if libc.syscall(427, self.fd, 0, pinned, 1):
            bad("no registered buffer: %d" % ctypes.get_errno())
        self.content = random.Random(3).randbytes(self.BYTES)
        self.file = os.memfd_create("content")
        os.write(self.file, self.content)

    def read(self, fixed):
        first = self.BYTES if fixed else 0
        self.buffer[first : first + self.BYTES] = bytes(self.BYTES)
        opcode, flags = (4, 0) if fixed else (22, 16)
        entry = struct.pack("=BBHiQQIIQ", opcode, flags, 0, self.file, 0, self.at + first, self.BYTES, 0, 7)
        self.entries[: len(entry)] = entry
        tail = struct.unpack_from("I", self.submissions, self.sq[1])[0]
        mask = struct.unpack_from("I", self.submissions, self.sq[2])[0]
        struct.pack_into("I", self.submissions, self.sq[6] + 4 * (tail & mask), 0)
        struct.pack_into("I", self.submissions, self.sq[1], tail + 1)
        head = struct.unpack_from("I", self.completions, self.cq[0])[0]
        # A stop may end the wait early, with what was submitted or with EINTR: as any signal may.
        while struct.unpack_from("I", self.completions, self.cq[1])[0] == head:
            submitted = struct.unpack_from("I", self.submissions, self.sq[0])[0]
            done = libc.syscall(426, self.fd, tail + 1 - submitted, 1, 1, None, 0)
            if done < 0 and ctypes.get_errno() != 4:
                bad("io_uring_enter: %d" % ctypes.get_errno())
        mask = struct.unpack_from("I", self.completions, self.cq[2])[0]
        at = self.cq[5] + 16 * (head & mask)
        _, result, _ = struct.unpack_from("QiI", self.completions, at)
        struct.pack_into("I", self.completions, self.cq[0], head + 1)
        if result != self.BYTES:
            bad("a read by io_uring: %d" % result)
        if self.buffer[first : first + self.BYTES] != self.content:
            bad("what io_uring read")


def move_whole():
    """48 MB that change places all the time, each time as one mapping."""
    whole = 48 << 20
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    # Room on all sides: nothing else is ever beside it.
    room = libc.mmap(None, 4 * whole, 0, 0x4022, -1, 0)
    places = [room + whole // 2, room + 2 * whole + whole // 2]
    at = libc.mmap(places[0], whole, 3, 0x32, -1, 0)
    for page in range(0, whole, PAGE):
        ctypes.c_uint64.from_address(at + page).value = page
    moves = 0
    while True:
        moves += 1
        page = moves * 7919 * PAGE % whole
        ctypes.c_uint64.from_address(at + page).value = page
        to = places[moves % 2]
        now = libc.mremap(at, whole, whole, 3, to)
        if now != to:
            bad("mremap of all: %d, after %d moves" % (ctypes.get_errno(), moves))
        # What it left is reserved again.
        libc.mmap(at, whole, 0, 0x4032, -1, 0)
        at = now
        page = moves * 104729 * PAGE % whole
        if ctypes.c_uint64.from_address(at + page).value != page:
            bad("a moved page after %d moves" % moves)


ring = Ring() if "uring" in modes else None
if "moves" in modes:
    threading.Thread(target=move_whole, daemon=True).start()
number = 0
while True:
    number += 1
    for _ in range(20):
        stamp(number)
    check("parent")
    fork(number)
    if "forks-only" not in modes:
        move(number)
        fresh = mmap.mmap(-1, 64 * PAGE)
        fresh[:] = bytes([number % 256]) * (64 * PAGE)
        if fresh[63 * PAGE] != number % 256:
            bad("a fresh mapping")
        fresh.close()
        thread = threading.Thread(target=stamp, args=(number,))
        thread.start()
        thread.join()
    if ring:
        for turn in range(20):
            ring.read(turn % 2)
    if "execs" in modes and number == 40:
        say(str(number))
        os.execv(sys.executable, [sys.executable] + sys.argv)
    if registered and ctypes.string_at(registered, 64 * PAGE) != b"\7" * (64 * PAGE):
        bad("memory of its own userfaultfd")
    say(str(number))
