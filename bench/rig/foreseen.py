"""What a rehearsal foresaw of a checkpoint, and what its resume then waited for."""

import glob
import json
import os
import time

from .verb import rekindle

PAGE = 4096


def pages_of(binary, store):
    """The pages of the program's own memory that the newest checkpoint holds, and those that it owes to the rehearsal,
    first ones first."""
    held, foreseen = set(), []
    for row in rekindle(binary, store, "inspect", "latest", "pages")["pages"]:
        if row["memory"] != "private memory 0":
            continue
        pages = range(int(row["start"], 16) // PAGE, int(row["end"], 16) // PAGE)
        held.update(pages)
        if "rehearsal" in row["reason"]:
            foreseen += pages
    return held, foreseen


def fault_log(store):
    """The pages of the newest fault log in order, each with the moment of its first fault in milliseconds on the host's
    clock; nothing when there is no log."""
    logs = glob.glob(f"{store}/lines/*/faults/*")
    if not logs:
        return []
    newest = max(logs, key=os.path.getmtime)
    # Its name tells when the resume began, on the clock that does not jump.
    begun_ns = int(os.path.basename(newest).split("-")[-1].split(".")[0], 16)
    begun_ms = (begun_ns + time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1_000_000
    pages = {}
    with open(newest, encoding="utf-8") as log:
        for line in log:
            entry = json.loads(line)
            if entry.get("memory") == "p0":
                pages.setdefault(entry["page"], begun_ms + entry["time_us"] // 1000)
    return list(pages.items())


def waited_for(store):
    """The pages of the newest fault log, in order."""
    return [page for page, _ in fault_log(store)]
