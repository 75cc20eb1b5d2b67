#!/usr/bin/env python3
"""What a checkpoint stores of smooth fields of numbers, exactly and with `--lossy ...,range-rel=E`.

A python3 with numpy computes fields in f64 and in f32: a few waves in two dimensions, as a simulation has
them, with some elements that are not finite. It is checkpointed while it runs, exactly and with each
bound, each time without a parent; then it is ended with each bound, resumed, and its memory read from
outside: every element is held against the bound, and everything else in the same mapping compared byte
by byte. Needs numpy (`apt-get install python3-numpy`), for the program and for this script.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from rig.verb import rekindle

try:
    import numpy
except ImportError:
    raise SystemExit("bench/lossy.py: numpy is not there: apt-get install python3-numpy") from None

HERE = os.path.dirname(os.path.abspath(__file__))
FIELDS = """
import ctypes, json, mmap, os, signal, sys
import numpy
side, out = int(sys.argv[1]), sys.argv[2]
length = side * side * 12 + 8192
memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
y, x = numpy.mgrid[0:side, 0:side] / side * 7
field = 300 + 40 * numpy.sin(x * 3 + y) * numpy.cos(y * 2) + 9 * numpy.sin(11 * x) + numpy.exp(-(x - y) ** 2)
where = {}
at = 1000
memory[:at] = os.urandom(at)
for name, dtype in ("f64", numpy.float64), ("f32", numpy.float32):
    there = numpy.frombuffer(memory, dtype, side * side, at).reshape(side, side)
    there[:] = field
    there[::97, ::89] = numpy.nan
    there[5, :3] = numpy.inf, -numpy.inf, -0.0
    where[name] = [base + at, base + at + there.nbytes]
    at += there.nbytes + 1000
memory[at:] = os.urandom(length - at)
del x, y, field
where["all"] = [base, base + length]
with open(out, "w") as file:
    file.write(json.dumps(where))
while True:
    signal.pause()
"""
WIDTHS = {"f64": numpy.float64, "f32": numpy.float32}


def start(folder, side):
    out = f"{folder}/where-{time.monotonic_ns()}"
    nothing = subprocess.DEVNULL
    words = ["setsid", "/usr/bin/python3", "-c", FIELDS, str(side), out]
    # One thread: numpy's library makes as many as there are processors.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    streams = {"stdin": nothing, "stdout": nothing, "stderr": nothing, "close_fds": True}
    pid = subprocess.Popen(words, env=environment, **streams).pid
    until = time.monotonic() + 300
    while not (os.path.exists(out) and open(out, encoding="ascii").read().endswith("}")):
        if time.monotonic() > until:
            raise SystemExit("the program did not compute its fields")
        time.sleep(0.05)
    with open(out, encoding="ascii") as file:
        return pid, json.load(file)


def read(pid, bounds):
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(bounds[0])
        return bytearray(memory.read(bounds[1] - bounds[0]))


def check(before, after, where, bound):
    """Every element within its bound, everything else the same."""
    base = where["all"][0]
    for name, dtype in WIDTHS.items():
        part = slice(where[name][0] - base, where[name][1] - base)
        was, now = (numpy.frombuffer(bytes(both[part]), dtype) for both in (before, after))
        finite = numpy.isfinite(was)
        wide = was[finite].astype(numpy.float64)
        allowed = bound * (wide.max() - wide.min())
        error = numpy.abs(now[finite].astype(numpy.float64) - wide).max()
        odd = ~finite | (was == 0)
        if not error <= allowed or was[odd].tobytes() != now[odd].tobytes():
            raise SystemExit(f"WRONG: {name} is off by {error}, {allowed} was allowed")
        print(f"  {name}: largest error {error:.3g} of {allowed:.3g}", flush=True)
        after[part] = before[part]
    if before != after:
        raise SystemExit("WRONG: something that was not named is not the same")


def measure(arguments, folder):
    store = f"{folder}/store"
    pid, where = start(folder, arguments.side)
    try:
        before = read(pid, where["all"])
        megabytes = sum(where[name][1] - where[name][0] for name in WIDTHS) / 1e6

        def options(bound):
            range_of = "range={:x}-{:x}".format
            specs = [f"{range_of(*where[n])},type={n},range-rel={bound}" for n in WIDTHS]
            return [word for spec in specs for word in ("--lossy", spec)]

        exact = rekindle(arguments.binary, store, "checkpoint", str(pid), "--parent", "none")
        print(
            f"exactly          stored {exact['stored_bytes'] / 1e6:7.1f} MB of "
            f"{exact['resident_bytes'] / 1e6:.1f}, cpu {exact['cpu_us'] / 1e6:.2f} s",
            flush=True,
        )
        for bound in arguments.bounds:
            lossy = ["--parent", "none", *options(bound)]
            report = rekindle(arguments.binary, store, "checkpoint", str(pid), *lossy)
            if read(pid, where["all"]) != before:
                raise SystemExit("WRONG: the running program was changed")
            rows = {row["type"]: row["stored_bytes"] / 1e6 for row in report["loss"]}
            # What is not the fields is the same in both.
            fields = exact["stored_bytes"] / 1e6 - report["stored_bytes"] / 1e6 + sum(rows.values())
            print(
                f"range-rel={bound:<6} stored {report['stored_bytes'] / 1e6:7.1f} MB, cpu "
                f"{report['cpu_us'] / 1e6:.2f} s, pause {report['pause_max_us'] / 1e3:.1f} ms; of "
                f"{megabytes:.1f} MB of fields {sum(rows.values()):.1f} MB (f64 {rows['f64']:.1f}, "
                f"f32 {rows['f32']:.1f}), exactly {fields:.1f}: {fields / sum(rows.values()):.1f} times "
                "smaller",
                flush=True,
            )
            again = rekindle(arguments.binary, store, "checkpoint", str(pid), *lossy[2:])
            stored = sum(row["stored_bytes"] for row in again["loss"])
            print(f"  again, on top of it: {stored} bytes of fields stored")
            ended = rekindle(arguments.binary, store, "checkpoint", str(pid), "--stop", *lossy)
            rekindle(arguments.binary, store, "verify", ended["id"])
            ends = [word for fd in range(3) for word in ("--external", f"fd={fd}:null")]
            words = ["resume", ended["id"], "--detach", "--eager", *ends]
            pid = rekindle(arguments.binary, store, *words)["pid"]
            check(before, read(pid, where["all"]), where, float(bound))
            os.kill(pid, signal.SIGKILL)
            pid, where = start(folder, arguments.side)
            before = read(pid, where["all"])
    finally:
        os.kill(pid, signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--side", type=int, default=4096, help="elements of a field: this squared")
    parser.add_argument("--bounds", nargs="+", default=["1e-3", "1e-6"])
    parser.add_argument("--store", default=tempfile.gettempdir(), help="where the store is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.store) as folder:
        measure(arguments, folder)


if __name__ == "__main__":
    sys.exit(main())
