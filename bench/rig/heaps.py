"""Six programs with heaps of different kinds: a checkpoint, some seconds of change, and another one
that builds on it."""

import json
import os
import sys
import tempfile
import time

from .cell import Cell
from .errors import BenchError
from .machine import describe, load_average

HEAPS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "heaps")
# Name, command, megabytes that the programs are asked for; together about 1800 MB resident.
PROGRAMS = {
    "keyvalue": ([sys.executable, f"{HEAPS}/keyvalue.py"], 300),
    "objects": ([sys.executable, f"{HEAPS}/objects.py"], 300),
    "documents": (["node", "--max-old-space-size=2048", f"{HEAPS}/documents.js"], 300),
    "records": (["java", "-Xms512m", "-Xmx768m", f"{HEAPS}/Records.java"], 200),
    "database": ([sys.executable, f"{HEAPS}/database.py"], 200),
    "numeric": ([sys.executable, f"{HEAPS}/numeric.py"], 320),
}
FILL_S, CHURN_S, COMMAND_S = 600, 7, 600
SETTLE_S = 1


def _rekindle(cell, *arguments):
    argv = ["/run/bench/rekindle", *arguments, "--store", "/run/bench/store/heaps", "--format",
            "json"]
    ran = cell.run(argv, COMMAND_S)
    if ran.status != 0:
        raise BenchError(f"rekindle {arguments[0]} failed with status {ran.status}\n"
                         f"{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran, json.loads(ran.stdout)


def _filled(store, deadline):
    """Waits for the program to be full; the pid it has in its cell."""
    while time.monotonic() < deadline:
        try:
            with open(f"{store}/ready") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            time.sleep(0.05)
    raise BenchError(f"not full after {FILL_S} s")


def measure(name, store, binary, options):
    """The figures of one heap."""
    argv, megabytes = PROGRAMS[name]
    megabytes = megabytes * options.percent // 100
    line = {"kind": "heap", "heap": name, "mb": megabytes, "load": load_average()}
    binds = {"/run/bench/store": store, "/run/bench/rekindle": binary}
    with Cell(None, binds) as cell:
        cell.start([*argv, "--mb", str(megabytes), "--seed", str(options.seed), "--seconds",
                    str(COMMAND_S), "--ready", "/run/bench/store/ready"])
        pid = _filled(store, time.monotonic() + FILL_S)
        time.sleep(SETTLE_S)
        for step, parent in (("first", "none"), ("second", "latest")):
            ran, answer = _rekindle(cell, "checkpoint", str(pid), "--tcp", "close", "--parent",
                                    parent, *options.rekindle_checkpoint.split())
            keys = ("id", "parent", "resident_bytes", "stored_bytes", "referenced_bytes", "cpu_us",
                    "pause_us")
            line[step] = {key: answer[key] for key in keys}
            line[step].update(wall_us=ran.wall_us, command_cpu_us=ran.cpu_us)
            if step == "first":
                time.sleep(CHURN_S)
        if line["second"]["parent"] != line["first"]["id"]:
            raise BenchError("the second checkpoint does not build on the first")
        # Every byte of both is read and compared with the hashes of what was in memory.
        _rekindle(cell, "verify", line["second"]["id"])
    return line


def table(lines):
    """A markdown table of heaps, with the sum."""
    heaps = [line for line in lines if line["kind"] == "heap"]
    head = ("heap", "resident", "first stored", "second stored", "of the first", "first, cpu s/GB",
            "second, cpu s")
    rows = [head, ("---",) * len(head)]

    def row(name, heaps):
        def total(step, key):
            return sum(line[step][key] for line in heaps)

        stored = total("first", "stored_bytes"), total("second", "stored_bytes")
        per_gb = total("first", "command_cpu_us") / 1e6 / (total("first", "resident_bytes") / 1e9)
        return (name, f"{total('second', 'resident_bytes') / 1e6:.0f} MB",
                f"{stored[0] / 1e6:.1f} MB", f"{stored[1] / 1e6:.1f} MB",
                f"{100 * stored[1] / stored[0]:.1f}%", f"{per_gb:.2f}",
                f"{total('second', 'command_cpu_us') / 1e6:.2f}")

    rows += [row(line["heap"], [line]) for line in heaps]
    if heaps:
        rows.append(row("sum", heaps))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def run(options, binary):
    """All heaps one after the other, each with a store of its own; a table."""
    lines, status = [], 0
    for name in options.heaps.split(","):
        if name not in PROGRAMS:
            raise BenchError(f"unknown heap {name}, choose from {','.join(PROGRAMS)}")
        with tempfile.TemporaryDirectory(prefix="rekindle-bench-", dir=options.store) as store:
            if not lines:
                lines.append({"kind": "machine", "workload": "six-heaps", **describe(store)})
            try:
                lines.append(measure(name, store, binary, options))
                second = lines[-1]["second"]
                print(f"{name}: {second['stored_bytes'] / 1e6:.1f} MB of "
                      f"{second['resident_bytes'] / 1e6:.0f} MB", file=sys.stderr)
            except (BenchError, OSError) as error:
                lines.append({"kind": "failure", "heap": name, "error": str(error)})
                print(f"{name} FAILED: {error}", file=sys.stderr)
                status = 1
    if options.out:
        with open(options.out, "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    print(table(lines))
    return status
