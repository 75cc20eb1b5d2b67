"""What a figure was measured on."""

import mmap
import multiprocessing
import os
import platform
import subprocess

MAP_POPULATE = 0x8000


def _read(path, otherwise="unknown"):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return otherwise


def load_average():
    """Runnable tasks over the last minute, as text."""
    return _read("/proc/loadavg").split()[0]


def touch_memory(wanted_bytes):
    """Touches memory once and gives it back, at most half of what is available.

    In a virtual machine the first touch of a page is a fault of the host, several times dearer
    than any later one: whoever comes first would pay it for the others.
    """
    available = [int(line.split()[1]) * 1024 for line in _read("/proc/meminfo").split("\n")
                 if line.startswith("MemAvailable")]
    length = min(wanted_bytes, available[0] // 2 if available else 0)
    if length:
        child = multiprocessing.get_context("fork").Process(target=_touch, args=(length,))
        child.start()
        child.join()


def _touch(length):
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_POPULATE
    mmap.mmap(-1, length, flags=flags).close()


def stolen_us():
    """Time the host has kept all processors of this machine from running, since boot."""
    words = _read("/proc/stat").split("\n")[0].split()
    ticks = int(words[8]) if len(words) > 8 else 0
    return ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")


def describe(store):
    """The machine as a dictionary; `store` is where checkpoints go."""
    cpus = [line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").split("\n")
            if line.startswith("model name")]
    memory = [line.split()[1] for line in _read("/proc/meminfo").split("\n")
              if line.startswith("MemTotal")]
    file_system = subprocess.run(["stat", "-f", "-c", "%T", store], capture_output=True,
                                 text=True).stdout.strip()
    return {
        "cpu": cpus[0] if cpus else "unknown", "cpus": os.cpu_count(),
        "kernel": platform.release(), "memory_kib": int(memory[0]) if memory else None,
        "load": load_average(), "store_file_system": file_system,
        "transparent_hugepage": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
    }


def resident(pid):
    """Resident and private anonymous bytes of a process, by smaps_rollup."""
    fields = {}
    for line in _read(f"/proc/{pid}/smaps_rollup", "").split("\n"):
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            fields[words[0].rstrip(":")] = int(words[1]) * 1024
    return {"rss_bytes": fields.get("Rss"), "anonymous_bytes": fields.get("Anonymous")}
