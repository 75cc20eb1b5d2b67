"""A program that forks, maps, unmaps, moves, starts threads and checks all it ever wrote.

usage: restless.py PROGRESS [seccomp] [userfault] [forks-only] [moves]

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
    if registered and ctypes.string_at(registered, 64 * PAGE) != b"\7" * (64 * PAGE):
        bad("memory of its own userfaultfd")
    say(str(number))
