"""The programs that are checkpointed: ordinary services, nothing in them knows of it."""

import os
import struct
import subprocess

from . import resp
from .errors import BenchError


class Heartbeat:
    """Reads what the thread of heartbeat.c noted inside a program, see there."""

    PLACE, MAGIC = 0x5eadbea70000, 0x7462747261656821

    def __init__(self, folder):
        self.library = os.path.join(folder, "heartbeat.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "heartbeat.c")
        built = subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self.library, source,
                                "-lpthread"], capture_output=True, text=True, timeout=60)
        if built.returncode != 0:
            raise BenchError(f"cannot build the heartbeat: {built.stderr}")

    def take(self, pid):
        """Worst and summed lateness since the last take, in microseconds, and when the worst one
        ended, on the monotonic clock in nanoseconds."""
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(self.PLACE)
            magic, worst, late, beats, worst_at_ns = struct.unpack("<5Q", memory.read(40))
            if magic != self.MAGIC or not beats:
                raise BenchError("the heartbeat inside the program does not beat")
            memory.seek(self.PLACE + 8)
            memory.write(bytes(32))
        return worst // 1000, late // 1000, worst_at_ns


class Redis:
    """redis-server as the cell has it, with a heartbeat thread of ours loaded into it."""

    name = "redis-server"
    saves = True
    LIBRARY = "/run/bench/heartbeat.so"
    argv = ["redis-server", "--port", str(resp.PORT), "--bind", resp.ADDRESS, "--save", "",
            "--appendonly", "no", "--dir", "/run/bench/data", "--loglevel", "warning",
            "--logfile", ""]

    def __init__(self, heartbeat=None):
        self.heartbeat = heartbeat
        self.pid = None
        if heartbeat:
            self.argv = ["env", f"LD_PRELOAD={self.LIBRARY}", *self.argv]

    def started(self, pid):
        """It runs, as `pid` out here."""
        self.pid = pid

    def inside_us(self, _cell):
        """Longest and summed time since the last ask that its heartbeat was late, and when the
        longest ended."""
        return self.heartbeat.take(self.pid) if self.heartbeat else (None, None, None)


class SampleKv:
    """The sample service of this tree: several threads, one of them a heartbeat."""

    name = "rekindle-sample-kv"
    saves = False
    argv = ["/run/bench/rekindle-sample-kv", "--port", str(resp.PORT)]

    def started(self, _pid):
        """It runs."""

    def inside_us(self, cell):
        """Longest time since the last ask that its heartbeat thread could not run."""
        def ask():
            with resp.Client(60) as client:
                return client.call("HEARTBEAT")

        return cell.in_network(ask), None, None
