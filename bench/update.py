#!/usr/bin/env python3
"""Updates a redis again and again under one client and tells what the client felt.

The client asks for one key after the other on a connection that is never closed, compares every
value, and notes how long each answer took. Beside each update stands its control: the longest answer
in the 1.5 seconds before it. Where criu is installed (in the root that CRIU_ROOT names, or here) it does
the same, by a dump and a restore that keep connections, whole and with pages on demand.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time

from bench import find_criu
from rig import resp
from rig.cell import Cell
from rig.peers import Criu, CriuLazy, Rekindle
from rig.programs import Redis

HERE = os.path.dirname(os.path.abspath(__file__))
MULTIPLIER = 2654435761
KEYS_PER_MB = 900


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
        self.turn = threading.Event()

    def run(self):
        lines, number = self.connection.makefile("rb"), 0
        while not self.ends:
            self.turn.wait()
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


class Updating(Rekindle):
    """rekindle update."""

    def __init__(self, store):
        super().__init__(store, [], [])

    def update(self, cell, pid):
        """The new pid, the pause in milliseconds and what it consists of."""
        _, report = self._run(cell, "update", str(pid), "--wait", "60s")
        self.instance = report["instance"]
        phases = {row["name"]: row["us"] / 1000 for row in report["phases"]}
        return report["pid"], report["pause_us"] / 1000, phases


def dump_and_restore(peer, cell, pid):
    """The same by criu, which has no word for it."""
    dumped = peer.checkpoint(cell, pid, stop=True)
    restored = peer.resume(cell)
    phases = {"dump": dumped["wall_us"] / 1000, "restore": restored["wall_us"] / 1000}
    return pid, sum(phases.values()), phases


def peers(store):
    """rekindle, and criu where it is."""
    yield Updating(store)
    if find_criu(os.environ.get("CRIU_ROOT")):
        for peer in (Criu(store), CriuLazy(store)):
            peer.tcp = ("--tcp-established", "--network-lock", "nftables")
            yield peer


class Session:
    """A redis in a cell, and a client that asks only while it is this peer's turn."""

    def __init__(self, peer, cell, keys):
        self.peer, self.cell, self.keys, self.rows = peer, cell, keys, []
        peer.prepare(cell)
        cell.start(Redis.argv)
        connection = cell.in_network(resp.connect)
        fill(connection, keys)
        for inside, outside in cell.pids().items():
            with open(f"/proc/{outside}/comm") as file:
                if file.read().strip() == Redis.name:
                    self.pid = inside
        self.client = Client(connection, keys)
        self.client.start()

    def round(self):
        """Its turn."""
        self.client.turn.set()
        time.sleep(1)
        before = time.perf_counter()
        time.sleep(1.5)
        begun = time.perf_counter()
        if isinstance(self.peer, Updating):
            self.pid, pause_ms, phases = self.peer.update(self.cell, self.pid)
        else:
            self.pid, pause_ms, phases = dump_and_restore(self.peer, self.cell, self.pid)
        time.sleep(1)
        row = {
            "peer": self.peer.name, "keys": self.keys, "pause_ms": pause_ms,
            "gap_ms": self.client.longest_ms(begun, time.perf_counter()),
            "control_ms": self.client.longest_ms(before, begun), "phases_ms": phases,
        }
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        if isinstance(self.peer, Updating):
            self.peer.loaded(self.cell, self.peer.instance)
        else:
            time.sleep(3)
        self.client.turn.clear()

    def end(self):
        """What came of all rounds."""
        name = self.peer.name
        self.client.ends = True
        self.client.turn.set()
        self.client.join()
        print(f"{name}: {len(self.client.answers)} answers, {self.client.wrong} wrong")
        for column in ("pause_ms", "gap_ms", "control_ms"):
            all_rounds = [row[column] for row in self.rows]
            print(f"{name} {column}: median {statistics.median(all_rounds):.1f} "
                  f"[{min(all_rounds):.1f}..{max(all_rounds):.1f}]")


def measure(arguments, folder, keys):
    """Rounds of all peers in turn."""
    binds = {"/run/bench/store": folder, "/run/bench/rekindle": arguments.binary}
    with contextlib.ExitStack() as cells:
        sessions = [
            Session(peer, cells.enter_context(Cell(os.environ.get("CRIU_ROOT"), binds)), keys)
            for peer in peers(folder)
        ]
        for _ in range(arguments.rounds):
            for session in sessions:
                session.round()
        for session in sessions:
            session.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--mb", default="1000", help="sizes, such as 1000,4000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--store", default=tempfile.gettempdir(), help="where the store is made")
    arguments = parser.parse_args()
    for size in arguments.mb.split(","):
        with tempfile.TemporaryDirectory(dir=arguments.store) as folder:
            measure(arguments, folder, int(size) * KEYS_PER_MB)


if __name__ == "__main__":
    main()
