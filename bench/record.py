#!/usr/bin/env python3
"""What `--record-input` costs a system call, while it records.

A program makes blocks of system calls. A checkpoint that records input begins and is taken back again and again, of that
program itself (`own`) or of one that sleeps (`other`: what all other programs of the host pay). Blocks that lie wholly in a
time with recording are held against those of the times without, in turn. Figures are nanoseconds; those of `pipe` are of a
write(2) and the read(2) that follows.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time

from rig.errors import BenchError

HERE = os.path.dirname(os.path.abspath(__file__))


def build(folder):
    built = subprocess.run(["cc", "-O2", "-o", f"{folder}/calls", f"{HERE}/rig/calls.c"],
                           capture_output=True, text=True, check=False)
    if built.returncode:
        raise BenchError(f"cannot build the program that makes calls: {built.stderr}")
    return [f"{folder}/calls"]


def has_bpf(pid):
    """Whether the process holds a BPF program."""
    with contextlib.suppress(FileNotFoundError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if "bpf" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                    return True
    return False


def recording(arguments, pid, folder):
    """The time in which a checkpoint that is never taken records."""
    words = [arguments.binary, "--store", f"{folder}/store", "checkpoint", str(pid), "--rehearse", "50ms",
             "--record-input", f"{int(arguments.seconds * 1000) + 5000}ms"]
    with open(f"{folder}/messages", "wb") as messages:
        checkpoint = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages)
    try:
        deadline = time.monotonic() + 5
        while not has_bpf(checkpoint.pid):
            if checkpoint.poll() is not None or time.monotonic() > deadline:
                with open(f"{folder}/messages", encoding="utf-8", errors="replace") as messages:
                    raise BenchError(f"it does not record: {messages.read()[-500:]}")
            time.sleep(0.01)
        # It is loaded; that it is attached takes another moment.
        time.sleep(0.2)
        begun = time.monotonic_ns()
        time.sleep(arguments.seconds)
        return begun, time.monotonic_ns()
    finally:
        checkpoint.send_signal(signal.SIGINT)
        checkpoint.wait(timeout=30)


def resting(arguments):
    time.sleep(0.2)
    begun = time.monotonic_ns()
    time.sleep(arguments.seconds)
    return begun, time.monotonic_ns()


def blocks(output, span):
    """The median cost of a call in a span of time, by kind."""
    costs = {}
    with open(output, encoding="ascii") as lines:
        for line in lines:
            words = line.split()
            if line.endswith("\n") and len(words) == 4 and span[0] <= int(words[1]) and int(words[2]) <= span[1]:
                costs.setdefault(words[0], []).append(float(words[3]))
    return {kind: statistics.median(each) for kind, each in costs.items()}


def measure(arguments, whose, folder):
    output = f"{folder}/{whose}"
    with open(output, "wb") as lines:
        calls = subprocess.Popen(["setsid", *build(folder)], stdin=subprocess.DEVNULL, stdout=lines, stderr=lines)
    sleeper = subprocess.Popen(["setsid", "sleep", "86400"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        target = calls.pid if whose == "own" else sleeper.pid
        spans = [(resting(arguments), recording(arguments, target, folder)) for _ in range(arguments.rounds)]
    finally:
        for program in (calls, sleeper):
            program.kill()
            program.wait()
    pairs = [(blocks(output, without), blocks(output, with_it)) for without, with_it in spans]
    for kind in ("getppid", "pipe"):
        each = [(without[kind], with_it[kind]) for without, with_it in pairs if kind in without and kind in with_it]
        if not each:
            raise BenchError("no block of calls fits into the time; give more --seconds")
        added = sorted(with_it - without for without, with_it in each)
        print(json.dumps({
            "calls_of": whose, "call": kind, "rounds": len(each),
            "without_ns": round(statistics.median(without for without, _ in each), 1),
            "with_ns": round(statistics.median(with_it for _, with_it in each), 1),
            "added_ns": round(statistics.median(added), 1),
            "added_ns_min": round(added[0], 1), "added_ns_max": round(added[-1], 1),
        }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1, help="how long each time with, and each without, is")
    parser.add_argument("--folder", help="where files are made; default: a temporary folder")
    arguments = parser.parse_args()
    for whose in ("other", "own"):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            measure(arguments, whose, folder)


if __name__ == "__main__":
    main()
