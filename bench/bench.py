#!/usr/bin/env python3
"""Benchmarks of rekindle, criu beside it. Needs root, python3, util-linux; see README.md."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from rig import heaps, report
from rig.cell import Cell
from rig.dataset import Dataset
from rig.errors import BenchError
from rig.machine import describe
from rig.peers import Criu, CriuLazy, Rekindle
from rig.programs import Heartbeat, Redis, SampleKv
from rig.rounds import Plan, measure

# The mean value is 1200 bytes; this many keys make redis about 1 GB resident.
KEYS_PER_GB = 703_606
REKINDLE_RESUME = ("--eager --tcp close "
                   "--external fd=0:null --external fd=1:null --external fd=2:null")


def find_criu(root):
    """Whether criu can be run: inside `root` or, without one, from PATH."""
    folders = ("/usr/sbin", "/usr/bin", "/sbin")
    path = os.pathsep.join(root + folder for folder in folders) if root else None
    return shutil.which("criu", path=path) is not None


def built(name, path):
    """A binary of this tree: as named, else its release build."""
    tree = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(tree, "target"))
    path = os.path.abspath(path or os.path.join(target, "release", name))
    if not os.access(path, os.X_OK):
        raise BenchError(f"no {name} at {path}: build it with `cargo build --release -p {name}`")
    return path


def compare(options):
    """Rounds of all peers in turn on one store directory, and a table."""
    root = os.environ.get("CRIU_ROOT")
    binds, peers = {}, []
    with tempfile.TemporaryDirectory(prefix="rekindle-bench-", dir=options.store) as store:
        if options.verb == "redis-1gb":
            program = Redis(Heartbeat(store))
            binds[program.LIBRARY] = program.heartbeat.library
        else:
            program = SampleKv()
            binds[program.argv[0]] = built(program.name, options.sample_kv)
        binds["/run/bench/store"] = store
        for name in options.peers.split(","):
            if name in ("criu", "criu-lazy"):
                if not find_criu(root):
                    raise BenchError("no criu: set CRIU_ROOT to a root that has it, or take "
                                     "--peers rekindle")
                peers.append(Criu(store) if name == "criu" else CriuLazy(store))
            elif name == "rekindle":
                binds["/run/bench/rekindle"] = built("rekindle", options.rekindle)
                peers.append(Rekindle(store, options.rekindle_checkpoint.split(),
                                      options.rekindle_resume.split()))
            else:
                raise BenchError(f"unknown peer {name}, choose from rekindle,criu,criu-lazy")
        keys = KEYS_PER_GB * options.mb // 1000
        print(f"data: {keys} keys, made once", file=sys.stderr)
        data = Dataset(store, keys, options.seed)
        plan = Plan(program, data, store, root, binds, options)
        machine = {"kind": "machine", **describe(store), "workload": options.verb,
                   "mb": options.mb, "keys": keys, "seed": options.seed, "cold": options.cold,
                   "user": options.user or "root"}
        return run_rounds(options, plan, peers, machine)


def run_rounds(options, plan, peers, machine):
    """Every peer in turn, `options.rounds` times; a failed round is recorded, not repeated."""
    lines = []

    def record(line):
        lines.append(line)
        if options.out:
            with open(options.out, "a") as file:
                file.write(json.dumps(line) + "\n")

    record(machine)
    for number in range(1, options.rounds + 1):
        for peer in peers:
            try:
                line = measure(plan, peer, number, last=number == options.rounds)
                answer = line["resume"]["first_answer_us"] // 1000
                print(f"{peer.name} round {number}: pause {line['live']['pause_us'] // 1000} ms, "
                      f"felt {line['live']['felt_us'] // 1000} ms, first answer {answer} ms",
                      file=sys.stderr)
            except (BenchError, OSError) as error:
                line = {"kind": "failure", "peer": peer.name, "round": number, "error": str(error)}
                print(f"{peer.name} round {number} FAILED: {error}", file=sys.stderr)
            record(line)
    print(report.table(lines))
    return 1 if any(line["kind"] == "failure" for line in lines) else 0


def criu_root(options):
    """Makes a root of a newer Debian suite with criu and redis in it."""
    if os.path.exists(os.path.join(options.into, "usr/sbin/criu")):
        print(f"{options.into} has criu already")
        return 0
    return subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=criu,redis-server,nftables",
         options.suite, options.into], timeout=1800).returncode


def check(options):
    """Whether cells work here and what criu says of this host."""
    root = os.environ.get("CRIU_ROOT")
    with Cell(root, {}) as cell:
        if not find_criu(root):
            print("criu: not found (CRIU_ROOT, PATH)")
            return 1
        for argv in (["criu", "--version"], ["criu", "check"], ["redis-server", "--version"]):
            ran = cell.run(argv, 20)
            print(f"{' '.join(argv)}: status {ran.status}: {(ran.stdout + ran.stderr).strip()}")
    return 0


def add_compare(one):
    """The options of a comparison."""
    one.add_argument("--peers", default="rekindle,criu", help="in this order (%(default)s)")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--mb", type=int, default=1000, help="about this much memory (%(default)s)")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--store", default=tempfile.gettempdir(),
                     help="directory on the file system to store on (%(default)s)")
    one.add_argument("--out", help="append JSON lines to this file")
    one.add_argument("--user", help="run the program as this user of the cell (root)")
    one.add_argument("--cold", action="store_true", help="drop the page cache before each resume")
    one.add_argument("--settle", action="store_true",
                     help="the load goes on for 11 s after the resume: worst request")
    one.add_argument("--no-bgsave", action="store_true", help="no BGSAVE in the last round")
    one.add_argument("--zstd", action="store_true", help="compress what is stored, last round")
    one.add_argument("--rekindle", help="the binary (release build of this tree)")
    one.add_argument("--sample-kv", help="the binary (release build of this tree)")
    one.add_argument("--rekindle-checkpoint", default="--tcp close", metavar="OPTIONS",
                     help="options of the checkpoint verb (%(default)s)")
    one.add_argument("--rekindle-resume", default=REKINDLE_RESUME, metavar="OPTIONS",
                     help="options of the resume verb (%(default)s)")
    one.set_defaults(run=compare)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in (("redis-1gb", "a redis-server under load, peers in turn"),
                       ("kv-1gb", "the sample service, which tells what it feels inside")):
        add_compare(verbs.add_parser(verb, help=text))
    six = verbs.add_parser("six-heaps", help="a second checkpoint of six heaps that changed")
    six.add_argument("--heaps", default=",".join(heaps.PROGRAMS), help="which (%(default)s)")
    six.add_argument("--percent", type=int, default=100, help="of their usual size")
    six.add_argument("--seed", type=int, default=1)
    six.add_argument("--recompress", action="store_true",
                     help="store the first checkpoint in less space, beside `zstd -3` of the pages")
    six.add_argument("--store", default=tempfile.gettempdir(),
                     help="directory on the file system to store on (%(default)s)")
    six.add_argument("--out", help="append JSON lines to this file")
    six.add_argument("--rekindle", help="the binary (release build of this tree)")
    six.add_argument("--rekindle-checkpoint", default="", metavar="OPTIONS",
                     help="more options of the checkpoint verb")
    six.set_defaults(run=lambda options: heaps.run(options, built("rekindle", options.rekindle)))
    two = verbs.add_parser("report", help="the table of JSON lines")
    two.add_argument("files", nargs="+")
    two.set_defaults(run=lambda options: print(report.table(report.read(options.files))) or 0)
    three = verbs.add_parser("criu-root", help="make a root with criu (needs debootstrap)")
    three.add_argument("into")
    three.add_argument("--suite", default="sid")
    three.set_defaults(run=criu_root)
    four = verbs.add_parser("check", help="do cells and criu work here")
    four.set_defaults(run=check)
    options = parser.parse_args()
    # An end by signal takes the same way as any other: cells and data are cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return options.run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
