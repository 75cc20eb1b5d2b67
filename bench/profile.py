#!/usr/bin/env python3
"""How much of the truth a profile finds, and what it costs the program.

The target is `rekindle-pattern`, whose accesses are known page by page. See README.md.
"""
import argparse
import csv
import io
import json
import math
import mmap
import multiprocessing
import os
import pathlib
import random
import signal
import statistics
import struct
import subprocess
import tempfile
import threading
import time

from rig import resp
from rig.cell import die_with_parent

PAGE = 4096
REGION = 2 << 20
TARGET = pathlib.Path(__file__).resolve().parent.parent / "target" / "release"


class Working:
    """A running program that counts its work in a file."""

    def watch(self, counter):
        with open(counter, "rb") as file:
            self.counter = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
        self.cpu_clock = (~self.process.pid << 3) | 2

    def sample(self):
        """Now, work done and CPU time used, in nanoseconds."""
        work = struct.unpack("<Q", self.counter[:8])[0]
        return time.monotonic_ns(), work, time.clock_gettime_ns(self.cpu_clock)

    def end_now(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Redis(Working):
    """redis-server under reads and writes of a hot tenth of its keys; its work is commands."""

    KEYS, VALUE, BATCH = 200_000, 1000, 100

    def __init__(self, place):
        self.place = pathlib.Path(place)
        words = ["redis-server", "--port", str(resp.PORT), "--bind", resp.ADDRESS]
        words += ["--save", "", "--appendonly", "no", "--dir", str(place)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                client = resp.Client(60)
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit("redis-server does not answer") from None
                time.sleep(0.05)
        with client:
            for first in range(0, self.KEYS, 1000):
                client.socket.sendall(b"".join(
                    resp.encode("SET", b"key:%06d" % key, os.urandom(self.VALUE))
                    for key in range(first, first + 1000)))
                for _ in range(1000):
                    client.reply()
        counter = self.place / "counter"
        counter.write_bytes(bytes(PAGE))
        context = multiprocessing.get_context("fork")
        self.load = context.Process(target=self.work, args=(counter,), daemon=True)
        self.load.start()
        self.watch(counter)

    def work(self, counter):
        """Batches of nine reads for each write, every answer waited for."""
        die_with_parent()
        chance = random.Random(1)
        hot = chance.sample(range(self.KEYS), self.KEYS // 10)
        value = os.urandom(self.VALUE)
        batches = []
        for _ in range(500):
            keys = [b"key:%06d" % chance.choice(hot) for _ in range(self.BATCH)]
            batches.append(b"".join(
                resp.encode("GET", key) if n % 10 else resp.encode("SET", key, value)
                for n, key in enumerate(keys)))
        writes = self.BATCH // 10
        answer = (self.BATCH - writes) * len(b"$1000\r\n" + value + b"\r\n") + writes * 5
        with open(counter, "r+b") as file, resp.Client(60) as client:
            count = mmap.mmap(file.fileno(), 8)
            done, buffer = 0, bytearray(answer)
            while True:
                client.socket.sendall(batches[done % len(batches)])
                left = memoryview(buffer)
                while left:
                    left = left[client.socket.recv_into(left) or exit(1):]
                done += 1
                count[:8] = struct.pack("<Q", done * self.BATCH)

    def end_now(self):
        self.load.kill()
        super().end_now()


class Target(Working):
    """A running pattern program and what is true of it."""

    def __init__(self, args, pattern, place, threads=1):
        self.place = pathlib.Path(place)
        self.counter_path = self.place / "counter"
        truth = self.place / "truth"
        words = [str(args.bin / "rekindle-pattern"), pattern, "--mb", str(args.mb)]
        words += ["--seed", str(args.seed), "--threads", str(threads)]
        words += ["--truth", str(truth), "--counter", str(self.counter_path)]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        while not truth.exists():
            if self.process.poll() is not None:
                raise SystemExit("the pattern program ended")
            time.sleep(0.05)
        self.sets, self.stores = {}, {}
        for line in truth.read_text().splitlines():
            words = line.split(" ", 2)
            if words[0] == "arena":
                self.start, self.end = int(words[1], 16), int(words[2], 16)
            elif words[0] == "store":
                self.stores[words[1]] = int(words[2], 16)
            elif words[0] == "set":
                pages = self.sets.setdefault(words[1], (words[2], set()))[1]
            else:
                pages.add(int(words[0], 16))
        self.watch(self.counter_path)


def rekindle(args, *words):
    command = [str(args.bin / "rekindle"), *words, "--store", str(args.store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def profile(args, target, seconds, *options):
    """A profile's report, and its pages of the arena: address -> row of the CSV."""
    heat = target.place / "x.heat"
    words = ["profile", str(target.process.pid), "--for", f"{seconds}s", "-o", str(heat)]
    report = json.loads(rekindle(args, *words, *options, "--format", "json"))
    pages = {}
    for row in csv.DictReader(io.StringIO(rekindle(args, "heatmap", str(heat), "--format", "csv"))):
        first, last = int(row["start"], 16), int(row["end"], 16)
        for page in range(max(first, target.start), min(last, target.end), PAGE):
            pages[page] = row
    return report, pages


def number(text):
    return float(text) if text else 0.0


def was_written(row):
    return number(row["write_count"]) > 0


def was_seen(row):
    return was_written(row) or number(row["read_count"]) > 0 or row["certainty"] == "sampled"


def score(found, true):
    right = len(found & true)
    return right / max(len(true), 1), right / max(len(found), 1)


def auc(target, pages):
    scores = {region: 0.0 for region in range(target.start // REGION, target.end // REGION)}
    for page, row in pages.items():
        if was_seen(row):
            scores[page // REGION] += 1
    hot = {page // REGION for page in target.sets["hot"][1]}
    won = sum(
        1.0 if scores[mine] > scores[other] else 0.5 if scores[mine] == scores[other] else 0.0
        for mine in hot
        for other in scores
        if other not in hot
    )
    return won / (len(hot) * (len(scores) - len(hot)))


def never(target, pages):
    touched = set().union(*(own for _, own in target.sets.values()))
    return sum(1 for page, row in pages.items() if was_seen(row) and page not in touched)


def judge(args):
    """The figures that a profile is judged by, one line each."""
    with tempfile.TemporaryDirectory() as place:
        target = Target(args, "mixed", place)
        try:
            report, pages = profile(args, target, 10)
            written = {page for page, row in pages.items() if was_written(row)}
            true = set().union(*(target.sets[kind][1] for kind in target.stores))
            recall, precision = score(written, true)
            print(f"written pages, 10 s: recall {recall:.4f} precision {precision:.4f}")
            print(f"pages of the never set told as touched: {never(target, pages)}")
            print(f"cost by its own account: {report['overhead_estimate_permille']} permille, "
                  f"stood still {report['stop_us']} us, longest lock {report['lock_max_us']} us")
            report, pages = profile(args, target, 15, "--exact")
            touched = set().union(*(own for _, own in target.sets.values()))
            seen = {page for page, row in pages.items() if was_seen(row)}
            recall, precision = score(seen, touched)
            print(f"touched pages, --exact, 15 s: recall {recall:.4f} precision {precision:.4f}")
        finally:
            target.end_now()
    with tempfile.TemporaryDirectory() as place:
        target = Target(args, "model", place)
        try:
            report, pages = profile(args, target, 30)
            print(f"read-only hot regions, 30 s: AUC {auc(target, pages):.4f}, "
                  f"pages of the never set: {never(target, pages)}")
        finally:
            target.end_now()


def slowdown(args):
    """Work for each CPU-second with collectors on, against off, in blocks of one session."""
    with tempfile.TemporaryDirectory() as place:
        if args.pattern == "redis":
            target = Redis(place)
        else:
            target = Target(args, args.pattern, place, args.threads)
        ratios = []
        try:
            until = time.monotonic() + args.seconds_max
            while time.monotonic() < until:
                ratios += session(args, target)
                mean, half = interval(ratios)
                print(f"{len(ratios)} pairs: slowdown {mean:.2f}% +- {half:.2f}, "
                      f"upper bound {mean + half:.2f}%", flush=True)
                if len(ratios) >= 10 and half <= args.half_width:
                    break
        finally:
            target.end_now()


def interval(ratios):
    """Mean slowdown in percent, and half of its 95% interval."""
    percents = [100 * (1 - ratio) for ratio in ratios]
    if len(percents) < 3:
        return statistics.fmean(percents or [0.0]), math.inf
    return statistics.fmean(percents), 1.96 * statistics.stdev(percents) / math.sqrt(len(percents))


def session(args, target):
    """The ratios on / off of neighbouring blocks of one profile."""
    samples, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.01):
            samples.append(target.sample())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        words = ["profile", str(target.process.pid), "--for", "60s", "--format", "json"]
        report = json.loads(rekindle(args, *words, "--alternate", f"{args.block_ms}ms"))
    finally:
        stop.set()
        watcher.join()
    print(f"armed once for {report['stop_us']} us, let go in {report['later_stops_us']} us, "
          f"longest lock {report['lock_max_us']} us, by its own account "
          f"{report['overhead_estimate_permille'] / 10}% of the CPU time it was on")
    rates = []
    for block in report["blocks"]:
        # What was armed is read back in the first interval of the next block.
        inside = [s for s in samples if block["from_ns"] + 2e8 <= s[0] <= block["until_ns"]]
        if len(inside) > 3 and inside[-1][2] > inside[0][2]:
            work = inside[-1][1] - inside[0][1]
            rates.append((block["on"], work / (inside[-1][2] - inside[0][2])))
    pairs = zip(rates, rates[1:])
    return [on[1] / off[1] for on, off in pairs if on[0] and not off[0]]


def large(args):
    """16 GB of mappings: our memory while profiling, and the time a map of it takes."""
    with tempfile.TemporaryDirectory() as place:
        target = Target(args, "mixed", place)
        try:
            heat = pathlib.Path(place) / "x.heat"
            # Much is allowed so that much is found: the map is to be large.
            words = ["profile", str(target.process.pid), "--for", f"{args.seconds}s"]
            words += ["--max-slowdown", "50%", "--format", "json"]
            _, peak = measured(args, *words, "-o", str(heat))
            print(f"profile of {args.mb} MB for {args.seconds} s: at most {peak / 1024:.0f} MB")
        finally:
            target.end_now()
        print(f"heat: {heat.stat().st_size / 1e6:.1f} MB")
        for kind, options in [("text", []), ("html", ["--format", "html"])]:
            out = ["-o", str(pathlib.Path(place) / "out")] if kind == "html" else []
            took, peak = measured(args, "heatmap", str(heat), *options, *out)
            print(f"heatmap as {kind}: {took:.2f} s, at most {peak / 1024:.0f} MB")


def measured(args, *words):
    """Seconds of one command, and the most memory in kB that it was seen with."""
    command = [str(args.bin / "rekindle"), *words, "--store", str(args.store)]
    begun = time.monotonic()
    peak = 0
    with open(os.devnull, "wb") as null:
        child = subprocess.Popen(command, stdout=null)
        # What wait4 tells counts our own memory, too, which the child had before its exec.
        while child.poll() is None:
            status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
            lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
            if lines and pathlib.Path(f"/proc/{child.pid}/exe").exists():
                peak = int(lines[0][1])
            time.sleep(0.002)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
    return time.monotonic() - begun, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["judge", "slowdown", "large"])
    parser.add_argument("--mb", type=int, help="of the pattern; 1024, for large 16384")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=pathlib.Path, default=TARGET)
    parser.add_argument("--store", type=pathlib.Path)
    parser.add_argument("--pattern", choices=["mixed", "model", "redis"], default="mixed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--block-ms", type=int, default=2000)
    parser.add_argument("--half-width", type=float, default=0.7, help="in points")
    parser.add_argument("--seconds-max", type=int, default=1200)
    parser.add_argument("--seconds", type=int, default=30, help="of the profile of large")
    parser.add_argument("--no-calibrate", action="store_true")
    args = parser.parse_args()
    args.mb = args.mb or (16384 if args.what == "large" else 1024)
    with tempfile.TemporaryDirectory() as place:
        args.store = args.store or pathlib.Path(place) / "store"
        if not args.no_calibrate:
            print(rekindle(args, "check", "--calibrate").splitlines()[-1])
        {"judge": judge, "slowdown": slowdown, "large": large}[args.what](args)


if __name__ == "__main__":
    main()
