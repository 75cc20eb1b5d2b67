#!/usr/bin/env python3
"""What a checkpoint stores of a program that has read a file into its memory, with twins and without.

A python3 reads a file of noise with read() and closes it. It is checkpointed with `--twins off`, with
`--twin FILE`, and with `--stop`, each time without a parent; then it is resumed and has to find the
same bytes in its memory.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time

from rig.verb import rekindle

HERE = os.path.dirname(os.path.abspath(__file__))
LOADER = """
import hashlib, sys, time
data = open(sys.argv[1], 'rb').read()
right = hashlib.sha256(data).digest()
while True:
    same = hashlib.sha256(data).digest() == right
    with open(sys.argv[2], 'a') as out:
        out.write('right\\n' if same else 'wrong\\n')
    time.sleep(0.05)
"""


def wait_lines(path, more):
    """Waits for `more` lines than there are, and says whether all are right."""
    def lines():
        return open(path, encoding="ascii").read().splitlines() if os.path.exists(path) else []

    wanted, until = len(lines()) + more, time.monotonic() + 120
    while len(lines()) < wanted and time.monotonic() < until:
        time.sleep(0.05)
    found = lines()
    return len(found) >= wanted and set(found) == {"right"}


def measure(arguments, folder):
    weights, out, store = (f"{folder}/{name}" for name in ("weights", "out", "store"))
    with open(weights, "wb") as file:
        for _ in range(arguments.mb):
            file.write(os.urandom(1_000_000))
    # Files that changed in the last two seconds are not relied on.
    time.sleep(3)
    nothing = subprocess.DEVNULL
    words = ["setsid", "/usr/bin/python3", "-c", LOADER, weights, out]
    pid = subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing).pid
    try:
        if not wait_lines(out, 2):
            raise SystemExit("the program did not load its file")
        forms = {
            "--twins off": ["--twins", "off"],
            "--twin FILE": ["--twin", weights],
            "--stop": ["--stop"],
        }
        for name, options in forms.items():
            report = rekindle(
                arguments.binary, store, "checkpoint", str(pid), "--parent", "none", *options
            )
            print(
                f"{name:12} stored {report['stored_bytes'] / 1e6:7.1f} MB of "
                f"{report['resident_bytes'] / 1e6:.1f}, cpu {report['cpu_us'] / 1e6:.2f} s",
                flush=True,
            )
        ends = [word for fd in range(3) for word in ("--external", f"fd={fd}:null")]
        resumed = rekindle(arguments.binary, store, "resume", "latest", "--detach", *ends)
        pid = resumed["pid"]
        print("resumed, its memory is", "right" if wait_lines(out, 3) else "WRONG")
    finally:
        os.kill(pid, signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--store", default=tempfile.gettempdir(), help="where the store is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.store) as folder:
        measure(arguments, folder)


if __name__ == "__main__":
    sys.exit(main())
