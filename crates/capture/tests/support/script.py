# What the children of the tests are made with: calls that Python has no name for.
import ctypes, fcntl, mmap, os, select, signal, socket, struct, sys, tempfile, threading, time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]
libc.prctl(1, 9)  # PR_SET_PDEATHSIG: ends with the test.


def call(number, *args):
    result = libc.syscall(ctypes.c_long(number), *[
        ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def unavailable(what):
    print("unavailable: " + what, flush=True)
    sys.exit(0)


def need(what, function):
    try:
        return function()
    except OSError as cause:
        unavailable(f"{what}: {cause}")


def mapping(length, prot=3, flags=0x22, fd=-1, offset=0, at=None):
    address = libc.mmap(at, length, prot, flags, fd, offset)
    if address in (None, ctypes.c_void_p(-1).value):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return address


def poke(address, content):
    ctypes.memmove(address, content, len(content))


def madvise(address, length, advice):
    return call(28, address, length, advice)


def tell(*words):
    print(*words, flush=True)


def ready():
    print("ready", flush=True)
    # Silent from here on; a signal that is handled must not end the wait.
    while True:
        time.sleep(1000)
