#!/usr/bin/env python3
"""Updates a redis again and again under one client and tells what the client felt.

The client asks for one key after the other on a connection that is never closed, compares every
value, and notes how long each answer took. Beside each update stands its control: the longest answer
in the 1.5 seconds before it.
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

HERE = os.path.dirname(os.path.abspath(__file__))
MULTIPLIER = 2654435761


def value(key):
    return b"%016x" % (key * MULTIPLIER % 2**64) * 60


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def fill(connection, keys):
    answers = connection.makefile("rb")
    for start in range(0, keys, 2000):
        batch = range(start, min(start + 2000, keys))
        connection.sendall(b"".join(command(b"SET", b"k%d" % n, value(n)) for n in batch))
        for _ in batch:
            answers.readline()


class Client(threading.Thread):
    """Asks a thousand times a second at most."""

    def __init__(self, connection, keys):
        super().__init__(daemon=True)
        self.connection, self.keys = connection, keys
        self.answers, self.wrong, self.ends = [], 0, False

    def run(self):
        lines, number = self.connection.makefile("rb"), 0
        while not self.ends:
            key = number * 7919 % self.keys
            number += 1
            begun = time.perf_counter()
            self.connection.sendall(command(b"GET", b"k%d" % key))
            lines.readline()
            if lines.readline().rstrip() != value(key):
                self.wrong += 1
            now = time.perf_counter()
            self.answers.append((now, now - begun))
            time.sleep(0.001)

    def longest_ms(self, since, until):
        return round(1000 * max(took for at, took in self.answers if since <= at <= until), 1)


def updated(binary, store, pid):
    words = [binary, "--store", store, "update", str(pid), "--wait", "60s", "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def wait_complete(binary, instance):
    for _ in range(600):
        words = [binary, "status", instance, "--format", "json"]
        shown = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        if '"complete_us":null' not in shown.replace(" ", ""):
            return
        time.sleep(0.1)


def measure(arguments, folder):
    port = str(arguments.port)
    with open(f"{folder}/log", "wb") as log:
        words = ["setsid", "redis-server", "--port", port, "--save", "", "--dir", folder]
        nothing = subprocess.DEVNULL
        redis = subprocess.Popen(words, stdin=nothing, stdout=log, stderr=log, close_fds=True)
    time.sleep(1)
    connection = socket.create_connection(("127.0.0.1", arguments.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pid, instance, rows = redis.pid, None, []
    try:
        fill(connection, arguments.keys)
        client = Client(connection, arguments.keys)
        client.start()
        time.sleep(2)
        for _ in range(arguments.rounds):
            before = time.perf_counter()
            time.sleep(1.5)
            begun = time.perf_counter()
            report = updated(arguments.binary, f"{folder}/store", pid)
            time.sleep(1)
            pid, instance = report["pid"], report["instance"]
            row = {
                "pause_ms": report["pause_us"] / 1000,
                "gap_ms": client.longest_ms(begun, time.perf_counter()),
                "control_ms": client.longest_ms(before, begun),
                "phases_ms": {p["name"]: p["us"] / 1000 for p in report["phases"]},
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
            wait_complete(arguments.binary, instance)
        client.ends = True
        client.join()
        print(f"{len(client.answers)} answers, {client.wrong} wrong")
    finally:
        os.kill(pid, signal.SIGKILL)
    for name in ("pause_ms", "gap_ms", "control_ms"):
        column = [row[name] for row in rows]
        print(f"{name}: median {statistics.median(column):.1f} [{min(column):.1f}..{max(column):.1f}]")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--keys", type=int, default=900_000, help="900000 make 1 GB")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--port", type=int, default=7399)
    parser.add_argument("--store", default=tempfile.gettempdir(), help="where the store is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.store) as folder:
        measure(arguments, folder)


if __name__ == "__main__":
    main()
