#!/usr/bin/env python3
"""Writes to a disk in the ways that a checkpoint could be written, in turn: pieces of 1 MiB from two
threads, buffered or not, synced at the end or now and then. docs/decisions/0005 has the figures.

    python3 disk.py [--folder DIR] [--mb 512] [--rounds 3]
"""

import argparse
import mmap
import os
import resource
import statistics
import threading
import time

PIECE = 1 << 20
SYNC_EVERY = 64
WAYS = ("buffered, synced at the end", "buffered, synced each 64 MiB", "direct",
        "direct, space reserved first")


def measure(way, path, pieces, source):
    """Seconds, and processor seconds, until all is on the disk."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | (os.O_DIRECT if way.startswith("direct") else 0)
    file = os.open(path, flags, 0o600)
    os.unlink(path)
    numbers, lock = iter(range(pieces)), threading.Lock()

    def work():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            os.pwrite(file, source[number % 8 * PIECE:][:PIECE], number * PIECE)
            if way == WAYS[1] and number % SYNC_EVERY == SYNC_EVERY - 1:
                os.fdatasync(file)

    os.sync()
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    if way == WAYS[3]:
        os.posix_fallocate(file, 0, pieces * PIECE)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.fsync(file)
    ended, after = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    os.close(file)
    return (ended - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--mb", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    buffer = mmap.mmap(-1, 8 * PIECE)  # page-aligned, as unbuffered writing wants it
    buffer.write(os.urandom(8 * PIECE))
    source = memoryview(buffer)
    path = os.path.join(chosen.folder, f"rekindle-disk-{os.getpid()}")
    figures = {way: [] for way in WAYS}
    for _ in range(chosen.rounds):
        for way in WAYS:
            figures[way].append(measure(way, path, chosen.mb, source))
    gb = chosen.mb * PIECE / 1e9
    print("| way | GB/s, median [min..max] | processor s/GB |\n| --- | --- | --- |")
    for way, runs in figures.items():
        rates = [gb / seconds for seconds, _ in runs]
        cpu = statistics.median(cpu for _, cpu in runs) / gb
        print(f"| {way} | {statistics.median(rates):.2f} [{min(rates):.2f}..{max(rates):.2f}] | "
              f"{cpu:.2f} |")


if __name__ == "__main__":
    main()
