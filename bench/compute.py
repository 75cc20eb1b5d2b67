#!/usr/bin/env python3
"""What a rehearsal foresees of programs that compute, and how many faults that saves.

Each program (a simulation in numpy, a loop in Python, queries of sqlite in Python and in its shell, a worker in
Java) is checkpointed twice while it computes, with a rehearsal and without, each time as the first
checkpoint of a store. It is then resumed three times:

- with the rehearsal, and nothing loaded beforehand or in the background (`--on-demand`): the log of faults is which
  pages the program touches, in order. Of its first 2,000 pages the share that was foreseen is the recall;
  of the first 2,000 pages that were foreseen the share that it touched at all is the precision. Pages that
  the checkpoint does not hold, memory that was never written before, count as neither: there is nothing to load.
- in the usual way (`--lazy`), with the rehearsal and without: the faults before it has done what it did in a second before
  it was checkpointed, and before it has done its first turn.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time

from rig import computing
from rig.errors import BenchError
from rig.foreseen import fault_log, pages_of
from rig.verb import rekindle

HERE = os.path.dirname(os.path.abspath(__file__))


def resumed(arguments, store, folder, way):
    """Resumes and lets compute. Gives the pages that were waited for with the moments, in milliseconds on the
    host's clock, and the moments at which turns were over. The store stays as it was."""
    copy = f"{folder}/copy"
    shutil.copytree(store, copy, symlinks=True)
    before = time.time_ns() // 1_000_000
    words = ["resume", "latest", "--detach", "--files", "ignore", way]
    pid = rekindle(arguments.binary, copy, *words)["pid"]
    time.sleep(arguments.seconds)
    turns = [turn for turn in computing.turns_ms(folder) if turn >= before]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    # The log is whole when the program has ended, and nobody holds it any more.
    while os.path.exists(f"/proc/{pid}") or not (log := fault_log(copy)):
        if time.monotonic() > deadline:
            raise BenchError("the resumed program does not end, or left no log of its faults")
        time.sleep(0.1)
    shutil.rmtree(copy)
    return log, turns


def faults_in(resume, turns_wanted):
    """The faults before so many turns were over; `None` when it did not get that far."""
    log, turns = resume
    if len(turns) < turns_wanted:
        return None
    return sum(at_ms <= turns[turns_wanted - 1] for _, at_ms in log)


def share(part, whole):
    return round(part / whole, 3) if whole else None


def measure(arguments, name, folder):
    program = computing.start(name, folder, arguments.drift)
    usual, without = f"{folder}/rehearsed", f"{folder}/not-rehearsed"
    try:
        time.sleep(arguments.warm)
        turns = computing.turns_ms(folder)
        in_a_second = sum(turn > turns[-1] - 1000 for turn in turns)
        words = ["checkpoint", str(program.pid), "--rehearse"]
        report = rekindle(arguments.binary, usual, *words, arguments.rehearse)
        # Without one it is checkpointed where it stands then: it does the same all the time.
        rekindle(arguments.binary, without, *words, "off", "--stop")
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        program.wait()
    rehearsal = report["rehearsal"]
    held, foreseen = pages_of(arguments.binary, usual)
    log, _ = resumed(arguments, usual, folder, "--on-demand")
    touched = [page for page, _ in log if page in held]
    lazily = {"with": resumed(arguments, usual, folder, "--lazy"),
              "without": resumed(arguments, without, folder, "--lazy")}
    first, foreseen_first = touched[:arguments.pages], foreseen[:arguments.pages]
    if arguments.keep:
        with open(f"{arguments.keep}/{name}.json", "w", encoding="ascii") as file:
            json.dump({"touched": touched, "foreseen": foreseen, **lazily}, file)
    return {
        "ended": rehearsal["ended"],
        "threads": rehearsal["threads"],
        "calls": rehearsal["calls"],
        "fork_ms": round(rehearsal["fork_us"] / 1000, 1),
        "run_ms": round(rehearsal["run_us"] / 1000, 1),
        "foreseen_pages": len(foreseen),
        "touched_pages": len(touched),
        "new_pages": len(log) - len(touched),
        "recall": share(len(set(foreseen) & set(first)), len(first)),
        "precision": share(len(set(foreseen_first) & set(touched)), len(foreseen_first)),
        "turns_in_a_second": in_a_second,
        **{f"faults_{name}": faults_in(resume, in_a_second) for name, resume in lazily.items()},
        **{f"faults_{name}_first_turn": faults_in(resume, 1) for name, resume in lazily.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(computing.PROGRAMS)}; default: all")
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--rehearse", default="50ms")
    parser.add_argument("--pages", type=int, default=2000, help="the first pages that count")
    parser.add_argument("--drift", type=float, default=1, help="how fast each program goes on to other memory")
    parser.add_argument("--warm", type=float, default=2, help="seconds of computing before the checkpoint")
    parser.add_argument("--seconds", type=float, default=8, help="how long a resumed program computes")
    parser.add_argument("--folder", help="where stores are made; default: a temporary folder")
    parser.add_argument("--keep", help="where the pages are written down, too: one file for each program")
    arguments = parser.parse_args()
    unknown = set(arguments.programs) - set(computing.PROGRAMS)
    if unknown:
        parser.error(f"there is no program named {', '.join(sorted(unknown))}")
    for name in arguments.programs or computing.PROGRAMS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            print(json.dumps({"program": name, **measure(arguments, name, folder)}), flush=True)


if __name__ == "__main__":
    main()
