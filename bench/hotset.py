#!/usr/bin/env python3
"""Watches a program whose hot set moves, and tells after each period how much of each set is kept.

rekindle-pattern reads and writes one of three sets of 5% of its pages at a time. After each period
of the watch the plan is borrowed, as a checkpoint would, and compared with the sets: the share of
their pages that is critical or warm.
"""

import argparse
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CRITICAL, WARM = 1, 2


def sets_of(truth):
    sets = []
    with open(truth, encoding="ascii") as lines:
        for line in lines:
            if line.startswith("set "):
                sets.append(set())
            elif sets:
                sets[-1].add(int(line, 16) // 4096)
    return sets


def kept_pages(folder):
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(f"{folder}/watch.sock")
        asking.sendall(b"lend bench\n")
        if asking.recv(16) != b"lent\n":
            raise SystemExit("the watch does not lend")
        with open(f"{folder}/watch.plan", encoding="ascii") as file:
            extents = json.load(file)["extents"]
    return {page for e in extents if e[3] in (CRITICAL, WARM) for page in range(e[1], e[1] + e[2])}


def measure(arguments, folder):
    truth, counter = f"{folder}/truth", f"{folder}/counter"
    words = [f"{arguments.bin}/rekindle-pattern", "moving", "--truth", truth, "--counter", counter]
    words += ["--mb", str(arguments.mb), "--phase-ms", str(int(arguments.phase * 1000))]
    program = subprocess.Popen(words)
    while not os.path.exists(truth):
        time.sleep(0.05)
    sets = sets_of(truth)
    words = [f"{arguments.bin}/rekindle", "--store", f"{folder}/store", "watch", str(program.pid)]
    words += ["--every", f"{arguments.every}s", "--for", f"{arguments.seconds}s", "--format", "json"]
    watch = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    begun = time.monotonic()
    try:
        for line in watch.stdout:
            event = json.loads(line)
            if event["event"] != "period":
                continue
            with open(counter, "rb") as file:
                phase = struct.unpack("QQ", file.read(16))[1] % 3
            kept = kept_pages(f"/run/rekindle/{event['instance']}")
            shares = [f"{len(pages & kept) / len(pages):.3f}" for pages in sets]
            print(f"{time.monotonic() - begun:6.1f} s  hot {phase}  kept {' '.join(shares)}  "
                  f"slowdown {event['slowdown_permille']}, own cpu {event['own_cpu_permille']} permille, "
                  f"memory {event['own_memory_bytes'] / 1e6:.0f} MB, plan {event['plan_us'] / 1000:.0f} ms", flush=True)
    finally:
        watch.send_signal(signal.SIGTERM)
        watch.wait(timeout=60)
        program.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default=f"{HERE}/../target/release")
    parser.add_argument("--mb", type=int, default=1024)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--phase", type=float, default=30)
    parser.add_argument("--seconds", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, folder)


if __name__ == "__main__":
    main()
