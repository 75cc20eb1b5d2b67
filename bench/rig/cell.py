"""A cell: private mount, pid, network, ipc and uts namespaces for one benchmarked program.

Program, peer and everything they start live in the cell and die with it. The root file system is
either the host's or a directory (a chroot of another Debian suite), entered with pivot_root,
because criu resolves every mount of what it dumps and a bare chroot hides the ones above it.
"""

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from .errors import BenchError

CLONE_NEWNET = 0x40000000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def die_with_parent():
    """Has the kernel kill this process when its parent ends."""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Ran:
    """What a command did: exit status, both outputs, wall and processor time in microseconds."""

    def __init__(self, status, stdout, stderr, started_ns, ended_ns, cpu_us):
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.started_ns = started_ns
        self.wall_us = (ended_ns - started_ns) // 1000
        self.cpu_us = cpu_us


class Cell:
    """A running cell; use it in a `with` block."""

    def __init__(self, root, binds):
        """`root` is None for the host's root; `binds` maps paths inside to paths outside."""
        self.root = root
        self.binds = binds

    def __enter__(self):
        arguments = [self.root or ""]
        for inside, outside in self.binds.items():
            arguments += [inside, os.path.abspath(outside)]
        bench = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.unshare = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork",
             "--kill-child=SIGKILL", "--propagation", "private",
             sys.executable, "-c", "from rig.cell import init; init()", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=die_with_parent,
            cwd=bench)
        ready, _, _ = select.select([self.unshare.stdout], [], [], 20)
        line = self.unshare.stdout.readline() if ready else b""
        if line != b"ready\n":
            self.__exit__()
            raise BenchError("cannot make a cell: namespaces, mounts and root are needed")
        with open(f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children") as file:
            self.init = int(file.read().split()[0])
        return self

    def __exit__(self, *_):
        # Its child, pid 1 of the cell, is killed with it and takes everything along.
        self.unshare.kill()
        self.unshare.wait()
        self.unshare.stdout.close()
        deadline = time.monotonic() + 20
        while os.path.exists(f"/proc/{getattr(self, 'init', 0)}/ns"):
            if time.monotonic() > deadline:
                raise BenchError(f"cell {self.init} does not end")
            time.sleep(0.005)

    def inside(self, argv):
        """The command line that runs `argv` inside."""
        return ["nsenter", "--target", str(self.init), "--mount", "--pid", "--net", "--ipc",
                "--uts", "--", *argv]

    def run(self, argv, timeout_s):
        """Runs `argv` to its end. Outputs go to files: what it leaves running may keep them."""
        with TemporaryOutputs() as (stdout, stderr):
            started = time.monotonic_ns()
            child = subprocess.Popen(self.inside(argv), stdin=subprocess.DEVNULL, stdout=stdout,
                                     stderr=stderr, preexec_fn=die_with_parent)
            timer = threading.Timer(timeout_s, child.kill)
            timer.start()
            _, status, usage = os.wait4(child.pid, 0)
            ended = time.monotonic_ns()
            timer.cancel()
            child.returncode = os.waitstatus_to_exitcode(status)
            outputs = []
            for file in (stdout, stderr):
                file.seek(0)
                outputs.append(file.read(1 << 24).decode(errors="replace"))
        if ended - started >= timeout_s * 1_000_000_000:
            raise BenchError(f"{argv[0]} took longer than {timeout_s} s\n{outputs[1][-2000:]}")
        cpu_us = int((usage.ru_utime + usage.ru_stime) * 1e6)
        return Ran(child.returncode, *outputs, started, ended, cpu_us)

    def start(self, argv):
        """Starts a daemon: own session, stdio on null, nothing else open, child of pid 1."""
        script = 'cd / && exec setsid --fork "$@" </dev/null >/dev/null 2>&1'
        ran = self.run(["/bin/sh", "-c", script, "sh", *argv], 20)
        if ran.status != 0:
            raise BenchError(f"cannot start {argv[0]}: {ran.stderr}")

    def enter_network(self):
        """Moves the calling thread into the cell's network."""
        with open(f"/proc/{self.init}/ns/net") as file:
            _call("setns", file.fileno(), CLONE_NEWNET)

    def in_network(self, work):
        """Calls `work` in a thread inside the cell's network and returns what it returns."""
        result = []

        def body():
            try:
                self.enter_network()
                result.append((work(), None))
            except Exception as error:  # handed to the caller below
                result.append((None, error))

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def pids(self):
        """Pids inside -> pids outside, pid 1 left out."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/status") as file:
                    status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
                if os.readlink(f"/proc/{name}/ns/pid") == os.readlink(f"/proc/{self.init}/ns/pid"):
                    found[int(status["NSpid"].split()[-1])] = int(name)
            except OSError:
                continue
        found.pop(1, None)
        return found


class TemporaryOutputs:
    """Two unnamed files for the outputs of a command."""

    def __enter__(self):
        self.files = [open(os.memfd_create("output"), "w+b") for _ in range(2)]
        return self.files

    def __exit__(self, *_):
        for file in self.files:
            file.close()


def init():
    """Pid 1 of a cell: builds the mounts, says `ready`, then reaps until it is killed."""
    root, pairs = sys.argv[1], sys.argv[2:]
    binds = list(zip(pairs[0::2], pairs[1::2]))
    base = root or ""

    def mount(*arguments):
        subprocess.run(["mount", *arguments], check=True)

    if root:
        mount("--bind", root, root)
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{root}/tmp")
        # As on any host: without it there is no /sys/kernel/btf, and rekindle reads smaps instead.
        mount("-t", "sysfs", "-o", "ro", "sysfs", f"{root}/sys")
    mount("-t", "proc", "proc", f"{base}/proc")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{base}/run")
    if root and os.path.isdir(f"{root}/dev/pts"):
        mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", f"{root}/dev/pts")
    os.makedirs(f"{base}/run/bench")
    os.mkdir(f"{base}/run/bench/data")
    os.chmod(f"{base}/run/bench/data", 0o1777)
    for inside, outside in binds:
        if not inside.startswith("/run/bench/"):
            raise SystemExit("binds live under /run/bench")
        if os.path.isdir(outside):
            os.makedirs(base + inside, exist_ok=True)
        else:
            open(base + inside, "w").close()
        mount("--bind", outside, base + inside)
    if root:
        os.makedirs(f"{root}/run/old")
        subprocess.run(["pivot_root", root, f"{root}/run/old"], check=True)
        os.chdir("/")
        _call("umount2", b"/run/old", MNT_DETACH)
        os.rmdir("/run/old")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    os.write(1, b"ready\n")
    os.close(1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            # Nothing to reap: sleep until a child of somebody inside is left to us and ends.
            signal.sigtimedwait([signal.SIGCHLD], 0.05)
