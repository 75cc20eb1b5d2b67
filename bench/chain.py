#!/usr/bin/env python3
"""Stops and resumes a redis again and again, and tells how soon it answers by the checkpoints that stand behind.

After each resume, and when all memory is there, a hundredth of the keys is written anew, so that each
checkpoint stores little and builds on the one before. Each round resumes twice from checkpoints of the same
depth: with the page cache as it is, and with an empty one. Every answer of the first thousand hot reads
is compared.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time

from bench import built
from pause import Populated
from rig import resp
from rig.cell import Cell
from rig.errors import BenchError
from rig.machine import describe
from rig.peers import Rekindle
from rig.programs import Redis
from rig.rounds import HOT_READS, drop_caches, start_program, sync, together

ANSWER_TIMEOUT_S = 60
CHANGED_SHARE = 100


class Line(Rekindle):
    """rekindle, each checkpoint on top of the one before, resumed by default."""

    def __init__(self, store):
        closed = [f"fd={number}:null" for number in range(3)]
        outside = [word for policy in closed for word in ("--external", policy)]
        super().__init__(store, ["--tcp", "close"], ["--tcp", "close", *outside])

    def stop(self, cell, pid):
        """Checkpoints and ends the program: bytes stored."""
        _, answer = self._run(cell, "checkpoint", str(pid), "--stop", *self.checkpoint_options)
        self.id = answer["id"]
        return answer["stored_bytes"]


def asked(data, versions, index):
    """What a key has."""
    version = versions.get(index)
    return data.updated(index, version) if version else data.loaded(index)


def resumed(peer, cell, data, versions, chance):
    """One resume: its answer as the verb gives it, and how long the first answer and the hot reads took."""
    index = chance.choice(data.hot)
    key, expected, failed = data.key(index), asked(data, versions, index), []
    answer, at_ns = together(
        cell, lambda: resp.wait_for_answer(key, expected, ANSWER_TIMEOUT_S, lambda: failed),
        lambda: peer.resume(cell), failed)

    def hot_reads():
        with resp.Client(60) as client:
            for index in chance.choices(data.hot, k=HOT_READS):
                if client.call("GET", data.key(index)) != asked(data, versions, index):
                    raise BenchError(f"key {index} is wrong after the resume")

    begun = time.monotonic_ns()
    cell.in_network(hot_reads)
    return answer["detail"], {"first_answer_us": (at_ns - answer["started_ns"]) // 1000,
                              "hot_reads_us": (time.monotonic_ns() - begun) // 1000}


def changed(cell, data, versions, number, chance):
    """Writes a hundredth of the keys anew."""
    def write():
        with resp.Client(60) as client:
            for index in chance.sample(range(data.keys), data.keys // CHANGED_SHARE):
                versions[index] = number
                client.call("SET", data.key(index), data.updated(index, number))

    cell.in_network(write)


def measure(options, store):
    """All rounds."""
    data, chance, versions = Populated(options.mb, options.seed), random.Random(options.seed), {}
    binds = {"/run/bench/store": store, "/run/bench/rekindle": built("rekindle", options.rekindle)}
    program, peer = Redis(), Line(store)
    program.argv = [*program.argv, "--enable-debug-command", "yes"]
    with Cell(None, binds) as cell:
        peer.prepare(cell)
        pid, _, _ = start_program(program, None, cell)
        cell.in_network(data.fill)
        for number in range(1, options.rounds + 1):
            for cold in (False, True):
                stored = peer.stop(cell, pid)
                sync(store)
                if cold:
                    drop_caches()
                detail, figures = resumed(peer, cell, data, versions, chance)
                pid = detail["pid"]
                peer.loaded(cell, detail["instance"])
                # How many stand behind is what `list` says, not what was asked for.
                _, listed = peer._run(cell, "list")
                rows = {row["id"]: row["parent"] for row in listed["checkpoints"]}
                behind, at = -1, peer.id
                while at is not None:
                    behind, at = behind + 1, rows[at]
                line = {"kind": "chain", "behind": behind, "cold": cold, "stored_bytes": stored,
                        "load": detail["load"], **figures}
                print(json.dumps(line), file=sys.stderr)
                yield line
                changed(cell, data, versions, number, chance)


def table(lines):
    """What is printed."""
    out = ["| checkpoints behind | page cache | first answer, ms | hot reads, ms | stored, MB |", "|" + "---|" * 5]
    for line in lines:
        out.append(f"| {line['behind']} | {'cold' if line['cold'] else 'warm'} | {line['first_answer_us'] / 1000:.1f} | "
                   f"{line['hot_reads_us'] / 1000:.0f} | {line['stored_bytes'] / 1e6:.1f} |")
    for cold in (False, True):
        of = [line["first_answer_us"] / 1000 for line in lines if line["cold"] is cold]
        if of:
            out.append(f"{'cold' if cold else 'warm'}: median {statistics.median(of):.1f} ms [{min(of):.1f}..{max(of):.1f}]")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", default=tempfile.gettempdir())
    parser.add_argument("--out", help="append JSON lines to this file")
    parser.add_argument("--rekindle", help="the binary (release build of this tree)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.store, prefix="rekindle-bench-") as store:
        print(describe(options.store), file=sys.stderr)
        lines = list(measure(options, store))
    if options.out:
        with open(options.out, "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    print(table(lines))


if __name__ == "__main__":
    main()
