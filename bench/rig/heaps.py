"""Six programs with heaps of different kinds: a checkpoint, some seconds of change, and another one
that builds on it."""

import json
import os
import struct
import subprocess
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
PAGE = 4096
PRESENT, SWAPPED, OF_A_FILE = 1 << 63, 1 << 62, 1 << 61


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


def _raw_pages(pid, path):
    """Writes the private pages of a process one behind the other, as they are in memory; how many
    bytes that makes. A page that only maps a file's is none."""
    written = 0
    with open(f"/proc/{pid}/maps") as file:
        mappings = [line.split(None, 5) for line in file]
    with open(f"/proc/{pid}/mem", "rb", 0) as memory, open(path, "wb") as out, \
            open(f"/proc/{pid}/pagemap", "rb", 0) as pagemap:
        for address, permissions, _, _, _, *name in mappings:
            if permissions[3] != "p" or "r" not in permissions or "".join(name).startswith("[v"):
                continue
            start, end = (int(part, 16) // PAGE for part in address.split("-"))
            pagemap.seek(start * 8)
            entries = struct.unpack(f"<{end - start}Q", pagemap.read((end - start) * 8))
            for number, entry in zip(range(start, end), entries):
                if entry & (PRESENT | SWAPPED) and not entry & OF_A_FILE:
                    memory.seek(number * PAGE)
                    written += out.write(memory.read(PAGE))
    return written


def _raw_and_zstd(cell, pid, path):
    """Bytes of the private pages of a process of the cell, and what `zstd -3` makes of them. It
    stands still while it is read."""
    cell.run(["kill", "-STOP", str(pid)], COMMAND_S)
    try:
        raw_bytes = _raw_pages(cell.pids()[pid], path)
    finally:
        cell.run(["kill", "-CONT", str(pid)], COMMAND_S)
    made = subprocess.run(["zstd", "-3", "-q", "-c", path], stdout=subprocess.PIPE, check=True)
    os.unlink(path)
    return raw_bytes, len(made.stdout)


def _recompress(cell, line, raw_bytes, zstd_bytes):
    """Stores the first checkpoint in less space, and notes what that takes and gives."""
    ran, answer = _rekindle(cell, "prune", "--recompress")
    if answer["recompressed"] != [line["first"]["id"]]:
        raise BenchError(f"recompressed {answer['recompressed']}")
    _rekindle(cell, "verify", line["first"]["id"])
    _, again = _rekindle(cell, "prune", "--recompress")
    if again["recompressed"]:
        raise BenchError("it was recompressed twice")
    line["recompressed"] = {
        "raw_bytes": raw_bytes, "zstd_3_bytes": zstd_bytes,
        "before_bytes": answer["recompressed_before_bytes"],
        "after_bytes": answer["recompressed_after_bytes"],
        "command_cpu_us": ran.cpu_us, "wall_us": ran.wall_us}


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
        if options.recompress:
            # Read by the bench itself, from a program that stands still meanwhile.
            raw = _raw_and_zstd(cell, pid, f"{store}/raw")
        for step, parent in (("first", "none"), ("second", "latest")):
            ran, answer = _rekindle(cell, "checkpoint", str(pid), "--tcp", "close", "--parent",
                                    parent, *options.rekindle_checkpoint.split())
            keys = ("id", "parent", "resident_bytes", "stored_bytes", "referenced_bytes", "cpu_us",
                    "pause_us")
            line[step] = {key: answer[key] for key in keys}
            line[step].update(wall_us=ran.wall_us, command_cpu_us=ran.cpu_us)
            if step == "first" and options.recompress:
                _recompress(cell, line, *raw)
            if step == "first":
                time.sleep(CHURN_S)
        if line["second"]["parent"] != line["first"]["id"]:
            raise BenchError("the second checkpoint does not build on the first")
        # Every byte of both is read and compared with the hashes of what was in memory.
        _rekindle(cell, "verify", line["second"]["id"])
    return line


def recompressed_table(lines):
    """A markdown table of what a recompression of the first checkpoints gave, with the sum."""
    heaps = [line for line in lines if "recompressed" in line]
    head = ("heap", "raw pages", "zstd -3", "stored", "recompressed", "of zstd -3", "cpu s/GB")
    rows = [head, ("---",) * len(head)]

    def row(name, heaps):
        def total(key):
            return sum(line["recompressed"][key] for line in heaps)

        raw, zstd, after = total("raw_bytes"), total("zstd_3_bytes"), total("after_bytes")
        sizes = (raw, zstd, total("before_bytes"), after)
        return (name, *(f"{size / 1e6:.1f} MB" for size in sizes), f"{100 * after / zstd:.1f}%",
                f"{total('command_cpu_us') / 1e6 / (raw / 1e9):.2f}")

    rows += [row(line["heap"], [line]) for line in heaps]
    rows.append(row("sum", heaps))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


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
    if options.recompress and any("recompressed" in line for line in lines):
        print("\n" + recompressed_table(lines))
    return status
