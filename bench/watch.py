#!/usr/bin/env python3
"""Watches a redis under load, then stops it: what the watch costs, and how long until it is safe on disk.

One client reads keys of a hot 5% a thousand times a second and writes a counter and one of those keys a
hundred times a second. After the first checkpoint of the watch the load goes on for a while. Then
`checkpoint --stop` is timed from its start to its end, the program is resumed, and the counter has
to be the last one that was acknowledged.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from rig.verb import rekindle
from update import command, fill, value

HERE = os.path.dirname(os.path.abspath(__file__))


class Load(threading.Thread):
    """Reads and writes until the connection breaks or it is told to end."""

    def __init__(self, port, keys):
        super().__init__(daemon=True)
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.hot, self.acknowledged, self.reads, self.wrong = max(keys // 20, 1), 0, 0, 0
        self.took, self.ends = [], False

    def run(self):
        lines, number = self.connection.makefile("rb"), 0
        try:
            while not self.ends:
                number += 1
                key = number * 7919 % self.hot * 20
                begun = time.perf_counter()
                if number % 10 == 0:
                    wanted = self.acknowledged + 1
                    counter = command(b"SET", b"counter", b"%d" % wanted)
                    self.connection.sendall(counter + command(b"SET", b"k%d" % key, value(key)))
                    if lines.readline() != b"+OK\r\n":
                        return
                    self.acknowledged = wanted
                    lines.readline()
                else:
                    self.connection.sendall(command(b"GET", b"k%d" % key))
                    if not lines.readline():
                        return
                    self.wrong += lines.readline().rstrip() != value(key)
                    self.reads += 1
                self.took.append(time.perf_counter() - begun)
                time.sleep(0.0009)
        except OSError:
            pass


def events(watch, name):
    """The next event of this name; what is passed over is kept."""
    for line in watch.stdout:
        event = json.loads(line)
        if event["event"] == "trouble":
            print("trouble:", event["text"], flush=True)
        if event["event"] == name:
            return event
    raise SystemExit("the watch has ended")


def watched(arguments, store, pid):
    words = [arguments.binary, "--store", store, "watch", str(pid), "--tcp", "close"]
    words += ["--every", arguments.every, "--checkpoint-every", arguments.checkpoint_every]
    watch = subprocess.Popen([*words, "--format", "json"], stdout=subprocess.PIPE, text=True)
    first = events(watch, "checkpointed")
    print("first checkpoint:", json.dumps({k: first[k] for k in ("took_us", "pause_max_us", "stored_bytes")}), flush=True)
    until, periods = time.monotonic() + arguments.seconds, []
    while time.monotonic() < until:
        periods.append(events(watch, "period"))
    return watch, periods


def measure(arguments, folder):
    port, store = str(arguments.port), f"{folder}/store"
    with open(f"{folder}/log", "wb") as log:
        words = ["setsid", "redis-server", "--port", port, "--save", "", "--dir", folder]
        redis = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=True)
    time.sleep(1)
    pid, watch = redis.pid, None
    # A parent that takes its exit status, as a shell or systemd does.
    threading.Thread(target=redis.wait, daemon=True).start()
    try:
        with socket.create_connection(("127.0.0.1", arguments.port)) as connection:
            fill(connection, arguments.keys)
        load = Load(arguments.port, arguments.keys)
        load.start()
        watch, periods = watched(arguments, store, pid)
        for name in ("own_cpu_permille", "slowdown_permille", "own_memory_bytes", "plan_us"):
            column = [period[name] for period in periods[1:]]
            print(f"{name}: median {statistics.median(column):.0f} [{min(column)}..{max(column)}]")
        last = periods[-1]
        print({name: f"{last[name] / 1e6:.0f} MB" for name in ("critical_bytes", "warm_bytes", "cold_bytes")})
        begun = time.perf_counter()
        report = rekindle(arguments.binary, store, "checkpoint", str(pid), "--stop", "--tcp", "close")
        ended_ms = 1000 * (time.perf_counter() - begun)
        load.ends = True
        load.join()
        phases = {p["name"]: round(p["us"] / 1000, 1) for p in report["phases"]}
        print(f"safe on disk after {report['safe_us'] / 1000:.0f} ms, the command ended after {ended_ms:.0f} ms")
        print(f"phases {phases}")
        print(f"stood still {report['pause_us'] / 1000:.1f} ms, stored {report['stored_bytes'] / 1e6:.1f} MB "
              f"of {report['resident_bytes'] / 1e6:.0f} MB")
        watch.wait(timeout=60)
        pid = rekindle(arguments.binary, store, "resume", "latest", "--detach", "--lazy")["pid"]
        with socket.create_connection(("127.0.0.1", arguments.port)) as connection:
            connection.sendall(command(b"GET", b"counter"))
            lines = connection.makefile("rb")
            lines.readline()
            found = int(lines.readline())
        is_right = found in (load.acknowledged, load.acknowledged + 1) and not load.wrong
        print(f"{load.reads} reads, {load.wrong} wrong; counter {found}, acknowledged {load.acknowledged}:",
              "right" if is_right else "WRONG")
    finally:
        os.kill(pid, signal.SIGKILL)
        if watch and watch.poll() is None:
            watch.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--keys", type=int, default=3_600_000, help="3600000 make 4 GB")
    parser.add_argument("--every", default="10s")
    parser.add_argument("--checkpoint-every", default="60s")
    parser.add_argument("--seconds", type=int, default=120, help="how long after the first checkpoint")
    parser.add_argument("--port", type=int, default=7398)
    parser.add_argument("--store", default=tempfile.gettempdir(), help="where the store is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.store) as folder:
        measure(arguments, folder)


if __name__ == "__main__":
    main()
