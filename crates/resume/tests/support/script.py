# What the children of the tests are made with.
import ctypes, errno, fcntl, mmap, os, select, signal, socket, struct, sys, threading, time, traceback

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]
folder = os.environ["TMPDIR"]
# Before any thread is made, so that all of them have it.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


def call(number, *args):
    result = libc.syscall(ctypes.c_long(number), *[
        ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def tell(name, text):
    with open(f"{folder}/{name}.new", "w") as file:
        file.write(text)
    os.rename(f"{folder}/{name}.new", f"{folder}/{name}")


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


# Waits to be checkpointed and resumed, then runs `after` and ends: 0 when it raises nothing.
def go_on(after):
    tell("ready", str(os.getpid()))
    signal.sigwait([signal.SIGUSR1])
    try:
        after()
    except BaseException:
        tell("report", traceback.format_exc())
        os._exit(1)
    os._exit(0)
