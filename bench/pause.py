#!/usr/bin/env python3
"""How long a program stands still for a live checkpoint, by its size.

For each size a redis is filled, read 1000 times a second out of a hot 5% and written 100 times, every answer
compared, and checkpointed live again and again. A thread inside it (rig/heartbeat.c) touches memory, maps and
unmaps, and calls the kernel every 0.2 ms: how late that was is what the program felt. Beside each
checkpoint stands its control, the seconds before it. Then, at one size, all keys are rewritten as fast as
redis takes it; and how much of its throughput a checkpoint takes away is measured on pipelined requests.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time

from bench import built, find_criu
from rig import resp
from rig.cell import Cell, die_with_parent
from rig.errors import BenchError
from rig.machine import describe, resident
from rig.peers import Criu, Rekindle
from rig.programs import Heartbeat, Redis
from rig.rounds import live, start_program, sync

VALUE_BYTES = 1200
KEYS_PER_MB = 700
CONTROL_S = 2
WINDOW_S = 1.0
PIPELINE = 64


class Populated:
    """What `DEBUG POPULATE` makes, as the load wants it: numbers at the head of zeros."""

    def __init__(self, megabytes, seed):
        self.keys = megabytes * KEYS_PER_MB
        self.hot = random.Random(seed).sample(range(self.keys), max(1, self.keys // 20))

    @staticmethod
    def key(index):
        return b"key:%d" % index

    @staticmethod
    def loaded(index):
        return (b"value:%d" % index).ljust(VALUE_BYTES, b"\0")

    @staticmethod
    def updated(index, version):
        return (b"%d.%d." % (index, version) * VALUE_BYTES)[:VALUE_BYTES]

    def fill(self):
        with resp.Client(300) as client:
            client.call("DEBUG", "POPULATE", self.keys, "key", VALUE_BYTES)


class Flood:
    """Pipelined requests as fast as they are taken, in a process of its own."""

    def __init__(self, cell, data, write):
        self.stopped = multiprocessing.Event()
        self.answers = multiprocessing.Value("Q", 0)
        self.process = multiprocessing.Process(target=self._run, args=(cell, data, write), daemon=True)
        self.process.start()

    def _run(self, cell, data, write):
        die_with_parent()
        cell.enter_network()
        request = (lambda n: resp.encode("SET", data.key(n), data.updated(n, 1))) if write else (
            lambda n: resp.encode("GET", data.key(n)))
        at = 0
        with resp.Client(60) as client:
            while not self.stopped.is_set():
                batch = [(at + n) * 7919 % data.keys for n in range(PIPELINE)]
                at += PIPELINE
                client.socket.sendall(b"".join(map(request, batch)))
                for _ in batch:
                    client.reply()
                self.answers.value += PIPELINE

    def stop(self):
        self.stopped.set()
        self.process.join(30)
        self.process.kill()


def felt(data, program, cell, pid, peer, number):
    """One live checkpoint under the load: its figures."""
    figures, updates = live(program, data, cell, pid, peer, number, CONTROL_S)
    with_updates(cell, data, updates)
    return {name: value for name, value in figures.items() if name != "detail"}


def with_updates(cell, data, updates):
    """Puts what the load wrote back, so that the next one knows every value."""
    def restore():
        with resp.Client(60) as client:
            for index in updates:
                client.call("SET", data.key(index), data.loaded(index))

    cell.in_network(restore)


def rewritten(data, program, cell, pid, peer):
    """A live checkpoint while all keys are rewritten as fast as redis takes it."""
    flood = Flood(cell, data, write=True)
    try:
        time.sleep(1)
        program.inside_us(cell)
        taken = peer.checkpoint(cell, pid, stop=False)
        inside_us, _, _ = program.inside_us(cell)
        limited = cell.run(["/run/bench/rekindle", "checkpoint", str(pid), "--max-pause", "30ms", "--tcp", "close", "--parent", "none", "--store", peer.inside,
                            "--format", "json"], 300)
        outcome = json.loads(limited.stdout or "{}")
    finally:
        flood.stop()
    return {"pause_us": taken["pause_us"], "inside_us": inside_us,
            "copied_bytes": taken["copied_in_pause_bytes"], "limited_status": limited.status, "limited_pause_us": outcome.get("pause_us"),
            "limited_said": limited.stderr.strip().splitlines()[:2]}


def slowed(data, cell, pid, peer):
    """Throughput while a checkpoint is taken, as a share of what it is in the second before."""
    flood = Flood(cell, data, write=False)
    try:
        time.sleep(1)
        before, begun = flood.answers.value, time.monotonic()
        time.sleep(WINDOW_S)
        middle, at = flood.answers.value, time.monotonic()
        peer.checkpoint(cell, pid, stop=False)
        after, ended = flood.answers.value, time.monotonic()
    finally:
        flood.stop()
    return {"share": ((after - middle) / (ended - at)) / ((middle - before) / (at - begun))}


def measure(options, store, megabytes, peers, extra):
    """All rounds at one size."""
    program = Redis(Heartbeat(store))
    program.argv = [*program.argv, "--enable-debug-command", "yes"]
    binds = {"/run/bench/store": store, "/run/bench/rekindle": built("rekindle", options.rekindle),
             program.LIBRARY: program.heartbeat.library}
    data = Populated(megabytes, options.seed)
    with Cell(os.environ.get("CRIU_ROOT"), binds) as cell:
        pid, outside, version = start_program(program, None, cell)
        program.started(outside)
        cell.in_network(data.fill)
        size = resident(outside)["anonymous_bytes"]
        for number in range(options.rounds):
            for peer in peers:
                sync(store)
                peer.prepare(cell)
                line = {"kind": "live", "mb": megabytes, "peer": peer.name, "program": version,
                        "resident_bytes": size, **felt(data, program, cell, pid, peer, number)}
                print(json.dumps(line), file=sys.stderr)
                yield line
        if extra:
            for number in range(3):
                peers[0].prepare(cell)
                yield {"kind": "rewritten", "mb": megabytes, **rewritten(data, program, cell, pid, peers[0])}
            for number in range(options.rounds):
                peers[0].prepare(cell)
                yield {"kind": "slowed", "mb": megabytes, **slowed(data, cell, pid, peers[0])}


def middle(values):
    """Median with lowest and highest, in milliseconds of microseconds."""
    values = sorted(value / 1000 for value in values)
    return f"{statistics.median(values):.1f} [{values[0]:.1f}..{values[-1]:.1f}]"


def table(lines):
    """What is printed."""
    out = ["| MB resident | peer | felt inside, ms | control | reported, ms | felt by a client, ms | control |"
           " copied in it, MB | processor, ms |", "|" + "---|" * 9]
    groups = {}
    for line in lines:
        if line["kind"] == "live":
            groups.setdefault((line["mb"], line["peer"]), []).append(line)
    for (_, peer), of in groups.items():
        def each(name, of=of):
            return [line.get(name) for line in of]
        copied = [value for value in each("copied_in_pause_bytes") if value is not None]
        out.append(" | ".join([
            f"| {of[0]['resident_bytes'] // 1_000_000}", peer, middle(each("inside_us")),
            middle(each("control_inside_us")), middle(each("pause_us")), middle(each("felt_us")),
            middle(each("control_us")), f"{max(copied) / 1e6:.1f}" if copied else "-",
            middle(each("cpu_us"))]) + " |")
    for line in (line for line in lines if line["kind"] == "rewritten"):
        out.append(f"rewritten at full speed: pause {line['pause_us'] / 1000:.1f} ms, "
                   f"{line['copied_bytes'] / 1e6:.0f} MB copied in it, felt inside "
                   f"{line['inside_us'] / 1000:.1f} ms; with --max-pause 30ms: status {line['limited_status']}, "
                   f"pause {line['limited_pause_us']} us; {' '.join(line['limited_said'])}")
    shares = [line["share"] for line in lines if line["kind"] == "slowed"]
    if shares:
        out.append(f"pipelined throughput while a checkpoint is taken: median {statistics.median(shares):.2f} "
                   f"of that before [{min(shares):.2f}..{max(shares):.2f}], n={len(shares)}")
    return "\n".join(out)


def drawing(lines):
    """The pauses as felt inside, a dot for each, as SVG; both axes are logarithmic."""
    import math
    dots = [(line["resident_bytes"] / 1e6, line["inside_us"] / 1000, line["peer"])
            for line in lines if line["kind"] == "live"]
    width, height, edge = 640, 360, 50
    low_x, high_x = min(d[0] for d in dots) / 1.5, max(d[0] for d in dots) * 1.5
    high_y = max(20, *(d[1] for d in dots)) * 1.5

    def place(x, y):
        along = math.log(x / low_x) / math.log(high_x / low_x)
        up = math.log(max(y, 1)) / math.log(high_y)
        return edge + along * (width - 2 * edge), height - edge - up * (height - 2 * edge)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           f'font-size="12"><rect width="{width}" height="{height}" fill="white"/>']
    for tick in (1, 3, 12, 30, 100, 300, 1000, 3000, 10000):
        if tick < high_y:
            _, y = place(low_x, tick)
            dash = ' stroke-dasharray="4"' if tick == 12 else ""
            out.append(f'<line x1="{edge}" x2="{width - edge}" y1="{y:.0f}" y2="{y:.0f}" stroke="#bbb"{dash}/>'
                       f'<text x="{edge - 6}" y="{y + 4:.0f}" text-anchor="end">{tick} ms</text>')
    for size in sorted({round(d[0]) for d in dots}):
        x, _ = place(size, 1)
        out.append(f'<text x="{x:.0f}" y="{height - edge + 18}" text-anchor="middle">{size} MB</text>')
    colours = {"rekindle": "#c33", "criu": "#36c"}
    for size, pause, peer in dots:
        x, y = place(size, pause)
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colours[peer]}" fill-opacity="0.6"/>')
    for number, peer in enumerate(sorted({d[2] for d in dots})):
        out.append(f'<text x="{edge + 10 + 90 * number}" y="24" fill="{colours[peer]}">{peer}</text>')
    out.append(f'<text x="{width - edge}" y="24" text-anchor="end">longest pause felt inside, live checkpoint'
               "</text></svg>")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", default="250,1000,4000,8000", help="sizes (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--extra", type=int, default=1000, metavar="MB",
                        help="the size at which rewriting and throughput are measured (%(default)s)")
    parser.add_argument("--peers", default="rekindle", help="rekindle,criu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", default=tempfile.gettempdir())
    parser.add_argument("--out", help="append JSON lines to this file")
    parser.add_argument("--draw", help="write a drawing (SVG) to this file")
    parser.add_argument("--rekindle", help="the binary (release build of this tree)")
    options = parser.parse_args()
    if "criu" in options.peers and not find_criu(os.environ.get("CRIU_ROOT")):
        parser.error("no criu: set CRIU_ROOT to a root that has it")
    lines = []
    with tempfile.TemporaryDirectory(prefix="rekindle-bench-", dir=options.store) as store:
        every = {"rekindle": Rekindle(store, ["--tcp", "close"], []), "criu": Criu(store)}
        peers = [every[name] for name in options.peers.split(",")]
        machine = describe(store)
        for megabytes in map(int, options.mb.split(",")):
            for line in measure(options, store, megabytes, peers, megabytes == options.extra):
                lines.append(line)
                if options.out:
                    with open(options.out, "a") as file:
                        file.write(json.dumps({**line, "machine": machine}) + "\n")
    print(table(lines))
    if options.draw:
        with open(options.draw, "w") as file:
            file.write(drawing(lines))


if __name__ == "__main__":
    main()
