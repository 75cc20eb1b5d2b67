"""The peers: what is measured, each with the same three verbs.

`checkpoint(pid, stop)` and `resume()` return a dictionary of figures: times in microseconds,
sizes in bytes, None where a peer has no such figure.
"""

import base64
import json
import os
import shutil
import struct
import subprocess
import time

from .errors import BenchError

COMMAND_TIMEOUT_S = 120
CRIU_STATS_MAGIC = (0x57093306).to_bytes(4, "little")
CRIU_DUMP_FIELDS = {1: "freezing_us", 2: "frozen_us", 3: "memdump_us", 4: "memwrite_us",
                    5: "pages_scanned", 7: "pages_written"}


def directory_bytes(path):
    """Sum of all file lengths below `path`; files that share their blocks count once."""
    seen, total = set(), 0
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def compressed(path):
    """Bytes of everything below `path` after zstd, by level; None where zstd is not installed."""
    sizes = {}
    for level in (1, 3):
        script = 'find "$1" -type f -print0 | sort -z | xargs -0 cat | zstd -q -"$2" -c | wc -c'
        ran = subprocess.run(["sh", "-c", script, "sh", path, str(level)], capture_output=True,
                             text=True, timeout=COMMAND_TIMEOUT_S)
        sizes[f"level_{level}_bytes"] = int(ran.stdout) if shutil.which("zstd") else None
    return sizes


def clear(path):
    """Empties a directory."""
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o700)


class Criu:
    """criu in the cell: everything is written while the program is frozen."""

    name = "criu"
    # What becomes of connections.
    tcp = ("--tcp-close",)

    def __init__(self, store):
        self.outside = os.path.join(store, self.name)
        self.inside = f"/run/bench/store/{self.name}"
        self.work = "/run/bench/work"

    def version(self, cell):
        """What `criu --version` says."""
        return cell.run(["criu", "--version"], 20).stdout.split("\n")[0].replace("Version: ", "")

    def prepare(self, cell):
        """Empties the store and makes the directory for logs and statistics."""
        clear(self.outside)
        _expect(cell.run(["mkdir", "-p", self.work], 20), "mkdir")

    def compressed(self):
        """What zstd makes of the images of the last checkpoint."""
        return compressed(self.outside)

    def _run(self, cell, verb, *arguments):
        ran = cell.run(["criu", verb, "--images-dir", self.inside, "--work-dir", self.work,
                        "--log-file", f"{verb}.log", "-v2", *self.tcp, *arguments],
                       COMMAND_TIMEOUT_S)
        if ran.status != 0:
            log = cell.run(["tail", "-n", "20", f"{self.work}/{verb}.log"], 20).stdout
            raise BenchError(f"criu {verb} failed with status {ran.status}\n{ran.stderr}{log}")
        return ran

    def checkpoint(self, cell, pid, stop):
        """`criu dump`, with --leave-running unless `stop`."""
        clear(self.outside)
        ran = self._run(cell, "dump", "--tree", str(pid), *([] if stop else ["--leave-running"]))
        stats = cell.run(["base64", f"{self.work}/stats-dump"], 20).stdout
        figures = decode_criu_stats(stats)
        return {
            "pause_us": figures["frozen_us"], "wall_us": ran.wall_us, "cpu_us": ran.cpu_us,
            "started_ns": ran.started_ns, "stored_bytes": directory_bytes(self.outside),
            "stored_files_bytes": directory_bytes(self.outside), "resident_bytes": None,
            "detail": figures,
        }

    def resume(self, cell):
        """`criu restore`, plain: all memory is read before the program runs."""
        ran = self._run(cell, "restore", "--restore-detached")
        return {"wall_us": ran.wall_us, "cpu_us": ran.cpu_us, "started_ns": ran.started_ns,
                "detail": {}}


class CriuLazy(Criu):
    """The same with a daemon that serves pages on demand, from the images."""

    name = "criu-lazy"

    def __init__(self, store):
        super().__init__(store)
        self.outside = os.path.join(store, self.name)
        self.inside = f"/run/bench/store/{self.name}"

    def resume(self, cell):
        """`criu lazy-pages` and `criu restore --lazy-pages`."""
        socket = f"{self.work}/lazy-pages.socket"
        script = ('images=$1 work=$2 socket=$3; shift 3; rm -f "$socket"; '
                  'criu lazy-pages --images-dir "$images" --work-dir "$work" '
                  '--log-file lazy-pages.log -v2 --daemon || exit 1; '
                  'while [ ! -S "$socket" ]; do sleep 0.001; done; '
                  'exec criu restore --images-dir "$images" --work-dir "$work" '
                  '--log-file restore.log -v2 --restore-detached --lazy-pages "$@"')
        ran = cell.run(["/bin/sh", "-c", script, "sh", self.inside, self.work, socket,
                        *self.tcp], COMMAND_TIMEOUT_S)
        if ran.status != 0:
            log = cell.run(["tail", "-n", "20", f"{self.work}/restore.log"], 20).stdout
            raise BenchError(f"criu restore failed with status {ran.status}\n{ran.stderr}{log}")
        return {"wall_us": ran.wall_us, "cpu_us": ran.cpu_us, "started_ns": ran.started_ns,
                "detail": {}}


class Rekindle:
    """rekindle in the cell, by its JSON contract (docs/ARCHITECTURE.md, the command line)."""

    name = "rekindle"

    def __init__(self, store, checkpoint_options, resume_options):
        self.outside = os.path.join(store, self.name)
        self.inside = f"/run/bench/store/{self.name}"
        self.checkpoint_options = checkpoint_options
        self.resume_options = resume_options
        self.id = None

    def version(self, cell):
        """What `rekindle --version` says."""
        said = cell.run(["/run/bench/rekindle", "--version"], 20).stdout.strip()
        return said.removeprefix("rekindle ")

    def prepare(self, cell):
        """Empties the store."""
        clear(self.outside)

    def compressed(self):
        """What zstd makes of the last checkpoint: nearly nothing, it is compressed already."""
        return compressed(self.outside)

    def _run(self, cell, *arguments):
        argv = ["/run/bench/rekindle", *arguments, "--store", self.inside, "--format", "json"]
        ran = cell.run(argv, COMMAND_TIMEOUT_S)
        try:
            answer = json.loads(ran.stdout)
        except ValueError:
            answer = {}
        if ran.status != 0 or not isinstance(answer, dict) or not answer:
            raise BenchError(f"rekindle {arguments[0]} failed with status {ran.status}\n"
                             f"{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return ran, answer

    def checkpoint(self, cell, pid, stop):
        """`rekindle checkpoint`, whole and not on top of an earlier one."""
        clear(self.outside)
        ran, answer = self._run(cell, "checkpoint", str(pid), *(["--stop"] if stop else []),
                                "--parent", "none", *self.checkpoint_options)
        self.id = answer["id"]
        return {
            "pause_us": answer["pause_us"], "wall_us": ran.wall_us, "cpu_us": ran.cpu_us,
            "started_ns": ran.started_ns, "stored_bytes": answer["stored_bytes"],
            "stored_files_bytes": directory_bytes(self.outside),
            "resident_bytes": answer["resident_bytes"],
            "copied_in_pause_bytes": answer["copied_in_pause_bytes"], "detail": answer,
        }

    def loaded(self, cell, instance):
        """Waits until all memory of a resumed or updated instance is there."""
        for _ in range(600):
            words = ["/run/bench/rekindle", "status", instance, "--format", "json"]
            shown = json.loads(cell.run(words, 20).stdout)
            if all(row["state"] == "complete" for row in shown.get("instances", [])):
                return
            time.sleep(0.1)
        raise BenchError(f"instance {instance} is not loaded after a minute")

    def resume(self, cell):
        """`rekindle resume --detach`, eager: all memory is read before the program runs."""
        ran, answer = self._run(cell, "resume", self.id, "--detach", *self.resume_options)
        return {"wall_us": ran.wall_us, "cpu_us": ran.cpu_us, "started_ns": ran.started_ns,
                "detail": answer}


def _expect(ran, what):
    if ran.status != 0:
        raise BenchError(f"{what} failed with status {ran.status}: {ran.stderr}")


def decode_criu_stats(text):
    """Reads the `dump` part of a stats image, given in base64."""
    data = base64.b64decode(text)
    at = data.find(CRIU_STATS_MAGIC)
    if at < 0:
        raise BenchError("criu's stats-dump is no stats image")
    (length,) = struct.unpack_from("<I", data, at + 4)
    entry = protobuf_fields(data[at + 8:at + 8 + length])
    if not isinstance(entry.get(1), bytes):
        raise BenchError("criu's stats-dump has no dump entry")
    dump = protobuf_fields(entry[1])
    return {name: dump.get(number) for number, name in CRIU_DUMP_FIELDS.items()}


def protobuf_fields(data):
    """Top-level fields of a protobuf message: varints as int, nested ones as bytes."""
    fields, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        kind, number = tag & 7, tag >> 3
        if kind == 0:
            fields[number] = varint()
        elif kind == 2:
            length = varint()
            fields[number] = data[at:at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise BenchError("not a protobuf message")
    return fields
